"""Rows of the database as facts, and facts as rows, in the order of the columns in `queries.sql`.

In: tuples as sqlite3 gives them, or frozen facts. Out: the other. A row that is not what was written raises JournalError; a
flow's row has a sum of its own for that. Called by the reader, the recovery and whatever writes records.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Any, Final, TypeAlias

from ..core.errors import JournalError
from ..core.facts import AttemptFacts, EndFacts, FileStat, FlowFacts, InputFacts, OutputFacts, OutputState, Remote
from ..core.lifecycle import FlowState, InputState
from ..core.output_names import path_digest

Row: TypeAlias = "tuple[Any, ...]"  # as sqlite3 gives it

RESTORE: Final = (
    "put back a copy from after its last run (an older one would pay again for what came since: the service's list shows "
    "that, and the run stops), or move it away and run --adopt"
)
INPUT_VALUES: Final = 12  # of one row: its flow's id, and what `input_facts` takes
_INPUT_STATES: Final = {state.value: state for state in InputState}
_NONE: Final = type(None)
_INPUT_TYPES: Final[tuple[Any, ...]] = (bytes, str, (bytes, _NONE), bytes, int, int, int, int, (float, _NONE), int, int)


def damaged(what: str) -> JournalError:
    return JournalError(f"the journal is damaged: {what}", RESTORE)


def advice(error: Exception) -> str:
    """What to do: of SQLite's errors, the operational ones are the disk's or the permissions' fault, not the file's."""
    if isinstance(error, OSError | sqlite3.OperationalError):
        return "free some space, check the disk and its permissions, then run again"
    return RESTORE


def flow_facts(row: Row) -> FlowFacts:
    """A flow's row; what was paid for hangs on it, so it has a sum of its own. Raises JournalError where it is damaged."""
    *values, sum_ = row
    if sum_ is not None and sum_ != _sum(tuple(values)):  # None: written before there were sums
        raise damaged("the row of a flow is not what was written")
    name, state, flow_id, generation, external, *rest = values
    return FlowFacts(name, FlowState(state), flow_id, generation, bool(external), *rest)


def flow_row(f: FlowFacts) -> tuple[object, ...]:
    values = (f.name, f.state.value, f.flow_id, f.generation, int(f.external), f.spec_digest, f.stat_digest, f.content,
              _real(f.settle_deadline), _real(f.start_after), f.inputs, f.size_bytes, _real(f.started_at),
              f.problem)  # fmt: skip
    return (*values, _sum(values))


def _real(value: float | None) -> float | None:
    """As SQLite gives it back: the sum is taken over the text of the values."""
    return None if value is None else float(value)


def _sum(values: tuple[object, ...]) -> int:
    return zlib.crc32(repr(values).encode(errors="surrogatepass"))


def input_facts(row: Row) -> InputFacts:
    """An input's row. No sum: whatever is wrong with it, the list does not match, and the flow is built anew."""
    key, state, sha256, spec_digest, size, mtime_ns, inode, tagged, settle_deadline, answered, resent = row
    if not all(map(isinstance, row, _INPUT_TYPES)) or state not in _INPUT_STATES:
        raise damaged("the row of an input is not what was written")
    file_stat = FileStat(size, mtime_ns, inode)
    return InputFacts(key, _INPUT_STATES[state], sha256, spec_digest, file_stat, bool(tagged), settle_deadline, bool(answered),
                      bool(resent))  # fmt: skip


def input_row(flow: int | None, f: InputFacts) -> tuple[object, ...]:
    """`flow`: the id of its flow's row."""
    file_stat = f.stat
    return (flow, f.key, f.state._value_, f.sha256, f.spec_digest, file_stat.size, file_stat.mtime_ns,
            file_stat.inode, f.tagged, f.settle_deadline, f.answered, f.resent)  # fmt: skip


def end_facts(row: Row) -> EndFacts:
    flow_id, flow, state, listed, remote, missing, accepted, reason, progress, seen_at, folder = row
    return EndFacts(flow_id, flow, state, bool(listed), Remote(remote), missing, bool(accepted), reason, progress, seen_at,
                    folder)  # fmt: skip


def end_row(e: EndFacts) -> tuple[object, ...]:
    return (e.flow_id, e.flow, e.state, e.listed, e.remote.value, e.missing, e.accepted, e.reason, e.progress, e.seen_at,
            e.folder)  # fmt: skip


def attempt_facts(row: Row) -> AttemptFacts:
    return AttemptFacts(*row)


def output_facts(row: Row) -> OutputFacts:
    flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode = row
    file_stat = FileStat(size, mtime_ns, inode)
    return OutputFacts(flow_id, asset_id, key, OutputState(state), source, place, path, sha256, file_stat)


def output_row(f: OutputFacts) -> tuple[object, ...]:
    file_stat = f.stat
    return (f.flow_id, f.asset_id, f.key, f.state.value, f.source, f.place, f.path, f.sha256, file_stat.size,
            file_stat.mtime_ns, file_stat.inode, path_digest(f.path) if f.path else None)  # fmt: skip
