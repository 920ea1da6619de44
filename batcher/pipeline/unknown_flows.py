"""Flows of the batch on the service that the journal does not know: then a journal was lost, or a copy from before was put in
its place, and paying twice is near.

In: the service's list of flows. Out: leave to go on, a problem, or what is taken over (`adopt`). Made once for each run; called
by `run` before the first write, and by `plan`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.model import Problem
from ..core.remote import RemoteFlow
from ..core.retry import Verdict
from ..journal.ports import Journal, JournalView
from .adopt import Adoption
from .flow_list import FlowList, ListedFlows, newer_flows, no_list, not_whole, unknown_flows
from .list_proof import ADVICE, ListProof
from .reporter import Reporter
from .survey import Survey


def problem_of_list(
    batch: str, listed: ListedFlows, unknown: Sequence[RemoteFlow], newer: Sequence[RemoteFlow], *, checked: bool
) -> Problem | None:
    """Why the run may not begin, as far as the list of flows tells. `unknown`, `newer`: those on it that are not to be there.
    `checked`: the journal has been held against the list once before, and may only have grown old since."""
    if newer:
        first = newer[0]
        name = first.tag.flow if first.tag is not None else ""
        more = f" and {len(newer) - 1:,} more" if len(newer) > 1 else ""
        message = f"the journal is a copy from before: it does not know the flow {first.flow_id} (“{name}”){more}, made with it"
        hint = "put the newer journal back, or take the flows over with --adopt"
        return Problem("unsettled", message, hint, flow=name or None)
    if checked:
        return None
    if unknown:
        message = f"the journal knows nothing of it, but the service has {len(unknown)} flow(s) of the batch “{batch}”"
        hint = "put the journal back, or take them over with --adopt, or give this batch another name"
        return Problem("unsettled", message, hint)
    if not listed.listing.whole:
        message = f"{not_whole(listed)}; whether the batch was paid for before cannot be told"
        return Problem("unsettled", message, ADVICE)
    return None


def asks(found: Survey, *, checked: bool) -> bool:
    """Whether the list of flows has to be asked for before the first write. Once a journal was held against it this is for
    what makes flows only: what was made before is not paid for again by being finished."""
    return found.creates if checked else found.works


class UnknownFlows:
    """`adopt`: they are taken over, where they match."""

    def __init__(
        self, flow_list: FlowList, journal: Journal, proof: ListProof, adoption: Adoption, reporter: Reporter, batch: str,
        *, adopt: bool,
    ) -> None:  # fmt: skip
        self._flow_list = flow_list
        self._journal = journal
        self._proof = proof
        self._adoption = adoption
        self._reporter = reporter
        self._batch = batch
        self._adopt = adopt

    async def check(self, found: Survey) -> Survey | None:
        """Are there any? Then the run stops (None), or takes over what matches where that was asked for. What is left to do.
        Those of another journal are looked for once, and the first flow that is made has to show that the list may be believed
        (see `list_proof`); those that this journal itself has forgotten, each time that flows are to be made."""
        checked = await self._journal.look(lambda journal: journal.unknown_flows_checked)
        if not self._adopt and not asks(found, checked=checked):
            return found
        listed = await self._flow_list.read()
        if isinstance(listed, Verdict):
            raise no_list(listed)

        def look(journal: JournalView) -> tuple[list[RemoteFlow], list[RemoteFlow]]:
            return [] if checked and not self._adopt else unknown_flows(journal, listed), newer_flows(journal, listed)

        unknown, newer = await self._journal.look(look)
        stopping = ([], []) if self._adopt else (unknown, newer)
        problem = problem_of_list(self._batch, listed, *stopping, checked=checked and not self._adopt)
        if problem is not None:
            self._reporter.problem(problem)
            return None
        unknown += newer
        if not checked:
            # What is deleted before the first flow is made would be missing from the list after it.
            orphans = await self._journal.look(lambda journal: journal.orphans())
            before = None if unknown or orphans else listed
            self._proof.demand(before, frozenset(flow.flow_id for flow in unknown))
        return await self._adoption.adopt(unknown) if unknown else found
