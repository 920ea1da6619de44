"""Whether another journal knows a manifest's flows as started: then it was renamed, and would be paid for again.

In: a manifest whose own journal knows nothing, another journal, the sources. Out: the name of the first such flow.
Synchronous, for a thread of its own; called by the public API before anything is written.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from ..core.facts import FileStat
from ..core.lifecycle import FlowState
from ..core.model import Flow, Input, Manifest
from ..journal.ports import JournalView
from .ports import Sources

STEP: Final = 500  # flows whose rows are asked for at once
LOOKED_AT: Final = 4  # inputs of a flow: one that is the same will do


def started_before(manifest: Manifest, journal: JournalView, sources: Sources) -> str | None:
    """The first flow that the journal knows by its name, as started, from the same content; None: there is none."""
    flows = (item for item in manifest.flows() if isinstance(item, Flow) and item.flow_id is None)
    while some := list(islice(flows, STEP)):
        known = journal.flows_named([flow.name for flow in some])
        for flow in some:
            facts = known.get(flow.name)
            paid = facts is not None and facts.state in (FlowState.STARTED, FlowState.STARTING)
            if paid and _same(flow, journal, sources):
                return flow.name
    return None


def _same(flow: Flow, journal: JournalView, sources: Sources) -> bool:
    """Whether one of the flow's first inputs was sent into it: by the outside of its file, else by its content."""
    asked: list[tuple[Input, FileStat]] = []
    for item in islice(flow.inputs(), LOOKED_AT):
        file_stat = sources.look(item) if isinstance(item, Input) else None
        if isinstance(item, Input) and isinstance(file_stat, FileStat):
            asked.append((item, file_stat))
    stats = {file_stat for item, file_stat in asked if item.source.stat_tells}
    digests: dict[int, set[bytes | None]] = {file_stat.size: set() for _, file_stat in asked}
    for row in journal.input_rows(flow.name):
        if row.stat in stats:
            return True
        if row.stat.size in digests:
            digests[row.stat.size].add(row.sha256)
    return any(digests[file_stat.size] and sources.digest(item) in digests[file_stat.size] for item, file_stat in asked)
