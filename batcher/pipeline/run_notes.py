"""What a run, or a collect, has come to so far is noted in the journal, now and then.

In: the report and its measures. Out: `PutRun` records. Made once for each operation; kept going by `run` and by the public API.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..core.facts import PutRun
from ..journal.ports import Journal
from .ports import Clock
from .reporter import Reporter

MEASURES_S: Final = 30.0  # between two notes of what a run has measured: some 20 kB each


class RunNotes:
    """One run or collect, which begins now; a run that then collects is one."""

    def __init__(self, journal: Journal, reporter: Reporter, clock: Clock, command: str) -> None:
        self._journal = journal
        self._reporter = reporter
        self._clock = clock
        self._command = command
        self._began_at = clock.wall()
        self._noting: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """It is under way, or goes on."""
        self._noting = asyncio.ensure_future(self._note())

    def cancel(self) -> None:
        """No more of them."""
        if self._noting is not None:
            self._noting.cancel()

    def end(self) -> None:
        """It is over, and its report complete."""
        self.cancel()
        # Not awaited: what the run did is durable, and its outcome does not hang on what was measured. Closing writes it.
        self._post(ended=True)

    async def _note(self) -> None:
        """For those who look while the run is under way, and should it be killed."""
        pause_s = 1.0  # soon after it began, so that a look at the journal shows that there is a run
        while True:
            await self._clock.sleep(pause_s)
            self._post(ended=False)
            pause_s = MEASURES_S

    def _post(self, *, ended: bool) -> None:
        document = self._reporter.run_document(self._clock.steady(), ended=ended)
        document["command"] = self._command
        # The journal keeps the last runs that have sent something, and the last other one: a collect counts as one of these.
        sent = self._reporter.report.requests.sent if self._command == "run" else 0
        self._journal.post(PutRun(self._began_at, sent, document))
