"""After a run or a collect: whoever is to know how it went.

In: the manifest's `notify` and `metrics`, and the command's report or the error that ended it. Out: a line in the log, a
file of metrics, pings and hooks. Called by `interrupts`; `clean` and `abort`, which somebody watches, have only the log.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import BatcherError
from ..core.events import Events, Level
from ..core.exit_codes import about, code_of
from ..core.model import JSON, Manifest, Notify
from ..core.report import Report
from ..service.credentials import Mask
from ..version import __version__
from . import output

if TYPE_CHECKING:
    from ..reporting.notify import Notifier


@contextlib.contextmanager
def load_failed(events: Events, manifest: str) -> Iterator[None]:
    """A manifest that is wrong has its line in the log, too."""
    try:
        yield
    except SystemExit as end:  # it has said what is wrong
        code = end.code if isinstance(end.code, int) else 2
        events.emit("run_ended", "error", {"manifest": manifest, "exit_code": code, "message": "the manifest is wrong"})
        raise


class Afterwards:
    """Whoever is to know how the run went: the log, the file of metrics, pings and hooks. None of it changes the exit code."""

    def __init__(
        self, manifest: Manifest, events: Events, mask: Mask, command: str, *, notify: Notify | None = None,
        metrics: str | None = None, ca_file: str | None = None,
    ) -> None:  # fmt: skip
        self._manifest = manifest
        self._command = command
        self._metrics = metrics
        self._events = events
        self._mask = mask
        self._begun = time.monotonic()
        self._notifier: Notifier | None = None
        if notify is not None and notify != Notify():
            from ..reporting.notify import Notifier

            more = {"BATCHER_COMMAND": command, "BATCHER_MANIFEST": manifest.path, "BATCHER_BATCH": manifest.batch,
                    "BATCHER_ENDPOINT": manifest.endpoint}  # fmt: skip
            self._notifier = Notifier(notify, manifest.folder, ca_file=ca_file, inherited=os.environ, more=more,
                                      clean=mask, complain=self._complain)  # fmt: skip

    @classmethod
    def of(
        cls, manifest: Manifest, events: Events, mask: Mask, command: str, metrics: str | None, ca_file: str | None
    ) -> Afterwards:
        """With all whom the manifest names. `metrics`: the flag's file, instead of the manifest's."""
        path = os.path.abspath(metrics) if metrics is not None else manifest.metrics
        return cls(manifest, events, mask, command, notify=manifest.notify, metrics=path, ca_file=ca_file)

    def begin(self) -> None:
        """The run holds its journal, and begins."""
        manifest = self._manifest
        self._events.emit("run_begun", "info", {
            "manifest": manifest.path, "batch": manifest.batch, "endpoint": manifest.endpoint, "version": __version__,
            "command": self._command, "pid": os.getpid(),
        })  # fmt: skip
        if self._notifier is not None:
            self._notifier.begin()

    async def end(self, report: Report, failure: Exception | None) -> None:
        """The run has ended: as the report says, or with an error."""
        known = failure is None
        document = report.json()
        text = closing(report)
        if failure is not None:
            error = failure if isinstance(failure, BatcherError) else BatcherError(f"a bug in batcher: {failure!r}")
            failed = Report(report.manifest, report.endpoint, elapsed_s=time.monotonic() - self._begun)
            failed.end_with(error, self._mask)
            names = ("elapsed_s", "problems", "problems_total")
            document |= {name: failed.json()[name] for name in names} | {"exit_code": int(code_of(error))}
            text = f"batcher: {error}"
        code = document["exit_code"]
        assert isinstance(code, int)
        known_code = about(code)
        outcome = known_code.outcome if known_code is not None else "failure"
        level: Level = "error" if outcome == "failure" else "warning" if outcome == "problem" else "info"
        groups = ("flows", "inputs", "outputs", "ends", "requests") if known else ()
        counts: dict[str, JSON] = {name: document[name] for name in groups if name in document}
        said = {} if known else {"message": document["problems"][0]["message"]}  # type: ignore[index, call-overload]
        self._events.emit("run_ended", level, {
            "manifest": self._manifest.path, "command": self._command, "exit_code": code,
            "elapsed_s": document["elapsed_s"], **counts, "problems": document["problems_total"], **said,
        })  # fmt: skip
        if outcome is None:
            return  # another run is at work, and tells of itself
        if self._metrics is not None:
            self._write_metrics(self._metrics, document, known)
        if self._notifier is not None:
            await self._notifier.end(outcome, output.harmless(text), document)

    def _write_metrics(self, path: str, document: Mapping[str, JSON], known: bool) -> None:
        from ..reporting.metrics import write_metrics  # 60 ms that only they need who ask for it

        shown = document if known else {name: document[name] for name in ("exit_code", "elapsed_s")}
        if self._command == "collect":  # it does not look at inputs
            shown = {name: value for name, value in shown.items() if name != "inputs"}
        manifest = self._manifest
        where = (manifest.path, manifest.batch, manifest.endpoint)
        try:
            write_metrics(Path(path), self._command, *where, shown, time.time())
        except OSError as error:
            self._complain(f"the metrics {path} cannot be written: {error.strerror or error}")

    def _complain(self, text: str) -> None:
        output.say(self._mask(f"batcher: {text}"))
        self._events.emit("warning", "warning", {"message": text})


def closing(report: Report) -> str:
    """How a run went, as a mail of cron says it: its problems with their advice, and where the batch stands."""
    return "\n".join([*output.problem_lines(report), output.closing_line(report)])
