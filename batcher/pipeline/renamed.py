"""Whether another journal knows a manifest's flows, or its files: then it was renamed, and would be paid for again.

In: a manifest whose own journal knows nothing, another journal, the sources. Out: the first flow of it that was sent before.
Synchronous; called by `known_elsewhere` before anything is written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from ..core.facts import FileStat, FlowFacts
from ..core.lifecycle import FlowState
from ..core.model import Flow, Input, Manifest
from ..core.tags import flow_spec_digest
from ..journal.ports import JournalView
from .ports import Sources

STEP: Final = 500  # flows whose rows are asked for at once
LOOKED_AT: Final = 4  # inputs of a flow: one that is the same will do
SAMPLE: Final = 1000  # flows of the manifest that are held against those of other names


@dataclass(frozen=True, slots=True)
class SentBefore:
    """A flow as the other journal calls it. `maybe_paid`: it is paid for, or may be; else it waits on the service."""

    name: str
    maybe_paid: bool


def sent_before(
    manifest: Manifest, journal: JournalView, sources: Sources, *, paid_for: bool = False
) -> SentBefore | None:  # fmt: skip
    """The first flow that the journal knows from the same content: by its name, or, where the names have changed too, among
    those with the same template, parameters and `additional`. None: there is none. `paid_for`: only one that is, by its
    name."""
    flows = (item for item in manifest.flows() if isinstance(item, Flow) and item.flow_id is None)
    sample: list[Flow] = []
    while some := list(islice(flows, STEP)):
        known = journal.flows_named([flow.name for flow in some])
        for flow in some:
            facts = known.get(flow.name)
            if facts is None or not _sent(facts) or (paid_for and not facts.maybe_paid):
                continue
            if _Looked([flow], sources).went_into(flow.name, journal):
                return _found(facts)
        sample += some[: SAMPLE - len(sample)]
    return None if paid_for else _under_another_name(sample, journal, sources)


def _under_another_name(sample: list[Flow], journal: JournalView, sources: Sources) -> SentBefore | None:
    alike: defaultdict[bytes, list[Flow]] = defaultdict(list)
    for flow in sample:
        alike[flow_spec_digest(flow.template, flow.parameters, flow.additional)].append(flow)
    looked = {digest: _Looked(flows, sources) for digest, flows in alike.items()}
    for facts in journal.flows():
        if _sent(facts) and facts.spec_digest in looked and looked[facts.spec_digest].went_into(facts.name, journal):
            return _found(facts)
    return None


def _sent(facts: FlowFacts) -> bool:
    return facts.state is not FlowState.PLANNED and not facts.external


def _found(facts: FlowFacts) -> SentBefore:
    return SentBefore(facts.name, facts.maybe_paid)


class _Looked:
    """The first inputs of some flows, as they are now."""

    def __init__(self, flows: Sequence[Flow], sources: Sources) -> None:
        self._sources = sources
        self._stats: set[FileStat] = set()
        self._of_size: defaultdict[int, list[Input]] = defaultdict(list)
        self._digests: dict[int, set[bytes]] = {}  # by size; read where a row has it
        for item in (item for flow in flows for item in islice(flow.inputs(), LOOKED_AT)):
            file_stat = sources.look(item) if isinstance(item, Input) else None
            if isinstance(item, Input) and isinstance(file_stat, FileStat):
                self._of_size[file_stat.size].append(item)
                if item.source.stat_tells:
                    self._stats.add(file_stat)

    def went_into(self, name: str, journal: JournalView) -> bool:
        """Whether one of them was sent into this flow: by its file's stat, else by its content."""
        return any(row.stat in self._stats for row in journal.input_rows(name)) or any(
            row.sha256 in self._of(row.stat.size) for row in journal.input_rows(name)
        )

    def _of(self, size: int) -> set[bytes]:
        """Digests of those of this size."""
        if size in self._of_size and size not in self._digests:
            digests = map(self._sources.digest, self._of_size[size])
            self._digests[size] = {digest for digest in digests if isinstance(digest, bytes)}
        return self._digests.get(size, set())
