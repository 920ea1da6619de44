"""The durable record of a manifest's progress at one endpoint."""
