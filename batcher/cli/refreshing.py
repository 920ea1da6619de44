"""Asking the service what has become of started flows, for `status --refresh`.

In: a manifest, settings. Out: `Asked`, with what it has shown and a sentence about that; the journal keeps it, unless another
command holds it. Called by `status`, again and again where it watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from ..api import Settings, keep, refresh
from ..core.errors import Reason, Stop, UsageError
from ..core.model import Manifest, Problem
from ..core.report import Report
from ..pipeline.refresh import Refreshed
from .readable import counted, span


@dataclass(frozen=True, slots=True)
class Asked:
    """`report`: the requests, what is wrong, and why it ended early. `kept`: "" where the journal has it now, else why not."""

    found: Refreshed
    report: Report
    kept: str = ""

    @property
    def problems(self) -> Sequence[Problem]:
        return self.report.problems

    @property
    def exit_code(self) -> int:
        """Not 0 where the service could not be asked; how the flows stand is no failure."""
        return self.report.exit_code if self.report.stop is not None else 0

    @property
    def words(self) -> str:
        found, report = self.found, self.report
        if not found.asked and not found.left and report.stop is None:
            return "asked:   nothing: no started flow is open"
        stop = f": {report.stop}" if report.stop is not None else ""
        if not found.asked:
            return f"asked:   in vain{stop}"
        text = (f"asked:   about {counted(found.asked, 'flow')}, {counted(report.requests.sent, 'call')} in "
                f"{span(report.elapsed_s)}; {len(found.changed):,} in another state than before")  # fmt: skip
        text += f"; {found.left:,} not asked about" if found.left else ""
        text += f"; not kept: {self.kept}" if self.kept else ""
        return text + stop


def ask(manifest: Manifest, settings: Settings, *, only_changes: bool = False) -> Asked:
    """Ask, and keep. `only_changes`: the journal is not opened for flows that only have come further. Raises JournalError;
    KeyboardInterrupt where it is cut short."""
    try:
        found, report = asyncio.run(refresh(manifest, settings))
    except UsageError as error:
        report = Report(manifest.name, manifest.endpoint)
        report.stop = Stop(Reason.USAGE, error.message, error.hint)
        return Asked(Refreshed(), report)
    if only_changes and not found.changed:
        return Asked(found, report)
    try:
        kept = asyncio.run(keep(manifest, settings, found))
    except UsageError as error:  # a folder that may not be written
        return Asked(found, report, error.message)
    return Asked(found, report, "" if kept else "a run or a collect holds the journal")
