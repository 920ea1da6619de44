"""Where what comes back is written."""
