"""What the service shows, as frozen values.

In: nothing. Out: `RemoteFlow`, `RemoteInput`, `RemoteOutput`, `Arrived`, `Template`. Made by the client at the edge, read
by the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass

from .model import JSON
from .rows import row
from .tags import FlowTag


@dataclass(frozen=True, slots=True)
class RemoteFlow:
    """A flow as the service shows it. `state` is lower case, "" where none is shown; `progress` is 0 to 1; `reason` is its own
    word on why it is so, harmless to print."""

    flow_id: str
    state: str
    template: str
    parameters: JSON
    additional: JSON
    tag: FlowTag | None
    progress: float = 0.0
    reason: str = ""


@row(frozen=True, slots=True)
class RemoteInput:
    """An asset as the service lists it; `status` is lower case."""

    asset_id: str
    status: str
    additional: JSON


@dataclass(frozen=True, slots=True)
class RemoteOutput:
    """An output as the service lists it; `status` is lower case, `additional` is its input's."""

    asset_id: str
    status: str
    additional: JSON


@dataclass(frozen=True, slots=True)
class Arrived:
    """A download that came to its end. `declared` is the type that it was said to have, "" where none was."""

    declared: str


@dataclass(frozen=True, slots=True)
class Template:
    """A template as the service offers it: input types as it spells them; None where it does not tell."""

    name: str
    types: tuple[str, ...] | None
    other_names: tuple[str, ...] = ()
