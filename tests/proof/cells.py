"""The matrix: every call, met in every scene in which a run meets it, with every fault that a network and a service have.

In: a scene and a row. Out: an `Outcome`: what two runs (or two collectings of a batch that was run to its end) came to,
held against the sandbox's own record (and the folder), and what the client saw on the way. The cells are the product of
`SCENES` and `ROWS`: one that is left out is named, with its reason, by `why_not`. Called by `test_matrix`, in processes of
their own.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from batcher.api import Settings, abort, collect, run
from batcher.core.model import ABSENT, JSON, FileSource, Flow, Input, Limits, Manifest, Place, Problem
from batcher.core.report import Report
from batcher.core.retry import BY_CALL, STATUS, Call, Fault, FaultKind, Reply
from batcher.pipeline.operation import Operation
from batcher.sandbox import Sandbox, parse_fault

from .collected import Truth

TIMEOUT_S: Final = 1.2
SETTLE_S: Final = 1.2
WITHIN_S: Final = 1.8  # after the client has given up, before the settling time is over
BEYOND_S: Final = 4.0  # after both
PROCESSING_S: Final = 0.05
RUNNING_S: Final = 600.0  # where what runs is to be aborted
WAIT_S: Final = 30.0  # a collecting waits no longer for flows; in the scenes they have all ended
REFUSED_S: Final = 2.0  # so long a closed port refuses
AT_ONCE: Final = 100  # cells of one process under way; most of them wait
TRIES: Final = 3  # to have a fault strike where it is to: on a loaded machine an earlier call may have failed by itself
IMAGE: Final = "model_generate_fromimage"
PNG: Final = b"\x89PNG\r\n\x1a\n"
BODIES: Final = frozenset({Call.CREATE, Call.UPLOAD, Call.START, Call.ABORT})  # calls that carry one
CHANGES: Final = BODIES | {Call.DELETE}
LISTS: Final = frozenset({Call.TEMPLATES, Call.FLOWS, Call.INPUTS, Call.OUTPUTS})  # calls that are answered with a list
COLLECTS: Final = frozenset({"flow", "outputs", "output"})  # what a collecting may ask for


@dataclass(frozen=True)
class Scene:
    """How a run makes the call, or a collecting of what was started (`collects`; `deletes`: with --delete-remote), or an abort
    of what runs (`aborts`).

    `before` are faults that lead there; `nth` is which of its calls is struck. `leads` is the call after which the port
    closes, so that this one is refused ("": the test's own call, before the run); `before_refused` are the faults that
    lead there then, where they differ.
    """

    name: str
    call: Call
    leads: str
    before: tuple[str, ...] = ()
    nth: int = 1
    external: bool = False
    bare: bool = False  # inputs that carry no tag
    before_refused: tuple[str, ...] | None = None
    collects: bool = False
    deletes: bool = False
    aborts: bool = False


SCENES: Final = (
    Scene("templates", Call.TEMPLATES, ""),
    Scene("flows", Call.FLOWS, "templates"),
    Scene("flows after a lost create", Call.FLOWS, "create", ("create:nth=1,lost_reply=close",), nth=2),
    Scene("create", Call.CREATE, "flows"),
    Scene("upload", Call.UPLOAD, "flows"),  # the list that must show the first flow
    Scene("inputs", Call.INPUTS, "upload"),
    Scene("input", Call.INPUT, "inputs", bare=True),
    Scene("start", Call.START, "inputs"),
    Scene("flow after a lost start", Call.FLOW, "start", ("start:nth=1,lost_reply=close",)),
    Scene("flow of a given id", Call.FLOW, "flows", external=True),
    Scene(
        "delete", Call.DELETE, "flow", ("inputs:nth=1,corrupt_list=foreign",),  # its state is asked for first
        before_refused=("upload:nth=1,input_error=1",),  # the list is right, and the flow given up all the same
    ),
    Scene("flow that is aborted", Call.FLOW, "", aborts=True),
    Scene("abort", Call.ABORT, "flow", aborts=True),
    Scene("flow that is collected", Call.FLOW, "", collects=True),
    Scene("outputs", Call.OUTPUTS, "flow", collects=True),
    Scene("output", Call.OUTPUT, "outputs", collects=True),
    Scene("output that is then deleted", Call.OUTPUT, "outputs", collects=True, deletes=True),
    Scene("outputs before the delete", Call.OUTPUTS, "output", nth=3, collects=True, deletes=True),
    Scene("delete of what was collected", Call.DELETE, "outputs", collects=True, deletes=True),
)


@dataclass(frozen=True)
class Row:
    """One fault, once. `effect` as the sandbox reads it; `late_s`: it commits so long after the request."""

    name: str
    effect: str
    status: int | None = None
    late_s: float = 0.0
    new_key: bool = False


def _late(name: str, seconds: float, status: int | None = None) -> Row:
    words = f"late_commit={seconds}s" + (f",status={status}" if status else "")
    return Row(name, words, status, seconds)


REFUSED: Final = Row("connection refused", "")
RESET_MID: Final = Row("reset within the body", "drop_mid=1")
ROWS: Final = (
    REFUSED,
    Row("reset before the body", "drop_before=1"),
    RESET_MID,
    Row("reset after the commit", "lost_reply=reset"),
    Row("closed after the commit", "lost_reply=close"),
    Row("no reply, and no end", "lost_reply=hang"),
    Row("reply cut in half", "truncate=1"),
    Row("200 with other JSON", "garbage=json"),
    Row("200 with HTML", "garbage=html"),
    Row("200 with nothing", "garbage=empty"),
    Row("200 with noise", "garbage=binary"),
    Row("reply of 2 MB", "huge=2MB"),
    Row("reply that trickles", "trickle=8"),
    Row("reply that stalls", "stall=1"),
    Row("307 to another port", "redirect=http://127.0.0.1:9", 307),
    *(Row(str(status), f"status={status}", status) for status in (400, 401, 402, 403, 404, 408, 409, 413, 422, 425)),
    Row("401, and a new key", "status=401", 401, new_key=True),
    Row("403 in XML", "status=403,body=xml", 403),
    Row("422 that says the input again", "status=422,body=input", 422),
    Row("429, for the quota is spent", "status=429,body=quota", 429),
    Row("429 with seconds", "status=429,retry_after=1", 429),
    Row("429 with a date", "status=429,retry_after=date:1", 429),
    Row("429 with neither", "status=429", 429),
    *(Row(str(status), f"status={status}", status) for status in (500, 502, 503, 504, 520)),
    Row("503 with seconds", "status=503,retry_after=1", 503),
    Row("503 with HTML", "status=503,body=html", 503),
    Row("500 after the commit", "error_after_commit=500", 500),
    Row("502 after the commit", "error_after_commit=502,body=html", 502),
    Row("504 after the commit", "error_after_commit=504", 504),
    _late("late commit within the settling time", WITHIN_S),
    _late("late commit beyond the settling time", BEYOND_S),
    _late("500, then a commit within the settling time", WITHIN_S / 2, 500),
    _late("504, then a commit within the settling time", WITHIN_S / 2, 504),
    _late("504, then a commit beyond the settling time", BEYOND_S, 504),
)


def why_not(scene: Scene, row: Row) -> str | None:
    """Why a cell makes no sense; None where it does. There is no other way to leave one out."""
    if row is RESET_MID and scene.call not in BODIES:
        return "the request has no body"
    if "after the commit" in row.name and row.status and scene.call not in CHANGES:
        return "a read commits nothing: it is the same status without the commit"
    if row.late_s and scene.call not in CHANGES:
        return "a read commits nothing: late, it is the row of the reply that stalls"
    return None


def key_of(scene: Scene, row: Row) -> str:
    return f"{scene.name} × {row.name}"


CELLS: Final = {key_of(s, r): (s, r) for s in SCENES for r in ROWS if why_not(s, r) is None}

# What the client cannot be made to see, whatever the service does.
NEVER_SEEN: Final[dict[tuple[Call, FaultKind], str]] = {
    **{
        (call, FaultKind.NOT_SENT): "there is no body of which a part could have left"
        for call in set(Call) - BODIES
    },
    **{
        (call, FaultKind.NO_WAY): "the sandbox is on loopback in plain HTTP: no name, no certificate, no proxy"
        for call in Call
    },
    **{
        (call, FaultKind.NO_LIST): "no list is asked for"
        for call in set(Call) - LISTS
    },
}


# The body is a few hundred bytes, which leave in one write when the connection stands: only where that has been lost in the
# same moment.
SELDOM_SEEN: Final = frozenset((call, FaultKind.NOT_SENT) for call in (Call.CREATE, Call.START, Call.ABORT))


def must_be_seen() -> set[tuple[Call, int | FaultKind]]:
    """Every call with every kind of fault and every status of the verdicts' table."""
    wanted: set[tuple[Call, int | FaultKind]] = {(call, status) for call in Call for status in STATUS} | set(BY_CALL)
    return (wanted | {(call, kind) for call in Call for kind in FaultKind}) - set(NEVER_SEEN) - SELDOM_SEEN


def expected(scene: Scene, row: Row) -> int:
    """The exit code of the run that meets the fault, by the contract: what may pass heals, what was refused is said."""
    plain = row.effect.startswith(f"status={row.status}")
    if (row.status == 401 and not row.new_key) or row.effect.endswith("body=quota"):
        return 7
    if plain and row.status in (400, 402, 403, 404, 409, 413, 422):
        if scene.collects:
            # The flow is not what the journal says, or another key may do it; or it is refused.
            return 12 if row.status in (402, 403, 404, 409) else 3
        match scene.call:
            case Call.TEMPLATES:
                return 0  # no list to be had: the service itself will refuse what it does not know
            case Call.DELETE:
                return 0  # it is tried again when all else is done
            case Call.CREATE | Call.START:
                return 3
            case Call.UPLOAD:
                return 12 if row.status in (404, 409) else 3  # the flow is not what the journal says, or the input is refused
            case _:
                return 12  # who cannot ask cannot settle
    if scene.call is Call.DELETE and row is REFUSED and not scene.collects:
        return 3  # the scene's: the service took an input, and then found fault with it
    return 0


@dataclass
class Outcome:
    """What came of one cell. `wrong` is what the service's record holds against it; `missed`: faults that did not strike."""

    cell: str
    codes: list[int] = field(default_factory=list)
    sent: int = 0
    needed: int = 0
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    seen: set[tuple[Call, int | FaultKind]] = field(default_factory=set)


class Watched:
    """The client, with what it returned written down."""

    def __init__(self, client: Any, seen: set[tuple[Call, int | FaultKind]]) -> None:
        self._client = client
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name in ("read_key_again", "has_key"):
            return method
        call = Call("input" if name == "input_digest" else name)

        async def ask(*values: Any) -> Any:
            found = await method(*values)
            if isinstance(found, Fault):
                self._seen.add((call, found.kind))
            elif isinstance(found, Reply):
                self._seen.add((call, found.status))
            return found

        return ask


class Cell:
    """One batch with a sandbox and a journal of its own."""

    def __init__(self, folder: Path, scene: Scene, row: Row | None) -> None:
        self.folder, self.scene, self.row = folder, scene, row
        self.paths = [folder / "a.png", folder / "b.png"]
        # One that leaves in several chunks, slowly, where the fault is to strike between them.
        self.slow = row is not None and scene.call is Call.UPLOAD and row.effect.startswith("drop_")
        large = 1_300_000 if row is not None and len(row.effect) % 2 else 250_000  # that leaves bit by bit, or at once
        self.paths[0].write_bytes(PNG + os.urandom(900_000 if self.slow else large if scene.call is Call.UPLOAD else 900))
        self.paths[1].write_bytes(PNG + os.urandom(900))
        if self.slow:
            del self.paths[1]
        self.external: str | None = None
        self.to = folder / "out"
        self.had: dict[str, bytes] = {}  # what lay there after the last collecting
        self.began = 0  # requests that the sandbox had seen before
        self.flows_before: list[dict[str, Any]] = []  # these two: of a batch that is to be collected
        self.truth = Truth({}, {})
        # In a row of its own, so that the calls come one after another.
        self.single = row is REFUSED or scene.external
        self.flows = 1 if self.single or self.slow else 2

    def _inputs(self) -> Iterator[Input | Problem]:
        for number, path in enumerate(self.paths):
            yield Input(path.name, FileSource(str(path)), None, self._additional(number), Place("m.yaml", 1, 1))

    def _additional(self, number: int) -> Any:
        return f"words {number}" if self.scene.bare else {"n": number} if number else ABSENT

    def _flows(self) -> Iterator[Flow | Problem]:
        for number in range(self.flows):
            template = None if self.external else IMAGE
            yield Flow(f"f{number}", template, self.external, {}, None, Place("m.yaml", 1, 1), self._inputs)

    def manifest(self, url: str) -> Manifest:
        limits = Limits(
            concurrency=1 if self.single else 4, settle_s=SETTLE_S, timeout_s=TIMEOUT_S, retries=8,
            bandwidth_bytes_per_s=1.5e6 if self.slow else None,
        )  # fmt: skip
        return Manifest("m.yaml", str(self.folder / "m.yaml"), str(self.folder), "m", url, limits, self._flows)

    def faults(self) -> list[str]:
        scene, row = self.scene, self.row
        struck: list[str] = []
        if row is REFUSED:
            # The call of that number in this order is the last before the one that is refused.
            nth = len(self.paths) if scene.leads in ("upload", "output") else 1
            if scene.call is Call.UPLOAD or (scene.call is Call.DELETE and scene.leads == "outputs"):
                nth = 2  # they are listed again before it
            words = f"{scene.leads or 'flows'}:nth={nth},outage={REFUSED_S}s"
            before = scene.before if scene.before_refused is None else scene.before_refused
            if any(fault.startswith(f"{scene.leads}:") for fault in before):  # it is lost: the outage does that, too
                return [words]
            return [*before, f"{words},when=after"]
        if row is not None:
            struck = [f"{scene.call.value}:nth={scene.nth},{row.effect}"]
        return [*scene.before, *struck]

    def key(self) -> Callable[[], str]:
        keys = iter(["old", "new"])
        if self.row is not None and self.row.new_key:
            return lambda: next(keys)
        return lambda: "old"

    async def play(self, session: aiohttp.ClientSession, needed: int) -> Outcome:
        """Two runs or collectings, the second without faults; each judged."""
        row = self.row
        outcome = Outcome(key_of(self.scene, row) if row is not None else self.scene.name, needed=needed)
        faults = [parse_fault(text) for text in self.faults()]
        processing_s = RUNNING_S if self.scene.aborts else PROCESSING_S
        async with Sandbox(self.folder / "service", processing_s=processing_s) as sandbox:
            if self.scene.external:
                async with session.post(f"{sandbox.url}/flows", json={"template": IMAGE}) as response:
                    self.external = (await response.json())["flow_id"]
            if self.scene.collects:
                await self._complete(session, sandbox)
            if self.scene.aborts:
                assert (await run(self.manifest(sandbox.url), Settings(key=lambda: "old"))).exit_code == 0
            sandbox.set_faults(faults)
            if row is REFUSED and not self.scene.leads:
                async with session.get(f"{sandbox.url}/flows") as response:
                    await response.read()
            self.began = len(sandbox.seen.log)
            report = await self._play(sandbox, outcome)
            arrived = len(sandbox.seen.log) - self.began
            self._delivered(sandbox, report, arrived, outcome)
            await self._judge(session, sandbox, report, outcome)
            await sandbox.caught_up()
            sandbox.set_faults(())
            if row is not None:
                report = await self._play(sandbox, outcome)
                await self._judge(session, sandbox, report, outcome)
                if not outcome.missed and outcome.codes != [expected(self.scene, row), 0]:
                    outcome.wrong.append(f"exit codes {outcome.codes}, expected {[expected(self.scene, row), 0]}")
        return outcome

    async def _complete(self, session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """A run without a fault, and its flows brought to their end: what the scene begins with."""
        report = await run(self.manifest(sandbox.url), Settings(key=self.key()))
        assert report.exit_code == 0, report
        while True:
            self.flows_before = await _flows_of(session, sandbox)
            if all(flow["state"] == "completed" for flow in self.flows_before):
                break
            await asyncio.sleep(PROCESSING_S)
        self.truth = await Truth.of(session, sandbox.url, self.flows_before, self.paths)

    async def _play(self, sandbox: Sandbox, outcome: Outcome) -> Report:
        def watch(operation: Operation) -> None:
            operation.client = Watched(operation.client, outcome.seen)

        manifest, settings = self.manifest(sandbox.url), Settings(key=self.key())
        if self.scene.collects:
            report = await collect(manifest, self.to, settings, wait_s=WAIT_S, delete_remote=self.scene.deletes, started=watch)
        elif self.scene.aborts:
            _, report = await abort(manifest, settings, True, started=watch)
        else:
            report = await run(manifest, settings, started=watch)
        outcome.codes.append(report.exit_code)
        outcome.sent += report.requests.sent
        outcome.words += [str(problem) for problem in report.problems] + ([str(report.stop)] if report.stop else [])
        return report

    def _delivered(self, sandbox: Sandbox, report: Report, arrived: int, outcome: Outcome) -> None:
        """Every fault struck, and the client saw it; one that closed the port was met by requests that never arrived."""
        for entry in sandbox.plan.as_json():
            if entry["struck"] != 1:
                outcome.missed.append(f"the fault {entry['fault']} struck {entry['struck']} times")
        status = self.row.status if self.row is not None and not self.row.late_s else None
        followed = self.scene.call is Call.OUTPUT and status == 307  # to where the output is said to lie
        if status is not None and not followed and (self.scene.call, status) not in outcome.seen:
            outcome.missed.append(f"no {status} was seen: the client had given up before")
        if self.row is REFUSED:
            if report.requests.sent <= arrived:
                outcome.missed.append(f"no request was refused: {report.requests.sent} sent, {arrived} arrived")
            if (self.scene.call, FaultKind.NOT_CONNECTED) not in outcome.seen:
                outcome.missed.append("the call was not the one that was refused")

    async def _judge(
        self, session: aiohttp.ClientSession, sandbox: Sandbox, report: Report, outcome: Outcome
    ) -> None:
        flows = await _flows_of(session, sandbox)
        if self.scene.collects:
            outcome.wrong += self.collected(flows, report, sandbox)
        else:
            outcome.wrong += self.against(flows, report, len(outcome.codes) == 1)

    def collected(self, flows: Sequence[dict[str, Any]], report: Report, sandbox: Sandbox) -> list[str]:
        """What lies in the folder and what the record says, whatever the exit code."""
        wrong, found = self.truth.against(self.to, report, self.had)
        self.had = found
        if [{**flow, "deleted": False} for flow in flows] != self.flows_before:
            wrong.append("a collecting changed the flows, started or made one")
        deleted = {flow["flow_id"] for flow in flows if flow["deleted"]}
        if not self.scene.deletes and deleted:
            wrong.append(f"{len(deleted)} flows were deleted, and nobody had asked for that")
        if any(not self.truth.flows[flow_id] <= set(found) for flow_id in deleted):
            wrong.append("a flow was deleted before its outputs were there")
        if self.scene.deletes and report.exit_code == 0 and len(deleted) != len(flows):
            wrong.append(f"complete, but {len(flows) - len(deleted)} flows were not deleted")
        asked = {entry.endpoint for entry in itertools.islice(sandbox.seen.log, self.began, None)}
        looks = {"templates"} if self.row is not None and self.row.status in (402, 403) else set()
        if more := asked - COLLECTS - looks - ({"delete"} if self.scene.deletes else set()):
            wrong.append(f"a collecting asked for {sorted(more)}")
        if report.stop is None and report.exit_code:
            # One request's refusal costs what it was for, at most: all the other outputs are there.
            cost = 1 if self.scene.call is Call.OUTPUT else 0 if self.scene.deletes else len(self.paths)
            if len(found) != len(self.truth.contents) - cost:
                wrong.append(f"{len(found)} outputs are there, of {len(self.truth.contents)}; the fault costs {cost}")
        return wrong

    def against(self, flows: Sequence[dict[str, Any]], report: Report, first: bool) -> list[str]:
        """What the record says against the guarantees, whatever the exit code."""
        wrong: list[str] = []
        meant = Counter(
            (hashlib.sha256(path.read_bytes()).hexdigest(), _plain(self._additional(number)))
            for number, path in enumerate(self.paths)
        )
        started = [flow for flow in flows if flow["starts"]]
        for flow in started:
            if flow["starts"] != 1:
                wrong.append(f"started {flow['starts']} times")
            if Counter((item["sha256"], _plain(item["additional"])) for item in flow["inputs"]) != meant:
                wrong.append("started with other inputs than meant")
        names = Counter(self._name(flow) for flow in started)
        if any(count > 1 for count in names.values()):
            wrong.append(f"one flow was started as two: {dict(names)}")
        if report.flows.started > len(started):  # fewer, where the run could not learn of it
            wrong.append(f"{len(started)} flows were started, {report.flows.started} are reported")
        running = [flow["flow_id"] for flow in flows if flow["state"] not in ("aborting", "aborted")]
        if self.scene.aborts and report.exit_code == 0 and running:
            wrong.append(f"all is said to be aborted, and {len(running)} flows run")
        if report.exit_code == 0:
            if set(names) != {f"f{number}" for number in range(self.flows)}:
                wrong.append(f"complete, but only these were started: {sorted(names)}")
            left = [flow["flow_id"] for flow in flows if not flow["starts"] and not flow["deleted"]]
            late_twin = self.row is not None and self.row.late_s == BEYOND_S and self.scene.call is Call.CREATE
            if left and not (late_twin and first):  # it came when the run was over: the next one finds it
                wrong.append(f"complete, but {len(left)} flows are left behind")
        return wrong

    def _name(self, flow: dict[str, Any]) -> str:
        return "f0" if flow["flow_id"] == self.external else str(flow["additional"]["batcher"]["flow"])


async def _flows_of(session: aiohttp.ClientSession, sandbox: Sandbox) -> list[dict[str, Any]]:
    async with session.get(f"{sandbox.url}/_sandbox/record") as response:
        return (await response.json())["flows"]  # type: ignore[no-any-return]


def _plain(additional: JSON | Any) -> str:
    """An input's `additional` without our tag; absent and null, which the service shows alike, are one."""
    if additional is ABSENT or additional is None:
        additional = {}
    if isinstance(additional, dict):
        additional = {name: value for name, value in additional.items() if name != "batcher"}
    return json.dumps(additional, sort_keys=True)


async def _breathe() -> None:
    """Until the loop is prompt again."""
    loop = asyncio.get_running_loop()
    while True:
        asked = loop.time()
        await asyncio.sleep(0.02)
        if loop.time() - asked < 0.1:
            return


async def _play_all(names: Sequence[str], folder: Path) -> list[Outcome]:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4 * AT_ONCE))  # each survey waits in a thread
    places = asyncio.Semaphore(AT_ONCE)
    turn = asyncio.Lock()
    needed: dict[str, int] = {}

    async def one(session: aiohttp.ClientSession, scene: Scene, row: Row | None) -> Outcome:
        async with places:
            async with turn:  # one after another, as fast as the machine follows: or requests would time out by themselves
                await _breathe()
            for attempt in range(1, TRIES + 1):
                own = Path(tempfile.mkdtemp(dir=folder))
                try:
                    outcome = await Cell(own, scene, row).play(session, needed.get(scene.name, 0))
                finally:
                    await asyncio.to_thread(shutil.rmtree, own)
                if outcome.wrong or not outcome.missed or attempt == TRIES:
                    break
            return outcome

    async with aiohttp.ClientSession() as session:
        cells = [CELLS[name] for name in names]
        scenes = {scene.name: scene for scene, _ in cells}
        clean = await asyncio.gather(*(one(session, scene, None) for scene in scenes.values()))
        needed.update({outcome.cell: outcome.sent for outcome in clean})
        played = await asyncio.gather(*(one(session, scene, row) for scene, row in cells))
    return clean + played


def play(names: Sequence[str], folder: str) -> list[Outcome]:
    """Play the cells with these names, many at once; scenes without a fault come first, and tell what is needed."""
    return asyncio.run(_play_all(names, Path(folder)))
