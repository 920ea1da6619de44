"""A command as a whole process: what it cost in seconds, CPU and memory.

In: a command, a folder for its output. Out: `Usage`. Called by every part.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .server import BenchError

LAUNCHER = Path(__file__).parent / "launch.py"
TIMEOUT_S = 900  # of one run; the slowest regular one takes about half a minute


@dataclass(frozen=True, slots=True)
class Usage:
    began_s: float  # of time.monotonic()
    wall_s: float
    cpu_s: float  # user and system, children included
    rss_mib: float  # the largest process of it at its peak
    exit_code: int


def environment() -> dict[str, str]:
    """Ours without proxies: nothing may stand between a client and the loopback."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "GENERIO_API_KEY": "bench"}


class Launched:
    """A command that runs; its output is in `folder`, as `out` and `err`."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.command, self.folder = list(command), folder
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(folder / "usage.json"), *self.command]
        with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
            self._process = subprocess.Popen(
                launcher,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(),
                start_new_session=True,  # so that a time-out ends the command and not only its launcher
            )

    def wait(self, timeout_s: float = TIMEOUT_S) -> Usage:
        """Raises BenchError if the command fails or takes longer than `timeout_s`."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise BenchError(f"took longer than {timeout_s:.0f} s: {self._said()}") from None
        usage = Usage(**json.loads((self.folder / "usage.json").read_text()))
        if usage.exit_code:
            raise BenchError(f"exit code {usage.exit_code}: {self._said()}")
        return usage

    def stop(self) -> None:
        """Ends the command if it still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _said(self) -> str:
        text = (self.folder / "err").read_text(errors="replace") + (self.folder / "out").read_text(errors="replace")
        return f"{' '.join(self.command)}\n{text[-2000:].strip()}"


def measure(command: Sequence[str], folder: Path) -> Usage:
    """Runs the command to its end. Raises BenchError if it fails."""
    launched = Launched(command, folder)
    try:
        return launched.wait()
    finally:
        launched.stop()
