"""What the service shows, as frozen values.

In: nothing. Out: `RemoteFlow`, `RemoteInput`, `Template`. Made by the client at the edge, read by the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass

from .model import JSON
from .rows import row
from .tags import FlowTag


@dataclass(frozen=True, slots=True)
class RemoteFlow:
    """A flow as the service shows it. `state` is lower case, "" where none is shown."""

    flow_id: str
    state: str
    template: str
    parameters: JSON
    additional: JSON

    tag: FlowTag | None


@row(frozen=True, slots=True)
class RemoteInput:
    """An asset as the service lists it; `status` is lower case."""

    asset_id: str
    status: str
    additional: JSON


@dataclass(frozen=True, slots=True)
class Template:
    """A template as the service offers it: input types as it spells them; None where it does not tell."""

    name: str
    types: tuple[str, ...] | None
    other_names: tuple[str, ...] = ()
