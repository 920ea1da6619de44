"""Flows of the batch on the service that the journal does not know: then a journal was lost, and paying twice is near.

In: the service's list of flows. Out: leave to go on, a problem, or what is taken over (`adopt`). Made once for each run; called
by `run` before the first write, and by `plan`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.model import Problem
from ..core.remote import RemoteFlow
from ..core.retry import Verdict
from ..journal.ports import Journal
from .adopt import Adoption
from .flow_list import FlowList, ListedFlows, no_list, not_whole, unknown_flows
from .list_proof import ADVICE, ListProof
from .reporter import Reporter
from .survey import Survey


def problem_of_list(batch: str, listed: ListedFlows, unknown: Sequence[RemoteFlow]) -> Problem | None:
    """Why a journal that knows nothing may not begin, as far as the list of flows tells. `unknown`: those on it that are not
    to be there."""
    if unknown:
        message = f"the journal knows nothing of it, but the service has {len(unknown)} flow(s) of the batch “{batch}”"
        hint = "put the journal back, or take them over with --adopt, or give this batch another name"
        return Problem("unsettled", message, hint)
    if not listed.listing.whole:
        message = f"{not_whole(listed)}; whether the batch was paid for before cannot be told"
        return Problem("unsettled", message, ADVICE)
    return None


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
        """Once for each journal: are there any? Then the run stops (None), or takes over what matches where that was asked for.
        What is left to do. The first flow that is made has to show that the list may be believed: see `list_proof`."""
        checked = await self._journal.look(lambda journal: journal.unknown_flows_checked)
        if not self._adopt and (checked or not found.works):
            return found
        listed = await self._flow_list.read()
        if isinstance(listed, Verdict):
            raise no_list(listed)
        unknown = await self._journal.look(lambda journal: unknown_flows(journal, listed))
        problem = problem_of_list(self._batch, listed, [] if self._adopt else unknown)
        if problem is not None:
            self._reporter.problem(problem)
            return None
        if not checked:
            # What is deleted before the first flow is made would be missing from the list after it.
            orphans = await self._journal.look(lambda journal: journal.orphans())
            before = None if unknown or orphans else listed
            self._proof.demand(before, frozenset(flow.flow_id for flow in unknown))
        return await self._adoption.adopt(unknown) if unknown else found
