"""The machine: what the operating system gives, how the process starts, and where tests make it fail."""
