"""Notifications of a run: to a service of pings, in the style of healthchecks, and to commands of the user's own.

In: `Notify` of the manifest, and a run's outcome and report. Out: requests and processes, each bounded in time; a sentence
for people where one of them failed. Called by the command line around a run. Nothing here changes an exit code, and nobody
is handed the API key: no ping carries it, and it is taken out of the hooks' environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..core.exit_codes import Outcome
from ..core.model import JSON, Hook, Notify

if TYPE_CHECKING:
    from .ping import Complain, Ping

HOOK_S: Final = 60.0  # for a command; then it and what it has started are ended
HOOK_GRACE_S: Final = 2.0  # between SIGTERM and SIGKILL
HOOK_BYTES: Final = 4_000  # of its output that are passed on, the last ones, if it fails
SECRETS: Final = ("GENERIO_API_KEY", "GENERIO_API_KEY_FILE")


def hook_of(notify: Notify, outcome: Outcome) -> tuple[str, Hook]:
    """The name and the command of the hook for this outcome."""
    hooks: dict[Outcome, Hook] = {
        "success": notify.on_success, "problem": notify.on_problem, "failure": notify.on_failure,
    }  # fmt: skip
    return f"on_{outcome}", hooks[outcome]


def hook_environment(
    inherited: Mapping[str, str], clean: Callable[[str], str], report: Mapping[str, JSON], more: Mapping[str, str]
) -> dict[str, str]:
    """What a hook finds: what batcher had, without the key in whatever variable it stands, and the counts of the report."""
    found = {name: value for name, value in inherited.items() if name not in SECRETS and clean(value) == value}
    for group in ("flows", "inputs", "outputs", "ends", "requests"):
        counts = report.get(group)
        if isinstance(counts, dict):
            found |= {f"BATCHER_{group}_{name}".upper(): str(value) for name, value in counts.items()}
    return {**found, **more}


async def run_hook(
    name: str, hook: str | tuple[str, ...], folder: str, env: Mapping[str, str], report: Mapping[str, JSON], complain: Complain
) -> None:
    """Run a hook in `folder` with the report in a file that it finds in BATCHER_REPORT. Its output is passed on if it fails."""
    words = ["/bin/sh", "-c", hook] if isinstance(hook, str) else list(hook)
    try:
        with tempfile.TemporaryDirectory(prefix="batcher-") as place:
            path = Path(place) / "report.json"
            path.write_text(json.dumps(report))  # in a folder that only its owner enters
            why, output = await _bounded(words, folder, {**env, "BATCHER_REPORT": str(path)})
    except OSError as error:
        why, output = f"cannot be run: {error.strerror or error}", b""
    if why:
        said = output.decode(errors="replace").strip()
        complain(f"notify.command.{name} {why}" + (f":\n{said}" if said else ""))


async def _bounded(words: list[str], folder: str, env: Mapping[str, str]) -> tuple[str, bytes]:
    """What is wrong ("" if nothing) and the end of its output."""
    loop = asyncio.get_running_loop()
    output = bytearray()
    # A pipe of our own: asyncio's would wait for everybody who holds its other end, and a hook may leave somebody behind.
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    loop.add_reader(reader, _keep_last, reader, output, loop)
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *words, cwd=folder, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=writer, stderr=writer,
                start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(writer)
        why = await _ended(process)
        _keep_last(reader, output, loop)
    finally:
        loop.remove_reader(reader)
        os.close(reader)
    return why, bytes(output)


async def _ended(process: asyncio.subprocess.Process) -> str:
    """Wait for it, within bounds; what is wrong with how it ended."""
    try:
        async with asyncio.timeout(HOOK_S):
            code = await process.wait()
        return f"ended with {code}" if code > 0 else f"was ended by signal {-code}" if code else ""
    except TimeoutError:
        return f"was ended after {HOOK_S:g} s"
    finally:
        if process.returncode is None:
            _end(process, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOOK_GRACE_S):
                    await process.wait()
            _end(process, signal.SIGKILL)
            await process.wait()


def _end(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)  # and all that it has started


def _keep_last(reader: int, output: bytearray, loop: asyncio.AbstractEventLoop) -> None:
    """Read what is there; the last bytes are kept."""
    for _ in range(100):  # a hook that never stops talking must not keep the loop
        try:
            piece = os.read(reader, 1 << 16)
        except BlockingIOError:
            return
        if not piece:
            loop.remove_reader(reader)  # nobody is left to write
            return
        output += piece
        del output[:-HOOK_BYTES]


class Notifier:
    """All notifications of one run. `clean` takes keys out of a text; `more` is for the hooks' environment."""

    def __init__(
        self, notify: Notify, folder: str, *, ca_file: str | None, inherited: Mapping[str, str], more: Mapping[str, str],
        clean: Callable[[str], str], complain: Complain,
    ) -> None:  # fmt: skip
        self._notify = notify
        self._folder = folder
        self._inherited = inherited
        self._more = more
        self._clean = clean
        self._complain = complain
        self._ping: Ping | None = None
        if notify.ping:
            from .ping import Ping  # aiohttp, which hooks do without

            self._ping = Ping(notify.ping, ca_file, complain)

    def begin(self) -> None:
        """The run has what it needs, and begins."""
        if self._ping is not None:
            self._ping.begin()

    async def end(self, outcome: Outcome, text: str, report: dict[str, JSON]) -> None:
        """The run has ended like this. Raises nothing but what a caller's cancelling does."""
        waiting: list[Any] = []
        if self._ping is not None:
            waiting.append(self._ping.end(outcome, self._clean(text)))
        name, hook = hook_of(self._notify, outcome)
        if hook is not None:
            more = {**self._more, "BATCHER_OUTCOME": outcome, "BATCHER_EXIT_CODE": str(report["exit_code"])}
            env = hook_environment(self._inherited, self._clean, report, more)
            waiting.append(run_hook(name, hook, self._folder, env, report, self._complain))
        if waiting:
            await asyncio.gather(*waiting)
