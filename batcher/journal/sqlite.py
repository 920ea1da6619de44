"""The journal in SQLite: what is durable of a manifest's progress at one endpoint.

In: `Record`s from the stages. Out: rows, read back when a run begins. The loop itself writes the rows, and a thread waits
for the disk: a thread that also wrote them took turns with the loop at the interpreter's lock, and that cost three times
what the rows do. Whatever has gathered while the disk was waited for is committed together, so that sixteen waiting
workers cost one fsync. Beside the database lies a small mapped file, the sent marks: which announced requests have really
left. It survives kill -9, since the kernel holds its pages, and is trusted only while the machine has not been started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import secrets
import sqlite3
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from ..core.collecting import Step, step
from ..core.errors import JournalError, Locked, UsageError
from ..core.facts import (
    RUNS_KEPT,
    WATCH_S,
    AddOrphan,
    ClearOrphan,
    EndFacts,
    FileStat,
    FlowFacts,
    ForgetInputs,
    InputFacts,
    LetGo,
    OutputFacts,
    OutputState,
    PutEnd,
    PutFlow,
    PutInput,
    PutOutput,
    PutRun,
    PutTimes,
    Record,
    Remote,
    SeeOutput,
    UnknownFlowsChecked,
    Watch,
)
from ..core.lifecycle import FlowState, InputState
from ..core.measuring import FlowTimes
from ..core.model import JSON
from ..core.output_names import spot
from ..core.tags import KEY_BYTES, flow_key
from ..host.failpoint import failpoint
from ..host.process import NOT_YOURS, is_journal
from ..host.system import allocate, boot, lock, to_disk, uptime

MIGRATIONS: Final = (
    """
    CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE flows(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, state TEXT NOT NULL, flow_id TEXT, build INTEGER NOT NULL,
        given INTEGER NOT NULL, meaning BLOB NOT NULL, quick BLOB NOT NULL, content BLOB NOT NULL, until REAL,
        not_before REAL, inputs INTEGER NOT NULL, size_bytes INTEGER NOT NULL, started_at REAL, problem TEXT);
    CREATE TABLE inputs(
        flow INTEGER NOT NULL REFERENCES flows(id), key BLOB NOT NULL, state TEXT NOT NULL, sha256 BLOB,
        meaning BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
        tagged INTEGER NOT NULL, until REAL, answered INTEGER NOT NULL, PRIMARY KEY(flow, key)) WITHOUT ROWID;
    CREATE TABLE litter(flow_id TEXT PRIMARY KEY, flow TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE flow_times(
        flow INTEGER PRIMARY KEY REFERENCES flows(id), begun REAL, opened REAL, first_upload REAL, last_upload REAL,
        verified REAL, started REAL);
    CREATE TABLE runs(began REAL PRIMARY KEY, requests INTEGER NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    ALTER TABLE inputs ADD COLUMN again INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE flows ADD COLUMN sum INTEGER
    """,
    """
    CREATE TABLE ends(
        flow_id TEXT PRIMARY KEY, flow TEXT NOT NULL, state TEXT NOT NULL, listed INTEGER NOT NULL,
        remote TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE outputs(
        flow_id TEXT NOT NULL, asset_id TEXT NOT NULL, key BLOB, state TEXT NOT NULL, source TEXT NOT NULL,
        place TEXT NOT NULL, path TEXT NOT NULL, sha256 BLOB, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL, spot BLOB, PRIMARY KEY(flow_id, asset_id)) WITHOUT ROWID;
    CREATE INDEX outputs_by_key ON outputs(flow_id, key);
    CREATE INDEX outputs_by_spot ON outputs(spot) WHERE spot IS NOT NULL;
    """,
    # In the order in which they come, for rows that stand in the order of their keys cost twice as much to write.
    """
    CREATE TABLE rows(
        id INTEGER PRIMARY KEY, flow INTEGER NOT NULL REFERENCES flows(id), key BLOB NOT NULL, state TEXT NOT NULL,
        sha256 BLOB, meaning BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
        tagged INTEGER NOT NULL, until REAL, answered INTEGER NOT NULL, again INTEGER NOT NULL DEFAULT 0, UNIQUE(flow, key));
    INSERT INTO rows(flow, key, state, sha256, meaning, size, mtime_ns, inode, tagged, until, answered, again)
        SELECT flow, key, state, sha256, meaning, size, mtime_ns, inode, tagged, until, answered, again FROM inputs;
    DROP TABLE inputs;
    ALTER TABLE rows RENAME TO inputs
    """,
    # What counted as collected with fewer outputs than inputs is looked at again.
    """
    ALTER TABLE ends ADD COLUMN missing INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE ends ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE ends ADD COLUMN reason TEXT NOT NULL DEFAULT '';
    UPDATE ends SET listed=0 WHERE state='completed' AND remote='kept' AND
        (SELECT count(*) FROM outputs o WHERE o.flow_id=ends.flow_id)
        < (SELECT inputs FROM flows f WHERE f.name=ends.flow AND f.flow_id=ends.flow_id)
    """,
)
_LET_GO: Final = "let go "  # before the id of a flow
PAGE: Final = 500  # rows that one statement reads of a long table
LINGER_S: Final = 0.05  # what nobody waits for may stay unwritten so long; what somebody waits for, not at all
ROWS: Final = 64  # per statement: 768 values, SQLite takes 999 in its older builds
COMMIT_ROWS: Final = 1024  # enough for one commit: some 15 ms of the loop's time
CHECKPOINT_ROWS: Final = 2000  # between two checkpoints: a log of 16 MB at most, for a row touches two pages
BUSY_MS: Final = 3000  # the loop waits so long where somebody else holds the database
SLOTS: Final = 4096  # requests that have left and whose outcome is not durable yet; far above any concurrency
_BOOT: Final = 48
_HEAD: Final = 64  # the boot's name, how many commits there were, how many are on the disk (8 bytes each), then the slots
_FLOW_COLUMNS: Final = (
    "name, state, flow_id, build, given, meaning, quick, content, until, not_before, inputs, size_bytes, "
    "started_at, problem, sum"
)
_INPUT_COLUMNS: Final = "key, state, sha256, meaning, size, mtime_ns, inode, tagged, until, answered, again"
_PUT_FLOW: Final = (
    f"INSERT INTO flows({_FLOW_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT(name) DO UPDATE SET "
    + ", ".join(f"{c}=excluded.{c}" for c in _FLOW_COLUMNS.split(", ")[1:])
)
_INPUT_VALUES: Final = 12
_INTO_INPUTS: Final = f"INSERT INTO inputs(flow, {_INPUT_COLUMNS}) VALUES"
_INPUT_ROW: Final = "(?,?,?,?,?,?,?,?,?,?,?,?)"
_AS_IT_IS: Final = " ON CONFLICT(flow, key) DO UPDATE SET " + ", ".join(
    f"{c}=excluded.{c}" for c in _INPUT_COLUMNS.split(", ")[1:]
)
_PUT_INPUT: Final = _INTO_INPUTS + _INPUT_ROW + _AS_IT_IS
_PUT_INPUTS: Final = _INTO_INPUTS + ",".join([_INPUT_ROW] * ROWS) + _AS_IT_IS
_TIMES: Final = "begun, opened, first_upload, last_upload, verified, started"
_OLD_RUNS: Final = f"""
    DELETE FROM runs WHERE began NOT IN (SELECT began FROM runs ORDER BY began DESC LIMIT {RUNS_KEPT})
    OR requests=0 AND began < (SELECT max(began) FROM runs)"""
_END_COLUMNS: Final = "flow_id, flow, state, listed, remote, missing, accepted, reason"
_OUTPUT_COLUMNS: Final = "flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode"
_PUT_OUTPUT: Final = f"INTO outputs({_OUTPUT_COLUMNS}, spot) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)"
_SEE_OUTPUT: Final = (
    f"INSERT {_PUT_OUTPUT} ON CONFLICT(flow_id, asset_id) DO UPDATE SET state=excluded.state WHERE state!='collected'"
)
_PUT_WATCH: Final = (  # the latest of all
    "INSERT INTO meta VALUES('watch_until', ?) ON CONFLICT(name) DO UPDATE SET value=max(value, excluded.value)"
)
_OF_FLOW: Final = "flow=(SELECT id FROM flows WHERE name=?)"
_ON_SERVICE: Final = "(again OR state IN ('sending', 'accepted', 'unknown'))"


_Waiters: TypeAlias = "Sequence[asyncio.Future[None]]"
_Item = tuple[tuple[Record, ...], "asyncio.Future[None] | None"]  # records, and who waits for them


def _boot() -> bytes | None:
    """A name for the time since the machine was started; sent marks from before it say nothing. None: not known."""
    name = boot()
    return None if name is None else name.ljust(_BOOT, b"\0")[:_BOOT]


def read_sent_marks(path: Path) -> frozenset[bytes] | None:
    """What the file of sent marks tells of the process that wrote it last. None: nothing is known."""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        if len(content) == _HEAD + SLOTS * KEY_BYTES and content[:_BOOT] == _boot():
            keys = (content[start : start + KEY_BYTES] for start in range(_HEAD, len(content), KEY_BYTES))
            return frozenset(keys) - {bytes(KEY_BYTES)}
    return None


def is_held(path: Path) -> bool | None:
    """Whether a process holds the journal. None: it cannot be told."""
    try:
        held = os.open(path.with_suffix(".lock"), os.O_RDONLY)
    except OSError:
        return None
    try:
        lock(held, shared=True)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(held)  # which lets go of it
    return False


class SentMarks:
    """The mapped file. `mark` before the last byte leaves, `clear` once the outcome is durable."""

    def __init__(self, path: Path) -> None:
        size = _HEAD + SLOTS * KEY_BYTES
        boot = _boot() or secrets.token_bytes(_BOOT)  # unknown: never equal, so all that was announced counts as left
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            known = os.fstat(fd).st_size == size
            allocate(fd, size)
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._same_boot = known and self._map[:_BOOT] == boot
        self.left = read_sent_marks(path) if self._same_boot else None  # None: nothing is known
        self._boot = boot
        self._of: dict[bytes, int] = {}
        self._free = list(range(SLOTS - 1, -1, -1))

    @property
    def commits(self) -> int:
        """How many commits the journal must have: it is damaged where it knows of fewer. What was not on the disk yet when
        the machine went down is rightly gone."""
        start = _BOOT if self._same_boot else _BOOT + 8
        return int.from_bytes(self._map[start : start + 8], "big")

    def committed(self, count: int) -> None:
        self._map[_BOOT : _BOOT + 8] = count.to_bytes(8, "big")

    def synced(self, count: int) -> None:
        self._map[_BOOT + 8 : _HEAD] = count.to_bytes(8, "big")

    def begin(self) -> None:
        """Forget what an earlier process left; called once that is durable in the journal."""
        self._map[:_BOOT] = bytes(_BOOT)  # while it is half-written it says nothing
        self._map[_HEAD:] = bytes(SLOTS * KEY_BYTES)
        self._map[:_BOOT] = self._boot

    def mark(self, key: bytes) -> None:
        if key in self._of:
            return
        if not self._free:
            self._map[:_BOOT] = bytes(_BOOT)  # more than can be told: from now on the file says nothing
            return
        index = self._of[key] = self._free.pop()
        start = _HEAD + index * KEY_BYTES
        self._map[start : start + KEY_BYTES] = key

    def clear(self, key: bytes) -> None:
        index = self._of.pop(key, None)
        if index is not None:
            start = _HEAD + index * KEY_BYTES
            self._map[start : start + KEY_BYTES] = bytes(KEY_BYTES)
            self._free.append(index)

    def close(self) -> None:
        self._map.close()


class _Reader:
    """Reading; what `JournalView` asks for. Any thread may ask, any number at a time.

    There is one connection for all of them, and one place that uses it: `_ask`. It holds a lock from the statement to its
    last row, so no cursor is open when it returns, and nobody can step through rows that another thread's statement has
    replaced. (Two threads on one connection get each other's rows: CPython 3.12 and 3.13 keep a statement for both.)
    Long tables are walked a page at a time, so that nothing is held but the page, and other threads get their turn."""

    _may_have_orphans = True  # False: there is surely none, and each flow that is opened asks

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.__connection = connection
        self.__turn = threading.Lock()

    def _ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of one statement. Raises JournalError."""
        try:
            with self.__turn:
                return self.__connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"the journal cannot be read: {error}", _advice(error)) from error

    def _ask_one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        """The first row; None where there is none."""
        rows = self._ask(sql, *values)
        return rows[0] if rows else None

    def _close_reader(self) -> None:
        with self.__turn:
            self.__connection.close()

    def _meta(self, name: str) -> object:
        row = self._ask_one("SELECT value FROM meta WHERE name=?", name)
        return None if row is None else row[0]

    @property
    def owner(self) -> str:
        return str(self._meta("owner"))

    @property
    def about(self) -> dict[str, str]:
        """The manifest's path, endpoint and batch. Empty in a journal that an older batcher wrote."""
        return dict(json.loads(str(self._meta("about") or "{}")))

    @property
    def watch_until(self) -> float:
        try:
            return float(str(self._meta("watch_until") or 0))
        except ValueError:
            raise _damaged("a time in it is none") from None

    @property
    def unknown_flows_checked(self) -> bool:
        return self._meta("strangers_checked") is not None

    def flow(self, name: str) -> FlowFacts | None:
        row = self._ask_one(f"SELECT {_FLOW_COLUMNS} FROM flows WHERE name=?", name)
        return None if row is None else _flow(row)

    def was_let_go(self, flow_id: str) -> bool:
        return self._meta(_LET_GO + flow_id) is not None

    def name_of(self, flow_id: str) -> str | None:
        row = self._ask_one("SELECT name FROM flows WHERE flow_id=?", flow_id)
        return None if row is None else str(row[0])

    def some_flow_ids(self, count: int) -> Sequence[str]:
        gone = "EXISTS (SELECT 1 FROM ends e WHERE e.flow_id=f.flow_id AND e.remote!='kept')"
        there = f"SELECT flow_id FROM flows f WHERE flow_id IS NOT NULL AND NOT {gone} ORDER BY id"
        ends = (f"{there} {order} LIMIT ?" for order in ("ASC", "DESC"))
        return list(dict.fromkeys(str(row[0]) for sql in ends for row in self._ask(sql, count)))

    def flows(self) -> Iterator[FlowFacts]:
        last = 0
        while page := self._ask(f"SELECT id, {_FLOW_COLUMNS} FROM flows WHERE id>? ORDER BY id LIMIT {PAGE}", last):
            last = page[-1][0]
            for row in page:
                yield _flow(row[1:])

    def inputs(self, flow: str, keys: Sequence[bytes]) -> Mapping[bytes, InputFacts]:
        found: dict[bytes, InputFacts] = {}
        for start in range(0, len(keys), PAGE):  # SQLite takes 999 variables in its older builds
            part = keys[start : start + PAGE]
            marks = ",".join("?" * len(part))
            for row in self._ask(
                f"SELECT {_INPUT_COLUMNS} FROM inputs WHERE {_OF_FLOW} AND key IN ({marks})", flow, *part
            ):
                found[row[0]] = _input(row)
        return found

    def input_rows(self, flow: str) -> Iterator[InputFacts]:
        return self._input_rows(flow)

    def _input_rows(self, flow: str, which: str = "1") -> Iterator[InputFacts]:
        sql = f"SELECT {_INPUT_COLUMNS} FROM inputs WHERE {_OF_FLOW} AND {which} {{}} ORDER BY key LIMIT {PAGE}"
        page = self._ask(sql.format(""), flow)
        while page:
            yield from map(_input, page)
            page = self._ask(sql.format("AND key>?"), flow, page[-1][0]) if len(page) == PAGE else []

    def orphans(self, flow: str | None = None) -> Sequence[tuple[str, str]]:
        if not self._may_have_orphans:
            return []
        which, values = ("1", ()) if flow is None else ("flow=?", (flow,))
        rows = self._ask(f"SELECT flow_id, flow FROM litter WHERE {which} ORDER BY flow_id", *values)
        return [(row[0], row[1]) for row in rows]

    def end(self, flow_id: str) -> EndFacts | None:
        row = self._ask_one(f"SELECT {_END_COLUMNS} FROM ends WHERE flow_id=?", flow_id)
        return None if row is None else _end(row)

    def bad_ends(self) -> Mapping[str, EndFacts]:
        """By its id on the service: each flow that failed or was aborted. Empty in a journal that an older batcher wrote."""
        if not self._ask("SELECT 1 FROM pragma_table_info('ends') WHERE name='reason'"):
            return {}
        ends = map(_end, self._ask(f"SELECT {_END_COLUMNS} FROM ends WHERE state!='completed'"))
        return {end.flow_id: end for end in ends if step(end.state) is Step.FETCH_APART}

    def outputs(self, flow_id: str, after: str = "", limit: int = 500) -> Sequence[OutputFacts]:
        sql = f"SELECT {_OUTPUT_COLUMNS} FROM outputs WHERE flow_id=? AND asset_id>? ORDER BY asset_id LIMIT ?"
        return [_output(row) for row in self._ask(sql, flow_id, after, limit)]

    def outputs_of(self, flow_id: str, keys: Sequence[bytes]) -> Sequence[OutputFacts]:
        found: list[OutputFacts] = []
        for start in range(0, len(keys), PAGE):
            part = keys[start : start + PAGE]
            marks = ",".join("?" * len(part))
            sql = f"SELECT {_OUTPUT_COLUMNS} FROM outputs WHERE flow_id=? AND key IN ({marks}) ORDER BY asset_id"
            found += [_output(row) for row in self._ask(sql, flow_id, *part)]
        return found

    def output_at(self, path: str) -> OutputFacts | None:
        row = self._ask_one(f"SELECT {_OUTPUT_COLUMNS} FROM outputs WHERE spot=?", spot(path))
        return None if row is None else _output(row)

    def collected(self) -> Iterator[FileStat]:
        if not self._has("outputs"):  # an older batcher's journal has none
            return
        sql = ("SELECT size, mtime_ns, inode, flow_id, asset_id FROM outputs WHERE (flow_id, asset_id) > (?, ?) AND "
               f"state='collected' ORDER BY flow_id, asset_id LIMIT {PAGE}")  # fmt: skip
        last = "", ""
        while page := self._ask(sql, *last):
            last = page[-1][3:]
            yield from (FileStat(*row[:3]) for row in page)

    def count_flows(self) -> int:
        return int(self._ask("SELECT count(*) FROM flows")[0][0])

    def count_inputs(self, flow: str) -> int:
        return int(self._ask(f"SELECT count(*) FROM inputs WHERE {_OF_FLOW} AND {_ON_SERVICE}", flow)[0][0])

    def tallies(self) -> Mapping[str, Mapping[InputState, tuple[int, int]]]:
        """By flow and state of its inputs: how many, and how many bytes. In one walk over the journal."""
        found: dict[str, dict[InputState, tuple[int, int]]] = {}
        sql = "SELECT f.name, i.state, count(*), sum(i.size) FROM inputs i JOIN flows f ON f.id=i.flow GROUP BY i.flow, i.state"
        for name, state, count, size in self._ask(sql):
            found.setdefault(name, {})[InputState(state)] = (count, size)
        return found

    def flow_times(self) -> Mapping[str, FlowTimes]:
        """By flow: when it passed its stations. Empty in a journal that an older batcher wrote."""
        if not self._has("flow_times"):
            return {}
        sql = f"SELECT f.name, {_TIMES} FROM flow_times t JOIN flows f ON f.id=t.flow"
        return {row[0]: FlowTimes(*row[1:]) for row in self._ask(sql)}

    def runs(self) -> Sequence[tuple[float, Mapping[str, JSON]]]:
        """The last runs, the latest first: when it began (wall-clock seconds), and its document as `run_document` makes it."""
        if not self._has("runs"):
            return []
        return [(row[0], json.loads(row[1])) for row in self._ask("SELECT began, document FROM runs ORDER BY began DESC")]

    def _has(self, table: str) -> bool:
        return bool(self._ask("SELECT 1 FROM sqlite_master WHERE type='table' AND name=?", table))


def _flow(row: tuple) -> FlowFacts:  # type: ignore[type-arg]  # a row as sqlite3 gives it
    """A flow's row; what was paid for hangs on it, so it has a sum of its own. Raises JournalError where it is damaged."""
    *values, sum_ = row
    if sum_ is not None and sum_ != _sum(tuple(values)):  # None: written before there were sums
        raise _damaged("the row of a flow is not what was written")
    name, state, flow_id, generation, external, *rest = values
    return FlowFacts(name, FlowState(state), flow_id, generation, bool(external), *rest)


def _row(f: FlowFacts) -> tuple[object, ...]:
    values = (f.name, f.state.value, f.flow_id, f.generation, int(f.external), f.spec_digest, f.stat_digest, f.content,
              _real(f.settle_deadline), _real(f.start_after), f.inputs, f.size_bytes, _real(f.started_at),
              f.problem)  # fmt: skip
    return (*values, _sum(values))


def _real(value: float | None) -> float | None:
    return None if value is None else float(value)


def _sum(values: tuple[object, ...]) -> int:
    return zlib.crc32(repr(values).encode(errors="surrogatepass"))


def _input(row: tuple) -> InputFacts:  # type: ignore[type-arg]
    """An input's row. No sum: whatever is wrong with it, the list does not match, and the flow is built anew."""
    key, state, sha256, spec_digest, size, mtime_ns, inode, tagged, settle_deadline, answered, resent = row
    if not all(map(isinstance, row, _INPUT_TYPES)) or state not in _INPUT_STATES:
        raise _damaged("the row of an input is not what was written")
    file_stat = FileStat(size, mtime_ns, inode)
    return InputFacts(key, _INPUT_STATES[state], sha256, spec_digest, file_stat, bool(tagged), settle_deadline, bool(answered),
                      bool(resent))  # fmt: skip


_INPUT_STATES: Final = {state.value: state for state in InputState}
_NONE: Final = type(None)
_INPUT_TYPES: Final[tuple[Any, ...]] = (bytes, str, (bytes, _NONE), bytes, int, int, int, int, (float, _NONE), int, int)


_MEND: Final = "put a copy of it back, or move it away and run --adopt"


def _damaged(what: str) -> JournalError:
    return JournalError(f"the journal is damaged: {what}", _MEND)


def _advice(error: Exception) -> str:
    """What to do: of SQLite's errors, the operational ones are the disk's or the permissions' fault, not the file's."""
    if isinstance(error, OSError | sqlite3.OperationalError):
        return "free some space, check the disk and its permissions, then run again"
    return _MEND


def _end(row: tuple) -> EndFacts:  # type: ignore[type-arg]
    flow_id, flow, state, listed, remote, missing, accepted, reason = row
    return EndFacts(flow_id, flow, state, bool(listed), Remote(remote), missing, bool(accepted), reason)


def _output(row: tuple) -> OutputFacts:  # type: ignore[type-arg]
    flow_id, asset_id, key, state, source, place, path, sha256, size, mtime_ns, inode = row
    file_stat = FileStat(size, mtime_ns, inode)
    return OutputFacts(flow_id, asset_id, key, OutputState(state), source, place, path, sha256, file_stat)


def _output_row(f: OutputFacts) -> tuple[object, ...]:
    file_stat = f.stat
    return (f.flow_id, f.asset_id, f.key, f.state.value, f.source, f.place, f.path, f.sha256, file_stat.size,
            file_stat.mtime_ns, file_stat.inode, spot(f.path) if f.path else None)  # fmt: skip


class JournalReader(_Reader):
    """A journal that is only looked at, by `plan` and `status`. Raises JournalError where there is none.

    With the manifest's `batch` it says what the next run will find: what was announced and never left is as if never
    announced."""

    def __init__(self, path: Path, batch: str | None = None) -> None:
        self._batch = batch
        self._left = read_sent_marks(path.with_suffix(".left")) if batch is not None else None
        if not is_journal(path):
            raise JournalError(f"there is no journal at {path}", "nothing has been run here yet")
        # On a file system that cannot be written SQLite reads a log only if it is told that nobody else writes.
        still = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
        uri = f"{path.absolute().as_uri()}?{'immutable=1' if still else 'mode=ro'}"
        try:
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise JournalError(f"the journal {path} cannot be opened: {error}", "check its permissions, and --state") from error
        super().__init__(connection)
        try:
            self._version = _check_version(connection, path)
        except JournalError:
            self.close()
            raise

    def flow(self, name: str) -> FlowFacts | None:
        facts = super().flow(name)
        return facts if facts is None or self._batch is None else _as_it_left(facts, self._batch, self._left)

    def end(self, flow_id: str) -> EndFacts | None:
        if self._version >= 6:
            return super().end(flow_id)
        if self._version < 4:  # an older batcher's journal has none
            return None
        row = self._ask_one("SELECT flow_id, flow, state, listed, remote, 0, 0, '' FROM ends WHERE flow_id=?", flow_id)
        return None if row is None else _end(row)

    def inputs(self, flow: str, keys: Sequence[bytes]) -> Mapping[bytes, InputFacts]:
        found = super().inputs(flow, keys)
        if self._left is None:
            return found
        return {key: replace(row, state=InputState.PENDING) if self._never_left(row) else row for key, row in found.items()}

    def count_inputs(self, flow: str) -> int:
        count = super().count_inputs(flow)
        if self._left is None:
            return count
        sending = self._input_rows(flow, "state='sending'")
        return count - sum(self._never_left(row) and not row.resent for row in sending)

    def _never_left(self, row: InputFacts) -> bool:
        return self._left is not None and row.state is InputState.SENDING and row.key not in self._left

    def close(self) -> None:
        self._close_reader()


def _check_version(connection: sqlite3.Connection, path: Path) -> int:
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise JournalError(f"{path} is not a journal that can be read: {error}", _advice(error)) from error
    if version > len(MIGRATIONS):
        raise JournalError(f"the journal {path} was written by a newer batcher (schema {version})", "update batcher")
    return version


class SqliteJournal(_Reader):
    """The journal of one manifest at one endpoint; `batch` is the manifest's, for the keys of its flows.

    Raises Locked while another process holds it, UsageError where its folder cannot be written, JournalError where it
    cannot be opened or is damaged. Close it when done. `wall` and `steady`: seconds since 1970, and of a clock that never
    jumps.
    """

    def __init__(
        self, path: Path, batch: str, settle_s: float,
        *, about: Mapping[str, str] | None = None, wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = uptime,
    ) -> None:  # fmt: skip
        self._batch = batch
        self._about = about
        self._steady = steady
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            hint = NOT_YOURS if isinstance(error, PermissionError) else "see --state"
            raise UsageError(f"the state folder {path.parent} cannot be written: {error.strerror}", hint) from error
        with contextlib.ExitStack() as opened:  # closed again, the latest first, where what follows fails
            opened.callback(os.close, self._lock)
            if not _lock(self._lock):
                raise Locked("another run holds this manifest", "wait for it to end")
            try:
                self._open_files(path, settle_s, wall(), opened)
            except PermissionError as error:
                what = f"the journal {error.filename or path} may not be written: {error.strerror}"
                raise UsageError(what, NOT_YOURS) from error
            except (OSError, sqlite3.Error, ValueError) as error:
                raise JournalError(f"the journal {path} cannot be opened: {error}", _advice(error)) from error
            self._opened_files = opened.pop_all()
        self._may_have_orphans = bool(self.orphans())
        self._items: deque[_Item] = deque()
        self._timer: asyncio.Handle | None = None  # the next commit
        self._at_once = False  # and whether somebody waits for it
        self._syncing = False
        self._rows = 0  # since the last checkpoint
        self._failed: str | None = None

    def _open_files(self, path: Path, settle_s: float, wall: float, opened: contextlib.ExitStack) -> None:
        """Three connections: the reader's takes any thread (see `_Reader`), the writer's only this one, the loop's, and the
        checkpointer's only the disk's thread. sqlite3 itself refuses any other thread at the last two."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._writer = opened.enter_context(contextlib.closing(_connect(path)))
        # `_sync` sees to the disk: not within COMMIT, where the loop would wait for it. What is committed
        # and not synced yet outlives the process; only a power cut takes it, the latest first.
        self._writer.execute("PRAGMA synchronous=NORMAL")
        self._writer.execute("PRAGMA wal_autocheckpoint=0")
        self._writer.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        fresh = self._migrate(path)
        self._log = os.open(path.with_name(path.name + "-wal"), os.O_RDWR)
        opened.callback(os.close, self._log)
        super().__init__(_connect(path, any_thread=True))
        opened.callback(self._close_reader)
        self._sent_marks = opened.enter_context(contextlib.closing(SentMarks(path.with_suffix(".left"))))
        self._check(fresh)
        new_boot = self._set_time(wall)
        self._recover(settle_s, new_boot)
        self._disk = ThreadPoolExecutor(1, "journal")
        opened.callback(self._disk.shutdown)
        # The thread is there from now on: none may be had later.
        self._checkpointer = self._disk.submit(_connect, path).result()
        opened.callback(lambda: self._disk.submit(self._checkpointer.close).result())

    def _check(self, fresh: bool) -> None:
        """That what was paid for can be found: the flows' table and its index agree, and no commit has been lost (a log
        that was damaged reads as a shorter one). Raises JournalError."""
        found = self._writer.execute("PRAGMA integrity_check(flows)").fetchone()[0]
        if found != "ok":
            raise _damaged(str(found))
        self._commits = int(str(self._meta("commits") or 0))
        if self._sent_marks.commits > self._commits and not fresh:
            raise _damaged(f"{self._sent_marks.commits - self._commits} of its last commits are missing")
        self._sent_marks.committed(self._commits)
        to_disk(self._log, data_only=True)  # a run that was killed may have left commits in memory only
        self._sent_marks.synced(self._commits)

    def _migrate(self, path: Path) -> bool:
        """Whether there was no journal before."""
        version = _check_version(self._writer, path)
        if version < len(MIGRATIONS):
            script = ";".join(("BEGIN IMMEDIATE", *MIGRATIONS[version:], f"PRAGMA user_version={len(MIGRATIONS)}", "COMMIT"))
            for statement in script.split(";"):
                self._writer.execute(statement)
                failpoint("in migration")
        self._writer.execute("INSERT OR IGNORE INTO meta VALUES('owner', ?)", (secrets.token_hex(8),))
        if self._about is not None:
            kept = self._writer.execute("SELECT value FROM meta WHERE name='about'").fetchone()
            was = Path(json.loads(kept[0])["manifest"]).stem if kept is not None else path.stem.rpartition("-")[0]
            if was != Path(self._about["manifest"]).stem:
                # Taken over by a manifest of another name, which may have had, and lost, one of its own.
                self._writer.execute("DELETE FROM meta WHERE name='strangers_checked'")
            self._writer.execute("INSERT OR REPLACE INTO meta VALUES('about', ?)", (json.dumps(self._about),))
        return version == 0

    def _set_time(self, wall: float) -> bool:
        """Go on with the journal's own time, and whether the machine was started anew since it was last opened.

        While the machine runs it goes on with the steady clock, across processes, so that a wall clock that is set
        neither cuts a settling time short nor makes it last; after a start the wall clock is all there is."""
        boot = (_boot() or b"").hex()
        kept = self._writer.execute("SELECT value FROM meta WHERE name='time'").fetchone()
        at_boot, at_now, at_steady = str(kept[0]).split() if kept is not None else ("", "0", "0")
        self._opened_steady = self._steady()
        passed = self._opened_steady - float(at_steady)
        same = bool(boot) and at_boot == boot and passed >= 0
        self._opened = float(at_now) + passed if same else wall
        mark = f"{boot or '-'} {self._opened!r} {self._opened_steady!r}"
        self._writer.execute("INSERT OR REPLACE INTO meta VALUES('time', ?)", (mark,))
        return kept is not None and bool(boot) and not same

    def now(self) -> float:
        return self._opened + self._steady() - self._opened_steady

    def _recover(self, settle_s: float, new_boot: bool) -> None:
        """What was announced and never left is as if never announced; the rest is unknown from now on (the request may
        have left at any time up to the death of its process). Durable before anything else, so that the settling time
        is not started again by the next kill. Only a start of the machine begins it anew, for then no clock can be
        trusted; and none may lie further ahead than the settling time: there a clock has jumped."""
        until = self._opened + settle_s
        left = self._sent_marks.left
        sending = self._writer.execute("SELECT flow, key FROM inputs WHERE state='sending'").fetchall()
        open_ = "state IN ('creating', 'starting') OR until IS NOT NULL OR not_before IS NOT NULL"
        unsettled = [_flow(row) for row in self._writer.execute(f"SELECT {_FLOW_COLUMNS} FROM flows WHERE {open_}")]
        self._writer.execute("BEGIN IMMEDIATE")
        for flow, key in sending:
            failpoint("in recovery")
            if left is not None and key not in left:
                self._writer.execute("UPDATE inputs SET state='pending' WHERE flow=? AND key=?", (flow, key))
            else:
                self._writer.execute(
                    "UPDATE inputs SET state='unknown', until=?, answered=0 WHERE flow=? AND key=?", (until, flow, key)
                )
        self._writer.execute(
            "UPDATE inputs SET until=? WHERE until>? OR (until IS NOT NULL AND ?)", (until, until, new_boot)
        )
        for facts in unsettled:
            facts = _as_it_left(facts, self._batch, left)
            if facts.state is FlowState.CREATING and facts.settle_deadline is None:
                self._writer.execute(_PUT_WATCH, (until + WATCH_S,))
            settles = facts.state in (FlowState.CREATING, FlowState.STARTING) or facts.settle_deadline is not None

            def bounded(at: float | None) -> float:
                return until if at is None or at > until or new_boot else at

            self._put(
                replace(
                    facts,
                    settle_deadline=bounded(facts.settle_deadline) if settles else None,
                    start_after=None if facts.start_after is None else bounded(facts.start_after),
                )
            )
        watch = self._opened + WATCH_S
        self._writer.execute("UPDATE meta SET value=? WHERE name='watch_until' AND value>?", (watch, watch))
        self._writer.execute("COMMIT")
        failpoint("in recovery")
        self._sent_marks.begin()

    def _put(self, facts: FlowFacts) -> None:
        self._writer.execute(_PUT_FLOW, _row(facts))

    async def record(self, *records: Record) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._items.append((records, waiter))
        if not self._at_once:
            self._commit_soon(asyncio.get_running_loop(), at_once=True)
        await waiter
        if self._failed is not None:
            raise JournalError(f"the journal cannot be written: {self._failed}", "free some space, then run again")

    def post(self, *records: Record) -> None:
        self._items.append((records, None))
        if self._timer is None:  # nobody waits: let some more gather, for a commit costs as much as thirty rows
            self._commit_soon(asyncio.get_running_loop(), at_once=False)

    def mark_sent(self, key: bytes) -> None:
        self._sent_marks.mark(key)

    def _commit_soon(self, loop: asyncio.AbstractEventLoop, *, at_once: bool) -> None:
        if self._syncing:
            return  # the end of that looks here again
        if self._timer is not None:
            self._timer.cancel()
        self._at_once = at_once
        # Not now: others who are about to wait come along.
        self._timer = loop.call_soon(self._write, loop) if at_once else loop.call_later(LINGER_S, self._write, loop)

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        """Commit what has gathered; where somebody waits, the disk's thread then sees that it is there."""
        self._timer, self._at_once = None, False
        waiters = self._commit_items()
        if waiters and self._failed is None:
            self._syncing = True
            synced = loop.run_in_executor(self._disk, self._sync)
            synced.add_done_callback(lambda synced: self._synced(loop, synced, waiters))
        else:
            _wake(waiters)
            self._go_on(loop)

    def _synced(self, loop: asyncio.AbstractEventLoop, synced: asyncio.Future[None], waiters: _Waiters) -> None:
        self._syncing = False
        if not synced.cancelled() and (error := synced.exception()) is not None:
            self._failed = str(error)
        _wake(waiters)
        self._go_on(loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._items and self._timer is None:
            self._commit_soon(loop, at_once=any(waiter is not None for _, waiter in self._items))

    def _commit_items(self) -> _Waiters:
        """Write what has gathered, or enough of it. Who waits for it."""
        records: list[Record] = []
        waiters: list[asyncio.Future[None]] = []
        while self._items and len(records) < COMMIT_ROWS:
            more, waiter = self._items.popleft()
            records += more
            if waiter is not None:
                waiters.append(waiter)
        if self._failed is None:
            try:
                self._commit(records)
            except Exception as error:  # whatever it is: who waits must not wait for ever
                self._failed = str(error)  # nothing is recorded any more, so nothing more is sent
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
        return waiters

    def _sync(self) -> None:
        """In the disk's thread; the loop commits nothing meanwhile. Raises OSError, sqlite3.Error."""
        commits = self._commits
        failpoint("before sync")
        to_disk(self._log, data_only=True)
        self._sent_marks.synced(commits)
        if self._rows >= CHECKPOINT_ROWS:
            self._rows = 0
            self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _commit(self, records: Sequence[Record]) -> None:
        write = self._writer.execute
        write("BEGIN IMMEDIATE")
        settled: list[bytes] = []
        rows: list[object] = []  # of inputs, one after the other, not written yet
        flow = ""
        flow_row: int | None = None
        for record in records:
            if isinstance(record, PutInput):
                f = record.facts
                file_stat = f.stat
                if record.flow != flow:
                    flow, flow_row = record.flow, self._flow_row(record.flow)
                rows += (flow_row, f.key, f.state._value_, f.sha256, f.spec_digest, file_stat.size, file_stat.mtime_ns,
                         file_stat.inode, f.tagged, f.settle_deadline, f.answered, f.resent)  # fmt: skip
                if f.state is not InputState.SENDING:
                    settled.append(f.key)
                continue
            self._put_inputs(rows)
            rows.clear()
            match record:
                case PutFlow(flow_facts):
                    self._put(flow_facts)
                    if flow_facts.state is not FlowState.CREATING:
                        settled.append(flow_key(self._batch, flow_facts.name))
                case ForgetInputs(name):
                    write(f"DELETE FROM inputs WHERE {_OF_FLOW}", (name,))
                case AddOrphan(flow_id, name):
                    self._may_have_orphans = True
                    write("INSERT OR REPLACE INTO litter VALUES(?, ?)", (flow_id, name))
                case ClearOrphan(flow_id):
                    write("DELETE FROM litter WHERE flow_id=?", (flow_id,))
                case UnknownFlowsChecked():
                    write("INSERT OR REPLACE INTO meta VALUES('strangers_checked', 1)")
                case LetGo(flow_id):
                    write("INSERT OR REPLACE INTO meta VALUES(?, 1)", (_LET_GO + flow_id,))
                case Watch(until):
                    write(_PUT_WATCH, (until,))
                case PutTimes(name, times):
                    known = write(f"SELECT {_TIMES} FROM flow_times WHERE {_OF_FLOW}", (name,)).fetchone()
                    times = times.after(None if known is None else FlowTimes(*known))
                    write(
                        "INSERT OR REPLACE INTO flow_times SELECT id, ?, ?, ?, ?, ?, ? FROM flows WHERE name=?",
                        (*astuple(times), name),
                    )
                case PutRun(began, requests, document):
                    text = json.dumps(document, separators=(",", ":"))
                    write("INSERT OR REPLACE INTO runs VALUES(?, ?, ?)", (began, requests, text))
                    write(_OLD_RUNS)
                case PutEnd(e):
                    values = (e.flow_id, e.flow, e.state, e.listed, e.remote.value, e.missing, e.accepted, e.reason)
                    write(f"INSERT OR REPLACE INTO ends({_END_COLUMNS}) VALUES(?,?,?,?,?,?,?,?)", values)
                case SeeOutput(output):
                    write(_SEE_OUTPUT, _output_row(output))
                case PutOutput(output):
                    write(f"INSERT OR REPLACE {_PUT_OUTPUT}", _output_row(output))
        self._put_inputs(rows)
        write("INSERT OR REPLACE INTO meta VALUES('commits', ?)", (self._commits + 1,))
        failpoint("before commit")
        write("COMMIT")
        self._rows += len(records)
        self._commits += 1
        failpoint("after commit")
        self._sent_marks.committed(self._commits)
        for key in settled:  # only now: a kill before the commit must find the mark
            self._sent_marks.clear(key)
        failpoint("after sent marks")

    def _flow_row(self, name: str) -> int | None:
        """The id of the flow's row; None, which no input's row takes, where there is none."""
        row = self._writer.execute("SELECT id FROM flows WHERE name=?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def _put_inputs(self, rows: Sequence[object]) -> None:
        """Many rows in one statement."""
        step = ROWS * _INPUT_VALUES
        whole = len(rows) // step * step
        for start in range(0, whole, step):
            self._writer.execute(_PUT_INPUTS, rows[start : start + step])
        for start in range(whole, len(rows), _INPUT_VALUES):
            self._writer.execute(_PUT_INPUT, rows[start : start + _INPUT_VALUES])

    def close(self) -> None:
        """Write what was posted, and let go of the lock."""
        with self._opened_files:
            self._disk.submit(int).result()  # what it was at is done: it and the loop write by turns
            if self._timer is not None:
                self._timer.cancel()
            while self._items:
                _wake(self._commit_items())
            if self._failed is None:  # a disk that has failed once may say yes to what it has lost
                with contextlib.suppress(OSError, sqlite3.Error):  # nobody waits for it: what is lost is asked for again
                    self._disk.submit(self._sync).result()


def _connect(path: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    """A connection for this thread alone, as sqlite3 sees to; `any_thread`: for whoever holds its lock."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=not any_thread, timeout=30)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA fullfsync=1")  # of SQLite's own syncs, as `to_disk`: it counts on macOS only
    except BaseException:
        connection.close()
        raise
    return connection


_BEFORE: Final = {FlowState.CREATING: FlowState.PLANNED, FlowState.STARTING: FlowState.OPEN}  # announced, and never left


def _as_it_left(facts: FlowFacts, batch: str, left: frozenset[bytes] | None) -> FlowFacts:
    """The row without a create or a start that was announced and surely never left; `left` as `departed` tells it."""
    before = _BEFORE.get(facts.state) if facts.settle_deadline is None else None
    if before is None or left is None or flow_key(batch, facts.name) in left:
        return facts
    return replace(facts, state=before)


def _lock(file: int) -> bool:
    """Whether it could be taken. Asked for a few times: `is_held` has it for some microseconds."""
    for pause_s in (0.01, 0.05, 0.0):
        try:
            lock(file)
            return True
        except OSError:
            time.sleep(pause_s)
    return False


def _wake(waiters: _Waiters) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


class MemoryJournal:
    """A journal that forgets: for tests and for users of the Python API who keep no state. One for each run that may be cut
    off: it settles nothing of what was in flight then. Same behaviour otherwise. Any thread may read, one writes; whoever
    looks at more than one row holds the lock."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._began = time.time() - uptime()
        self.owner = secrets.token_hex(8)
        self.watch_until = 0.0
        self.unknown_flows_checked = False
        self._flows: dict[str, FlowFacts] = {}
        self._inputs: dict[str, dict[bytes, InputFacts]] = {}
        self._litter: dict[str, str] = {}
        self._times: dict[str, FlowTimes] = {}
        self._let_go: set[str] = set()
        self._runs: dict[float, PutRun] = {}
        self._ends: dict[str, EndFacts] = {}
        self._outputs: dict[str, dict[str, OutputFacts]] = {}

    def now(self) -> float:
        return self._began + uptime()

    async def record(self, *records: Record) -> None:
        self.post(*records)

    def post(self, *records: Record) -> None:
        with self._turn:
            self._put(records)

    def _put(self, records: Sequence[Record]) -> None:
        for record in records:
            match record:
                case PutFlow(facts):
                    self._flows[facts.name] = facts
                case PutInput(flow, row):
                    self._inputs.setdefault(flow, {})[row.key] = row
                case ForgetInputs(flow):
                    self._inputs.pop(flow, None)
                case AddOrphan(flow_id, flow):
                    self._litter[flow_id] = flow
                case ClearOrphan(flow_id):
                    self._litter.pop(flow_id, None)
                case UnknownFlowsChecked():
                    self.unknown_flows_checked = True
                case LetGo(flow_id):
                    self._let_go.add(flow_id)
                case Watch(until):
                    self.watch_until = max(self.watch_until, until)
                case PutTimes(flow, times):
                    if flow in self._flows:
                        self._times[flow] = times.after(self._times.get(flow))
                case PutRun(began):
                    self._runs[began] = record
                    last = max(self._runs)
                    kept = [at for at, run in self._runs.items() if run.requests or at == last]
                    self._runs = {at: self._runs[at] for at in sorted(kept)[-RUNS_KEPT:]}
                case PutEnd(end):
                    self._ends[end.flow_id] = end
                case SeeOutput(output):
                    seen = self._outputs.setdefault(output.flow_id, {}).setdefault(output.asset_id, output)
                    if seen.state is not OutputState.COLLECTED:
                        self._outputs[output.flow_id][output.asset_id] = replace(seen, state=output.state)
                case PutOutput(output):
                    self._outputs.setdefault(output.flow_id, {})[output.asset_id] = output

    def mark_sent(self, key: bytes) -> None:
        pass

    def flow(self, name: str) -> FlowFacts | None:
        return self._flows.get(name)

    def was_let_go(self, flow_id: str) -> bool:
        return flow_id in self._let_go

    def name_of(self, flow_id: str) -> str | None:
        return next((facts.name for facts in self.flows() if facts.flow_id == flow_id), None)

    def some_flow_ids(self, count: int) -> Sequence[str]:
        with self._turn:
            gone = {end.flow_id for end in self._ends.values() if end.remote is not Remote.KEPT}
            known = [f.flow_id for f in self._flows.values() if f.flow_id is not None and f.flow_id not in gone]
        return list(dict.fromkeys(known[:count] + known[-count:]))

    def flows(self) -> Iterator[FlowFacts]:
        with self._turn:
            return iter(list(self._flows.values()))

    def inputs(self, flow: str, keys: Sequence[bytes]) -> Mapping[bytes, InputFacts]:
        with self._turn:
            rows = self._inputs.get(flow, {})
            return {key: rows[key] for key in keys if key in rows}

    def input_rows(self, flow: str) -> Iterator[InputFacts]:
        with self._turn:
            return iter([row for _, row in sorted(self._inputs.get(flow, {}).items())])

    def orphans(self, flow: str | None = None) -> Sequence[tuple[str, str]]:
        with self._turn:
            return sorted((flow_id, name) for flow_id, name in self._litter.items() if flow is None or name == flow)

    def end(self, flow_id: str) -> EndFacts | None:
        return self._ends.get(flow_id)

    def bad_ends(self) -> Mapping[str, EndFacts]:
        with self._turn:
            return {flow_id: end for flow_id, end in self._ends.items() if step(end.state) is Step.FETCH_APART}

    def outputs(self, flow_id: str, after: str = "", limit: int = 500) -> Sequence[OutputFacts]:
        with self._turn:
            rows = self._outputs.get(flow_id, {})
            return [rows[asset_id] for asset_id in sorted(rows) if asset_id > after][:limit]

    def outputs_of(self, flow_id: str, keys: Sequence[bytes]) -> Sequence[OutputFacts]:
        with self._turn:
            return [row for _, row in sorted(self._outputs.get(flow_id, {}).items()) if row.key in keys]

    def output_at(self, path: str) -> OutputFacts | None:
        with self._turn:
            rows = (row for rows in self._outputs.values() for row in rows.values())
            return next((row for row in rows if row.path and spot(row.path) == spot(path)), None)

    def collected(self) -> Iterator[FileStat]:
        with self._turn:
            rows = [row for rows in self._outputs.values() for row in rows.values()]
        return (row.stat for row in rows if row.state is OutputState.COLLECTED)

    def count_flows(self) -> int:
        return len(self._flows)

    def count_inputs(self, flow: str) -> int:
        return sum(row.may_be_there for row in self.input_rows(flow))

    def tallies(self) -> Mapping[str, Mapping[InputState, tuple[int, int]]]:
        found: dict[str, dict[InputState, tuple[int, int]]] = {}
        with self._turn:
            for name, rows in self._inputs.items():
                of_flow = found.setdefault(name, {})
                for row in rows.values():
                    count, size = of_flow.get(row.state, (0, 0))
                    of_flow[row.state] = (count + 1, size + row.stat.size)
        return found

    def flow_times(self) -> Mapping[str, FlowTimes]:
        with self._turn:
            return dict(self._times)

    def runs(self) -> Sequence[tuple[float, Mapping[str, JSON]]]:
        with self._turn:
            return [(at, self._runs[at].document) for at in sorted(self._runs, reverse=True)]

    def close(self) -> None:
        pass
