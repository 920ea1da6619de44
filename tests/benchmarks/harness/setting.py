"""What a benchmark is run with: the commands, the number of runs, the folders.

In: the command line of bench.py. Out: `Setting`, handed to every part.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .process import Launched
from .server import BenchError

RAM_DISK = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Setting:
    batcher: str  # the installed command
    batcher_python: str  # the interpreter that it is installed for
    peers_python: str
    runs: int
    quick: bool  # a tenth of the work: to try the harness, not to quote
    scales: tuple[int, ...]
    work: Path  # files, manifests and states; a disk, as the journal's syncs must cost what they cost

    @contextmanager
    def folder(self, name: str, on: Path | None = None) -> Iterator[Path]:
        """A fresh folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix=f"batcher-bench-{name}-", dir=on or self.work) as path:
            yield Path(path)

    def run_command(self, manifest: Path, url: str, state: Path, *flags: str, concurrency: int = 16) -> list[str]:
        limits = ["--concurrency", str(concurrency), *flags]
        return [self.batcher, "run", str(manifest), *self._where(url, state), *limits]

    def plan_command(self, manifest: Path, url: str, state: Path) -> list[str]:
        return [self.batcher, "plan", str(manifest), *self._where(url, state)]

    def status_command(self, manifest: Path, url: str, state: Path) -> list[str]:
        return [self.batcher, "status", str(manifest), *self._where(url, state)]

    @staticmethod
    def _where(url: str, state: Path) -> list[str]:
        return ["--endpoint", url, "--state", str(state), "--json", "--quiet"]


def find_batcher(given: str | None, python: str) -> str:
    """The command to measure: given, or beside the interpreter, or on the PATH. Raises BenchError if there is none."""
    beside = Path(python).with_name("batcher")
    found = shutil.which(given) if given else (str(beside) if beside.exists() else shutil.which("batcher"))
    if not found:
        raise BenchError(f"no such command: {given or 'batcher'} (install batcher, or name it with --batcher)")
    return str(Path(found).absolute())


def find_python(batcher: str) -> str:
    """The interpreter in the folder of the `batcher` command, as in every virtual environment."""
    beside = Path(batcher).with_name("python")
    if not beside.exists():
        raise BenchError(f"no interpreter beside {batcher}: name it with --batcher-python")
    return str(beside)


def free_memory_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def machine(setting: Setting) -> dict[str, str]:
    """What the figures depend on, without names or paths of the machine."""
    with setting.folder("version") as folder:
        launched = Launched([setting.batcher, "--version"], folder)
        launched.wait(60)
        version = (folder / "out").read_text().split()[-1]
    return {
        "batcher": version,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
    }
