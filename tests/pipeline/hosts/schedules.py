"""One schedule: several owners bring a batch to done, and what the service says of it then.

In: what was drawn (`Schedule`). Out: what is wrong, in words; nothing, where all is as it was promised. The stages, the crew's
run and the limiter are the real ones; only what they ask of the world lies in memory, in a time of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from batcher.core.model import ABSENT, JSON, Absent, Flow, Input, Limits, Manifest, Place, Problem, TextSource
from batcher.core.planning import Options
from batcher.core.report import Report
from batcher.pipeline.build import Build
from batcher.pipeline.operation import Operation
from batcher.service.byte_budget import ByteBudget
from batcher.service.limiter import Limiter
from batcher.service.pace import Pace
from batcher.sources.dispatch import AllSources

from .crew import MOST, MemoryCrew, Session
from .database import Database, FencedJournal, Rules
from .disturbances import Disturbances, Host, Plan
from .frozen_loop import Loop
from .service import TIMEOUT_S, Remote, Service

HERE = Place("m.yaml", 1, 1)
SETTLE_S = 3.0
LEASE_S = 5.0
RETRIES = 2
Asset = tuple[str, str]  # the text, and `additional` without the tag


@dataclass(frozen=True)
class Pause:
    """Owner number `owner` is frozen, or cut off from the database, `at_s` seconds after the beginning."""

    owner: int
    at_s: float
    seconds: float
    cut: bool


@dataclass(frozen=True)
class Schedule:
    """`begins_s`: when each owner begins. `bare`: the second input of each flow cannot carry a tag.

    `runs_s`: so long a flow runs once it was started; longer than any deletion is on its way. A start that is done later than
    the settling time, between the look at its flow and the deletion, is seen then, for what runs is not deleted. One that has
    ended by then would be: the service has no deletion that depends on a state."""

    flows: int = 1
    inputs: int = 1
    bare: bool = False
    begins_s: tuple[float, ...] = (0.0, 0.0)
    plan: Plan = field(default_factory=dict)
    pauses: tuple[Pause, ...] = ()
    runs_s: float = 1e9
    seed: int = 0
    memory_bytes: int = 64 << 20


class _Clock:
    def __init__(self, loop: Loop) -> None:
        self.wall = self.steady = loop.tick

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Build(Build):
    """The templates are known: they are asked for in the planner's thread, and here there is but one."""

    def _templates(self) -> dict[str, tuple[str, ...] | None]:  # type: ignore[override]
        return {"t": ("text/plain",)}


@dataclass
class World:
    """What the owners share, and what came of it."""

    schedule: Schedule
    rules: Rules
    loop: Loop

    def __post_init__(self) -> None:
        self.disturbances = Disturbances(self.schedule.plan)
        self.database = Database(SETTLE_S, self.rules)
        self.session = Session(self.database)
        self.service = Service(self.loop, SETTLE_S, self.schedule.runs_s)
        self.reports: list[Report] = []

    # ---- what is meant

    def _inputs(self, flow: int) -> Iterator[Input | Problem]:
        for number in range(self.schedule.inputs):
            additional: JSON | Absent = [flow, number] if number and self.schedule.bare else ABSENT
            text = f"a chair, {flow} {number}"
            yield Input(text, TextSource(text), None, additional, HERE)

    def _flows(self) -> Iterator[Flow | Problem]:
        for number in range(self.schedule.flows):
            yield Flow(f"f{number}", "t", None, {}, None, HERE, lambda number=number: self._inputs(number))

    def meant(self) -> dict[str, Counter[Asset]]:
        return {
            flow.name: Counter((item.source.text, _extra(None if item.additional is ABSENT else item.additional))
                               for item in flow.inputs())
            for flow in self._flows()
        }  # fmt: skip

    # ---- owners

    async def play(self) -> list[str]:
        """What is wrong."""
        hosts = [Host(f"owner {number}", self.loop, self.disturbances) for number in range(len(self.schedule.begins_s))]
        for pause in self.schedule.pauses:
            if pause.owner < len(hosts):
                host = hosts[pause.owner]
                self.loop.call_later(pause.at_s, self._pause, host, pause)
        runs = [
            self.loop.create_task(self._run(host, at_s), context=host.owner.context)
            for host, at_s in zip(hosts, self.schedule.begins_s, strict=True)
        ]
        await asyncio.gather(*runs)
        await asyncio.sleep(max(0.0, self.service.last_arrival - self.loop.time()) + 1.0)
        calm = Host("the last", self.loop, Disturbances({}))
        await self.loop.create_task(self._run(calm, 0.0), context=calm.owner.context)
        return self._judge()

    def _pause(self, host: Host, pause: Pause) -> None:
        if pause.cut:
            host.cut(pause.seconds)
        else:
            host.owner.freeze(self.loop, pause.seconds)

    async def _run(self, host: Host, at_s: float) -> None:
        await asyncio.sleep(at_s)
        limits = Limits(concurrency=MOST, settle_s=SETTLE_S, timeout_s=TIMEOUT_S, retries=RETRIES,
                        memory_bytes=self.schedule.memory_bytes)  # fmt: skip
        manifest = Manifest("m.yaml", "/m.yaml", "/", "m", "memory", limits, self._flows, digest="d")
        clock, rng = _Clock(self.loop), random.Random(f"{self.schedule.seed} {host.name}")
        journal = FencedJournal(host, self.database)
        client = self.service.client(host, journal.announced)
        limiter = Limiter(MOST, RETRIES, Pace(None), rng, clock.steady)
        crew = MemoryCrew(host, self.session, LEASE_S)
        report = Report("m.yaml", "memory")
        self.reports.append(report)
        operation = Operation(manifest, Options(), journal, client, AllSources(0.0, clock.wall), clock, limiter,
                              ByteBudget(limits.memory_bytes), rng, report, crew=crew)  # fmt: skip
        await _Build(operation).run()

    # ---- the judge

    def _judge(self) -> list[str]:
        wrong = [f"sent without having announced it: {one}" for one in self.service.unannounced]
        meant = self.meant()
        started: Counter[str] = Counter()
        for flow in self.service.all.values():
            if flow.started_at is None:
                wrong += [] if flow.deleted else [f"{flow.flow_id} was left behind"]
                continue
            started[flow.tag.flow] += flow.starts
            wrong += [f"{flow.flow_id} was paid for, and deleted"] if flow.deleted else []
            wrong += _wrong_inputs(flow, meant[flow.tag.flow])
        wrong += [f"{name} was started {started[name]} times" for name in meant if started[name] != 1]
        report = self.reports[-1]
        if report.exit_code != 0:
            wrong.append(f"the last run ended with {report.exit_code}: {report.stop} {report.problems}")
        return wrong


def _wrong_inputs(flow: Remote, meant: Counter[Asset]) -> list[str]:
    shown = Counter((asset.data, _extra(asset.additional)) for asset in flow.inputs)
    late = [asset for asset in flow.inputs if asset.received_at > (flow.started_at or 0.0)]
    return [f"{flow.flow_id} was started with {dict(shown)}, of which {len(late)} came later"] * (shown != meant or bool(late))


def _extra(additional: JSON) -> str:
    """Without the tag, as it is compared."""
    if isinstance(additional, dict):
        additional = {name: value for name, value in additional.items() if name != "batcher"}
    return json.dumps(additional or None)


def play(schedule: Schedule, rules: Rules | None = None) -> list[str]:
    """What is wrong once all owners have ended, all that was late has come, and one more run has had its turn."""
    loop = Loop()
    try:
        return loop.run_until_complete(World(schedule, rules or Rules(), loop).play())
    finally:
        loop.end()
