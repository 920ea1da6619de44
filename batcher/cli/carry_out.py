"""What the commands that work on a batch have in common: log, manifest, settings, progress, signals, notifications, errors.

In: flags and the work itself. Out: the work's report, or the process's end where it cannot be done. Called by `run`, `collect`,
`clean` and `abort`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, Protocol

from ..core.errors import BatcherError
from ..core.events import Events
from ..core.model import Manifest
from ..core.report import Report
from ..reporting.progress import style_of
from ..service.credentials import Mask
from ..settings import Settings
from . import output, setup
from .afterwards import Afterwards, load_failed
from .flags import CommonFlags
from .interrupts import Started, watched


class Act(Protocol):
    """The work: a function of the API, or one that keeps what it returns."""

    def __call__(
        self, manifest: Manifest, settings: Settings, /, *, report: Report, started: Started, events: Events
    ) -> Coroutine[Any, Any, object]: ...


def carry_out(
    given: CommonFlags, command: str, act: Act, options: Mapping[str, Any], *, metrics: str | None = None, notify: bool = False
) -> Report:
    """Load the manifest, and do the work. `notify`: it may take long, so progress is drawn, and whoever the manifest names is
    notified, with the file of metrics; `metrics`: the flag's. Exits where the manifest is wrong, or with an error."""
    mask = Mask()
    events = setup.open_log(given, mask)
    try:
        with load_failed(events, given.manifest):
            manifest = setup.load(given, options)
        work = partial(act, manifest, setup.settings(given, options, mask, manifest), events=events)
        if not notify:
            return asyncio.run(watched(work, manifest, "none", Afterwards(manifest, events, mask, command)))
        after = Afterwards.of(manifest, events, mask, command, metrics, given.ca_file)
        style = style_of(given.progress, given.quiet or given.as_json, output.dumb())
        return asyncio.run(watched(work, manifest, style, after))
    except BatcherError as error:
        output.exit_for(error, given.manifest, given.as_json, quiet=given.quiet)
