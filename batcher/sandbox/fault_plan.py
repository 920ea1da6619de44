"""Which fault strikes which request.

In: faults, a seed, and the requests as they come. Out: one `Chosen` per request: a latency, gates to pass, and at
most one fault. It counts calls, so it is made anew when the faults are replaced. Called by `server`; no I/O.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from .faults import CALLS, Fault


class Gate:
    """The `capacity` of a fault: how many requests may be inside. What waits costs nothing."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._places = asyncio.Semaphore(fault.value)

    async def enter(self) -> bool:
        """False: full, and the fault says that more are refused."""
        if self.fault.over != "queue" and self._places.locked():
            return False
        await self._places.acquire()
        return True

    def leave(self) -> None:
        self._places.release()


@dataclass(slots=True)
class Chosen:
    """What happens to one request."""

    latency_s: float = 0.0
    fault: Fault | None = None
    gates: Sequence[Gate] = ()


NOTHING = Chosen()


@dataclass(slots=True)
class _Counted:
    """A fault and what it has seen. Calls and strikes are counted from 1."""

    fault: Fault
    rng: random.Random
    gate: Gate | None
    seen: int = 0
    struck: int = 0

    def strikes(self, flow_text: str) -> bool:
        fault = self.fault
        if fault.flow is not None and fault.flow not in flow_text:
            return False
        self.seen += 1
        if (
            (fault.nth is not None and self.seen != fault.nth)
            or (fault.every is not None and self.seen % fault.every)
            or (fault.first is not None and self.seen > fault.first)
            or (fault.after is not None and self.seen <= fault.after)
            or (fault.count is not None and self.struck >= fault.count)
            or (fault.p is not None and self.rng.random() >= fault.p)
        ):
            return False
        self.struck += 1
        return True


@dataclass(slots=True)
class Plan:
    """The faults in their order: the first that strikes wins, latencies add up, gates are all passed."""

    faults: Sequence[Fault] = ()
    seed: int = 0
    _by_call: dict[str, list[_Counted]] = field(default_factory=dict)
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        for index, fault in enumerate(self.faults):
            gate = Gate(fault) if fault.effect == "capacity" else None
            # Each fault has its own chance, so that adding one does not move the others.
            counted = _Counted(fault, random.Random(f"{self.seed}:{index}"), gate)
            for call in fault.calls or CALLS:
                self._by_call.setdefault(call, []).append(counted)

    def wants_flow(self, call: str) -> bool:
        """Whether a fault for this call asks which flow it is about."""
        return any(counted.fault.flow is not None for counted in self._by_call.get(call, ()))

    def choose(self, call: str, flow_text: str = "") -> Chosen:
        """Counts the request and decides; `flow_text` holds the flow's id and `additional`."""
        candidates = self._by_call.get(call)
        if not candidates:
            return NOTHING
        chosen, gates = Chosen(), []
        for counted in candidates:
            if chosen.fault is not None and counted.gate is None and counted.fault.effect:
                continue  # the first one wins; a later one has not seen this call
            if not counted.strikes(flow_text):
                continue
            chosen.latency_s += counted.fault.latency_s
            if counted.gate is not None:
                gates.append(counted.gate)
            elif counted.fault.effect:
                chosen.fault = counted.fault
        chosen.gates = gates
        return chosen

    def as_json(self) -> list[dict[str, object]]:
        """The faults with their counts, each once."""
        unique = {id(counted): counted for each in self._by_call.values() for counted in each}
        return [
            {"fault": counted.fault.text, "seen": counted.seen, "struck": counted.struck}
            for counted in sorted(unique.values(), key=lambda counted: self.faults.index(counted.fault))
        ]
