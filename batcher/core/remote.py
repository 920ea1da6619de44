"""What the service shows, as frozen values.

In: nothing. Out: `RemoteFlow`, `RemoteInput`, `RemoteOutput`, `Arrived`, `Template`, `Listing`. Made by the client at the
edge, read by the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .model import JSON
from .rows import row
from .tags import FlowTag

# Not among the service's documented states: others keep what was deleted for a while, and show it.
GONE_STATES: Final = frozenset({"deleted", "deleting", "removed", "removing", "purged"})


@dataclass(frozen=True, slots=True)
class RemoteFlow:
    """A flow as the service shows it. `state` is lower case, "" where none is shown; `progress` is 0 to 1; `finished`: an
    end time is set, whatever the state says; `reason` is its own word on why it is so, harmless to print."""

    flow_id: str
    state: str
    template: str
    tag: FlowTag | None
    progress: float = 0.0
    finished: bool = False
    reason: str = ""

    @property
    def unstarted(self) -> bool:
        """Whether nothing shows that it was started: it was not, or no state is shown."""
        return self.state in ("created", "")

    @property
    def gone(self) -> bool:
        """Whether it was deleted, though it is still shown: neither started nor to be started, as if it were not there."""
        return self.state in GONE_STATES


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
class StartReply:
    """What a start was answered with, by a 2xx. `state` is lower case, "" where none is shown; `error` is the service's word
    for what went wrong, "" where it names nothing."""

    state: str
    error: str = ""

    @property
    def started(self) -> bool:
        """Whether the reply itself says so. Else the flow's state has to be asked for before the start counts."""
        return not self.error and self.state in ("starting", "started", "queued", "running", "processing", "completed")


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


@dataclass(frozen=True, slots=True)
class Listing:
    """A list that was read as far as it leads. It proves what it showed; that something is not there only where it is `whole`.

    `why` says what speaks against that, as the end of "the list is not whole: …". A list that is cut off without a word
    passes for whole: whoever acts on an absence also holds it against what is known to be there."""

    whole: bool = True
    why: str = ""
