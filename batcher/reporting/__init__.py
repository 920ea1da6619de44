"""Who is told of a run: the log, the progress on a terminal, metrics, hooks and pings."""
