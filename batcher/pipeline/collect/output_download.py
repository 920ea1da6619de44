"""One download, as often as it takes, into a part beside its place.

In: the row of an output. Out: a part that is whole and checked, or a problem. Made once for each collecting; called by
`fetching`.
"""

from __future__ import annotations

from typing import Final

from ...core.facts import OutputFacts
from ...core.output_check import Landed, Spoiled, not_made_by
from ...core.output_names import part_path
from ...core.remote import Arrived
from ...core.retry import Call, Fault, Reply, Verdict
from ..ports import BudgetPort, Client, Folder, Sink
from ..requests import Requests
from ..retries import Retries
from .watched import CollectReporter, Watched, kind_of

DOWNLOAD_BYTES: Final = 2 << 20  # what one download holds at most: pieces read, decoded and being written


class OutputDownload:
    def __init__(
        self, requests: Requests, folder: Folder, budget: BudgetPort, retries: Retries, reporter: CollectReporter
    ) -> None:
        self._requests = requests
        self._folder = folder
        self._budget = budget
        self._retries = retries
        self._reporter = reporter

    async def room(self) -> None:
        """Wait until one more download may be held; `end` gives it back."""
        await self._budget.take(DOWNLOAD_BYTES)

    def end(self) -> None:
        self._budget.give(DOWNLOAD_BYTES)

    async def bring(self, watched: Watched, row: OutputFacts) -> Landed | None:
        """Download it, as often as it takes; None, with a problem said, where it cannot be had. Raises Stop, Unplaceable,
        OSError."""
        attempt = 1
        while True:
            result = await self._attempt(watched, row)
            match result:
                case Landed():
                    return result
                case Spoiled() if attempt <= self._retries.most:
                    self._reporter.download_again()
                    await self._retries.pause(attempt)
                    attempt += 1
                case Spoiled():
                    message = f"{result.message}, {attempt} times"
                    self._reporter.output_failed(watched, row, "unsettled", message, "collect again later")
                    return None
                case Verdict():
                    kind, hint = kind_of(result)
                    self._reporter.output_failed(watched, row, kind, result.message, hint, result.status)
                    return None

    async def _attempt(self, watched: Watched, row: OutputFacts) -> Landed | Spoiled | Verdict:
        """One download to its end; a bad one leaves nothing behind."""
        part = part_path(row.place, row.flow_id, row.asset_id)
        sinks: list[Sink] = []

        async def request(client: Client) -> Landed | Spoiled | Reply | Fault:
            while sinks:
                sinks.pop().drop()
            sinks.append(self._folder.open(part))
            found = await client.output(row.flow_id, row.asset_id, sinks[0])
            if not isinstance(found, Arrived):
                return found
            landed = await sinks[0].close(found.declared)
            return landed if isinstance(landed, Spoiled) else not_made_by(watched.makes, landed.mime) or landed

        try:
            result: Landed | Spoiled | Verdict = await self._requests.ask(Call.OUTPUT, request)
            if isinstance(result, Landed):
                sinks.clear()
            return result
        finally:
            while sinks:
                sinks.pop().drop()
