"""Start-up: `batcher --help` and `import batcher` as whole processes, beside Python that does nothing.

In: the installed command. Out: one `Part`. Called by bench.py.
"""

from __future__ import annotations

import statistics

from .process import measure
from .results import Part, Target, spread
from .setting import Setting

RUNS = 20  # at least: a start is short and jitters
HELP, IMPORT, NOTHING = "batcher --help", "import batcher", "python -c pass"
WANTED_MS = {HELP: 120, IMPORT: 60}


def startup(setting: Setting) -> Part:
    commands = {
        NOTHING: [setting.batcher_python, "-c", "pass"],
        IMPORT: [setting.batcher_python, "-c", "import batcher"],
        HELP: [setting.batcher, "--help"],
    }
    wall_ms: dict[str, list[float]] = {name: [] for name in commands}
    rss_mib: dict[str, list[float]] = {name: [] for name in commands}
    with setting.folder("startup") as folder:
        for command in commands.values():
            measure(command, folder)  # the first start compiles modules and warms the cache
        for _ in range(5 if setting.quick else max(RUNS, setting.runs)):
            for name, command in commands.items():
                usage = measure(command, folder)
                wall_ms[name].append(1000 * usage.wall_s)
                rss_mib[name].append(usage.rss_mib)
    nothing_ms = statistics.median(wall_ms[NOTHING])
    part = Part("startup", "Start-up, whole processes", ["process", "ms", "over Python ms", "RSS MiB"])
    for name, walls in wall_ms.items():
        median_ms = statistics.median(walls)
        part.rows.append([name, spread(walls), f"{median_ms - nothing_ms:.0f}", f"{max(rss_mib[name]):.0f}"])
        if name in WANTED_MS:
            part.targets.append(Target.at_most(8, name, WANTED_MS[name], median_ms, " ms"))
    part.notes.append(f"{len(wall_ms[NOTHING])} starts each, by turns.")
    part.data = {"wall_ms": wall_ms}
    return part
