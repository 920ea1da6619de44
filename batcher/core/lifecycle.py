"""What a flow and an input may go through, as two tables; an event that is not in them raises.

In: a state and an event. Out: the next state. Called by whoever records progress, before it is recorded.
Model: h11's `_state.py`. The pictures in docs/architecture.md are made by `diagram`, so they cannot differ from the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, TypeVar

_State = TypeVar("_State", bound=Enum)
_Event = TypeVar("_Event", bound=Enum)


class FlowState(Enum):
    """Where a flow stands; the values are what the journal stores."""

    PLANNED = "planned"  # nothing of it is on the service, as far as we know
    CREATING = "creating"  # a create is announced; its reply has not been seen
    OPEN = "open"  # it has an id and takes inputs
    STARTING = "starting"  # a start is announced; its reply has not been seen
    STARTED = "started"  # paid for; never again without being asked


class FlowEvent(Enum):
    ANNOUNCE_CREATE = "announce create"  # durable before the POST leaves
    CREATED = "created"  # by its reply, by the list, or given as `flow_id`
    NOT_CREATED = "not created"  # refused, not sent, or not seen after the settling time
    ABANDON = "give up"  # what is on the service is to be deleted; built anew
    ANNOUNCE_START = "announce start"  # durable before the PATCH leaves
    START_SEEN = "start seen"  # by its reply, or by the flow's state
    NOT_STARTED = "not started"  # refused, not sent, or answered with an error and not shown by the state
    REDO = "redo"  # asked for by the user: paid for again


class InputState(Enum):
    PENDING = "pending"  # to be sent
    SENDING = "sending"  # announced; the outcome has not been seen
    ACCEPTED = "accepted"  # the service said so, or its list shows it
    UNKNOWN = "unknown"  # it may have arrived, or may yet arrive
    REFUSED = "refused"  # the service said no


class InputEvent(Enum):
    ANNOUNCE = "announce"  # durable before the POST leaves
    ACCEPT = "accept"
    REFUSE = "refuse"
    LOSE = "lose"  # no reply, or one that cannot be read
    NOT_SENT = "not sent"  # the body did not leave completely, or it may be sent again


_F, _FE, _I, _IE = FlowState, FlowEvent, InputState, InputEvent

FLOW: Final[dict[tuple[FlowState, FlowEvent], FlowState]] = {
    (_F.PLANNED, _FE.ANNOUNCE_CREATE): _F.CREATING,
    (_F.PLANNED, _FE.CREATED): _F.OPEN,  # adopted, or given by its id
    (_F.PLANNED, _FE.START_SEEN): _F.STARTED,  # adopted
    (_F.CREATING, _FE.CREATED): _F.OPEN,
    (_F.CREATING, _FE.NOT_CREATED): _F.PLANNED,
    (_F.OPEN, _FE.ABANDON): _F.PLANNED,
    (_F.OPEN, _FE.ANNOUNCE_START): _F.STARTING,
    (_F.STARTING, _FE.START_SEEN): _F.STARTED,
    (_F.STARTING, _FE.NOT_STARTED): _F.OPEN,
    (_F.STARTING, _FE.ABANDON): _F.PLANNED,  # still `created` after the settling time, and nobody answered
    (_F.STARTED, _FE.REDO): _F.PLANNED,
}

INPUT: Final[dict[tuple[InputState, InputEvent], InputState]] = {
    (_I.PENDING, _IE.ANNOUNCE): _I.SENDING,
    (_I.REFUSED, _IE.ANNOUNCE): _I.SENDING,  # a later run tries again
    (_I.SENDING, _IE.ACCEPT): _I.ACCEPTED,
    (_I.SENDING, _IE.REFUSE): _I.REFUSED,
    (_I.SENDING, _IE.LOSE): _I.UNKNOWN,
    (_I.SENDING, _IE.NOT_SENT): _I.PENDING,
    (_I.UNKNOWN, _IE.ACCEPT): _I.ACCEPTED,  # seen on the list
    (_I.UNKNOWN, _IE.REFUSE): _I.REFUSED,  # seen on the list, with an error
    (_I.UNKNOWN, _IE.NOT_SENT): _I.PENDING,  # answered and not seen: may be sent again
    (_I.ACCEPTED, _IE.REFUSE): _I.REFUSED,  # accepted, then in error on the list
}


class IllegalTransition(Exception):
    """An event that the state does not allow: a bug of ours (exit code 1), never the user's or the service's fault."""


def flow_next(state: FlowState, event: FlowEvent) -> FlowState:
    """The flow's next state. Raises IllegalTransition."""
    try:
        return FLOW[state, event]
    except KeyError:
        raise IllegalTransition(f"a flow that is {state.value} cannot take “{event.value}”") from None


def input_next(state: InputState, event: InputEvent) -> InputState:
    """The input's next state. Raises IllegalTransition."""
    try:
        return INPUT[state, event]
    except KeyError:
        raise IllegalTransition(f"an input that is {state.value} cannot take “{event.value}”") from None


def diagram(table: Mapping[tuple[_State, _Event], _State], first: _State) -> str:
    """One of the tables as a Mermaid state diagram, one transition a line, from the state that everything begins in."""
    lines = ["stateDiagram-v2", f"    [*] --> {first.value}"]
    lines += [f"    {a.value} --> {b.value}: {event.name.lower().replace('_', ' ')}" for (a, event), b in table.items()]
    return "\n".join(lines)
