"""The sandbox as a process of its own: options, readiness line, a clean stop.

In: `ServeOptions`. Out: one line `sandbox: http://127.0.0.1:PORT` on stdout when it is ready, then nothing until SIGINT
or SIGTERM. Called by `python -m batcher.sandbox` and by the command `batcher sandbox`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .faults import Fault, load_faults, parse_fault
from .readings import Readings
from .server import Sandbox


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says, still as text where it is text. `port` 0: a free one."""

    folder: Path
    port: int = 0
    fault_texts: Sequence[str] = ()
    faults_file: Path | None = None
    reading_texts: Sequence[str] = ()
    keys: Sequence[str] = ()
    expired_keys: Sequence[str] = ()
    processing_s: float = 0.2
    max_data_bytes: int | None = None
    seed: int = 0
    quiet: bool = False

    def faults(self) -> list[Fault]:
        """Those of the command line, then those of the file. Raises FormatError and OSError."""
        from_file = load_faults(self.faults_file) if self.faults_file else []
        return [*map(parse_fault, self.fault_texts), *from_file]

    def readings(self) -> Readings:
        """Raises FormatError."""
        return Readings.parse(",".join(self.reading_texts))


def serve_forever(options: ServeOptions) -> None:
    """Serves until SIGINT or SIGTERM. Raises FormatError for options, OSError for a taken port or folder, and where there is
    no fcntl."""
    if importlib.util.find_spec("fcntl") is None:
        raise OSError("this system has no fcntl; on Windows, run it within WSL")
    asyncio.run(_serve(options))


async def _serve(options: ServeOptions) -> None:
    sandbox = Sandbox(
        options.folder,
        port=options.port,
        readings=options.readings(),
        faults=options.faults(),
        keys=options.keys,
        expired_keys=options.expired_keys,
        processing_s=options.processing_s,
        max_data_bytes=options.max_data_bytes,
        seed=options.seed,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with sandbox:
        print(f"sandbox: {sandbox.url}", flush=True)
        if not options.quiet:
            print(f"store: {options.folder}; stop with Ctrl-C", file=sys.stderr)
        await stop.wait()
