"""Start-up: commands that have little to do, as whole processes, beside Python that does nothing or imports two packages.

In: the installed command. Out: one `Part`. Called by bench.py. The batch is done when it is measured, with a server that then
has nothing to answer, so that `run`, `plan` and `status` are what they cost by themselves.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from .process import measure
from .results import Part, Target, spread
from .server import FlowsServer
from .setting import Setting
from .workload import KB, Work, make_files, write_manifest

RUNS = 20  # at least: a start is short and jitters
FILES = 8
HELP, IMPORT, NOTHING, PEER = "batcher --help", "import batcher", "python -c pass", "import aiohttp, yaml"
RUN, PLAN, STATUS = "batcher run, nothing to do", "batcher plan, nothing to do", "batcher status"
WANTED_MS = {HELP: 120, IMPORT: 60, RUN: 220, PLAN: 220, STATUS: 220}


def startup(setting: Setting) -> Part:
    with setting.folder("startup") as folder, FlowsServer() as server:
        commands = _commands(setting, folder, server.url)
        measure(commands[RUN], folder)  # the batch is done from here on
        Work(FILES, 1, KB).check(server.stats(), "batcher")
        walls, cpus, rss = _measured(setting, folder, commands)
    part = Part("startup", "Start-up, whole processes", ["process", "ms", "CPU ms", "of the import", "RSS MiB"])
    for name in commands:
        of_peer = statistics.median(mine / peer for mine, peer in zip(cpus[name], cpus[PEER], strict=True))
        part.rows.append([name, spread(walls[name]), spread(cpus[name]), f"{of_peer:.2f}", f"{max(rss[name]):.0f}"])
        if name in WANTED_MS:
            part.targets.append(Target.at_most(8, name, WANTED_MS[name], statistics.median(walls[name]), " ms"))
    part.notes.append(f"{len(walls[NOTHING])} starts each, by turns; the ratio is of CPU, to `{PEER}` in the same round.")
    part.data = {"wall_ms": walls, "cpu_ms": cpus}
    return part


def _commands(setting: Setting, folder: Path, url: str) -> dict[str, list[str]]:
    (folder / "files").mkdir()
    make_files(folder / "files", KB, FILES)
    manifest, state = write_manifest(folder, flow_per_file=False), folder / "state"
    return {
        NOTHING: [setting.batcher_python, "-c", "pass"],
        PEER: [setting.batcher_python, "-c", PEER],
        IMPORT: [setting.batcher_python, "-c", "import batcher"],
        HELP: [setting.batcher, "--help"],
        RUN: setting.run_command(manifest, url, state),
        PLAN: setting.plan_command(manifest, url, state),
        STATUS: setting.status_command(manifest, url, state),
    }


def _measured(
    setting: Setting, folder: Path, commands: dict[str, list[str]]
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds, those of the processor, and MiB, of each command in each round."""
    walls, cpus, rss = ({name: list[float]() for name in commands} for _ in range(3))
    for command in commands.values():
        measure(command, folder)  # the first start compiles modules and warms the cache
    for _ in range(5 if setting.quick else max(RUNS, setting.runs)):
        for name, command in commands.items():
            usage = measure(command, folder)
            walls[name].append(1000 * usage.wall_s)
            cpus[name].append(1000 * usage.cpu_s)
            rss[name].append(usage.rss_mib)
    return walls, cpus, rss
