"""Reports of a run to people and machines: the log, the progress on a terminal, metrics, hooks and pings."""
