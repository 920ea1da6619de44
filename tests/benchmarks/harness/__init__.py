"""The parts of the benchmark harness; `bench.py` beside this folder is the command, and `--help` its manual."""
