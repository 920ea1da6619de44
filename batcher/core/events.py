"""What a run emits while it goes on: one event for everything that happened, successes too. No I/O.

In: an event's name, its level, its fields. Out: whatever an `Events` makes of them; `reporting.log` writes them to a log.
Called by the pipeline and by the command line. Where nobody listens `enabled` is False, and no event is put together.

    run_begun  planned  run_ended                                   the run; `run_ended` has the counts and the exit code
    flow_created  flow_found  flow_create_unknown                   a flow gets its id
    input_accepted  input_refused  input_unknown  input_not_sent    what came of one input
    input_settled                                                   one that was unknown is on the service's list
    input_not_listed                                                one that was accepted is not on it, and is waited for
    flow_verified  flow_start_unknown  flow_started                 the service's list is right; the flow is paid for
    flow_given_up  flow_deleted                                     built anew, or left behind by a lost create
    flow_aborted                                                    as `abort` was asked to
    output_collected                                                an output is whole, in its place
    request_retried  outage_begun  outage_over  key_read_again      the wire
    concurrency_bounded                                             the limit of open files allows fewer requests at once
    claims_lost                                                     of several runs: this one was away for longer than its lease
    stopping                                                        why the run ends early
    problem                                                         as in the report, with its advice
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol, TypeAlias

from .model import JSON

Level: TypeAlias = Literal["info", "warning", "error"]


class Events(Protocol):
    """Where events go. `enabled` is looked at before anything is put together for `emit`, which raises nothing."""

    @property
    def enabled(self) -> bool: ...
    def emit(self, event: str, level: Level, fields: Mapping[str, JSON]) -> None: ...


class _Silent:
    enabled = False

    def emit(self, event: str, level: Level, fields: Mapping[str, JSON]) -> None:
        """Nobody listens."""


SILENT: Final[Events] = _Silent()
