"""The list of a flow's outputs, as the service shows it at the flow's end.

In: a `Watched` flow. Out: a row for each output, or a problem. Made once for each collecting; called by `bringing`.
"""

from __future__ import annotations

from typing import Final

from ...core.collecting import End, Ids, end_of
from ...core.facts import EndFacts, OutputFacts, OutputState, SeeOutput
from ...core.remote import RemoteOutput
from ...core.retry import Call, Verdict
from ...core.tags import read_input_tag
from ...journal.ports import Journal
from ..requests import Requests
from .pacing import Deadline, FlowTurns
from .watched import CollectReporter, Watched

# While a flow at its end still shows outputs as being processed, or fewer than it has inputs: a list may lag behind.
RELIST_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)


class _OutputsTaken:
    """What an attempt at the list has shown. Rows are made at once: they stay, whatever comes of the attempt."""

    def __init__(self, journal: Journal, flow_id: str) -> None:
        self._journal = journal
        self._flow_id = flow_id
        self.busy = 0  # outputs that are still being processed
        self.ids = Ids()

    def take(self, output: RemoteOutput) -> None:
        self.ids.add(output.asset_id)
        self.busy += output.status in ("processing", "pending", "created")
        tag = read_input_tag(output.additional)
        state = OutputState.REFUSED if output.status in ("error", "failed") else OutputState.LISTED
        self._journal.post(SeeOutput(OutputFacts(self._flow_id, output.asset_id, tag and tag[0], state)))


class OutputList:
    def __init__(
        self, requests: Requests, journal: Journal, reporter: CollectReporter, turns: FlowTurns, deadline: Deadline
    ) -> None:
        self._requests = requests
        self._journal = journal
        self._reporter = reporter
        self._turns = turns
        self._deadline = deadline

    async def read(self, watched: Watched, end: EndFacts) -> bool:
        """Rows for all that the flow lists; False, with a problem said, where that cannot be had. Raises Stop."""
        completed = end_of(end.state) is End.COMPLETED
        # Only by the collect that is the first to see its end: later ones look once, and once more.
        patient = watched.end is None or end_of(watched.end.state) is not End.COMPLETED
        for number, pause_s in enumerate((*RELIST_S, 0.0)):
            found = await self._requests.ask_list(
                Call.OUTPUTS, lambda: _OutputsTaken(self._journal, watched.flow_id),
                lambda client, taken: client.outputs(watched.flow_id, taken.take),
            )  # fmt: skip
            if isinstance(found, Verdict):
                self._reporter.problem_from_verdict(watched, found, "its outputs cannot be listed")
                return False
            taken, listing = found
            watched.part = listing.why
            if number == len(RELIST_S):
                break
            left_s = self._deadline.left_s
            wait_s = pause_s if left_s is None else left_s
            # (One that is not whole does not become so by waiting.)
            few = completed and listing.whole and len(taken.ids.distinct()) < max(1, watched.facts.inputs) and not end.accepted
            if not taken.busy and not (few and (patient or number == 0) and wait_s > 0):
                break
            await self._turns.pause(pause_s if taken.busy else min(pause_s, wait_s))
        if watched.part:
            message = f"the list of the outputs of the flow {end.flow_id} is not whole: {watched.part}"
            self._reporter.problem(watched, "unsettled", message, "what it shows is collected; look at it on the service")
        return True
