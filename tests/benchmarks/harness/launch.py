"""Runs one command and writes what it cost: `python launch.py REPORT COMMAND...`; called by process.py only.

A process of its own because Linux hands the peak memory of a forking parent down to its child: measured from a
harness that has grown, every child would seem as large. The floor of what can be seen is this script's own 9 MiB.
"""

import json
import os
import sys
import time

report, *command = sys.argv[1:]
began_s = time.monotonic()
pid = os.posix_spawnp(command[0], command, os.environ)
_, status, usage = os.wait4(pid, 0)
ended_s = time.monotonic()
with open(report, "w") as file:
    json.dump(
        {
            "began_s": began_s,
            "wall_s": ended_s - began_s,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "rss_mib": usage.ru_maxrss / 1024,  # Linux counts it in KiB
            "exit_code": os.waitstatus_to_exitcode(status),
        },
        file,
    )
