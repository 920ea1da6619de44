"""The public API: load a manifest, plan it, run it, collect what came of it.

In: paths, an environment, flags as `Settings`. Out: `Manifest`, `Survey`, `Report`. Called by users of the package and by
the command line, which alone reads the environment, draws, and picks exit codes. `assembly` opens what they work with.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from .assembly import fitting, open_engines, opened
from .core.abandoning import Unstarted
from .core.collecting import CollectOptions
from .core.errors import Locked, Reason
from .core.events import SILENT, Events
from .core.model import Limits, Manifest, Problem
from .core.output_names import DEFAULT_NAME, parse_name
from .core.planning import FlowPlan, Options
from .core.report import Report
from .core.retry import Verdict
from .host.process import opening_a_journal
from .journal.memory import MemoryJournal
from .journal.open import at_primary, empty_journal, open_journal, read_journal, require_journal
from .journal.ports import Journal, JournalView
from .known_elsewhere import known_elsewhere
from .pipeline.build import Build
from .pipeline.flow_list import FlowList, newer_flows, no_list, unknown_flows
from .pipeline.operation import Operation
from .pipeline.survey import Survey
from .pipeline.unknown_flows import asks, problem_of_list
from .settings import DEFAULT_SETTINGS, LEASE_S, Settings, load_manifest

if TYPE_CHECKING:
    from .outputs.folder import OutputFolder
    from .outputs.objects import ObjectFolder
    from .pipeline.abort import Running
    from .pipeline.refresh import Refreshed


def _outputs(to: str | os.PathLike[str]) -> OutputFolder | ObjectFolder:
    from .outputs.opening import open_outputs  # only where something is collected

    return open_outputs(to)


def _whole(folder: str | os.PathLike[str] | None) -> str:
    """The path of a folder as it can be told from any other."""
    return os.path.abspath(folder) if folder is not None else ""


async def run(
    manifest: Manifest,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    journal: Journal | None = None,
    report: Report | None = None,
    started: Callable[[Operation], None] = lambda operation: None,
    collect_to: str | os.PathLike[str] | None = None,
    accept_fewer: bool = False,
    events: Events = SILENT,
) -> Report:
    """Bring the batch to done, and say what came of it. Call `started`'s operation's `halt` to end it early, in order.

    `journal`: another one than the SQLite file, a `MemoryJournal` for example. `collect_to`: wait for what was started,
    and bring its outputs there, as `collect` does; `accept_fewer` as there. `events` is told what happens meanwhile. The
    manifest's `notify` and `metrics` are the command line's: a caller has the report. Raises Locked, JournalError, UsageError,
    and Stop where the journal cannot be opened now.
    """
    report = report or Report(manifest.name, manifest.endpoint)
    problem = None if journal is not None else await asyncio.to_thread(known_elsewhere, manifest, at_primary(settings.state))
    if problem is not None:
        report.add(problem)
        if problem.kind != "note":
            return report
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(contextlib.closing(_outputs(collect_to))) if collect_to is not None else None
        async with opened(manifest, settings, journal, report, started, events, joins=True) as operation:
            build = Build(operation)
            await build.run()
            report.price = manifest.limits.price_per_start
            report.paid = await operation.journal.look(lambda journal: journal.count_starts())
            may_collect = report.stop is None or report.stop.reason is Reason.LIMIT
            if folder is not None and may_collect and "manifest" not in report.kinds:
                options = CollectOptions(parse_name(DEFAULT_NAME), accept_fewer=accept_fewer, folder=_whole(collect_to))
                await _collect_after_run(build, folder, options, report)
    return report


async def _collect_after_run(
    build: Build, folder: OutputFolder | ObjectFolder, options: CollectOptions, report: Report
) -> None:  # fmt: skip
    """Bring what was started. That not all was (`--max-starts`) ends the run, but not this."""
    limit, report.stop = report.stop, None
    notes = build.notes("run")
    notes.begin()
    await build.collector(folder, options).run()
    report.stop = report.stop or limit
    notes.end()


async def collect(
    manifest: Manifest,
    to: str | os.PathLike[str],
    settings: Settings = DEFAULT_SETTINGS,
    *,
    name: str = DEFAULT_NAME,
    wait_s: float | None = None,
    delete_remote: bool = False,
    accept_fewer: bool = False,
    journal: Journal | None = None,
    report: Report | None = None,
    started: Callable[[Operation], None] = lambda operation: None,
    events: Events = SILENT,
) -> Report:
    """Wait for the flows that were started, and bring their outputs to `to`, a folder or a prefix like `s3://bucket/prefix`;
    the report's `outputs` and `ends` say what came of it, `to`/results.jsonl which output came from which source.

    `name`: a pattern of {flow} {stem} {suffix} {name} {parent} {index} {asset_id}. `wait_s` bounds the waiting (None: until
    all have ended; 0: what is there now). `delete_remote`: delete each completed flow from the service once all of its
    outputs are verified on disk. `accept_fewer`: a completed flow that lists fewer outputs than it has inputs is whole
    nevertheless, from now on; else that is a problem, and the next collect looks again. The other arguments as in `run`. Raises
    Locked, JournalError, UsageError.
    """
    report = report or Report(manifest.name, manifest.endpoint)
    options = CollectOptions(parse_name(name), wait_s, delete_remote, accept_fewer, _whole(to))
    if journal is None:
        require_journal(manifest, settings.state)
    with contextlib.closing(_outputs(to)) as folder:
        async with opened(manifest, settings, journal, report, started, events, joins=True) as operation:
            build = Build(operation)
            notes = build.notes("collect")
            notes.begin()
            await build.collector(folder, options).run()
            notes.end()
    return report


async def plan(
    manifest: Manifest,
    settings: Settings = DEFAULT_SETTINGS,
    each: Callable[[FlowPlan], None] = lambda plan: None,
) -> tuple[Survey, Report]:
    """The decisions that `run` would take, without a write: `each` sees every flow's plan. Asks for the templates.
    Raises JournalError, UsageError, and Stop where the service cannot be asked."""
    manifest = fitting(manifest)
    report = Report(manifest.name, manifest.endpoint)
    with opening_a_journal():
        journal = read_journal(manifest, settings.state, next_run=True) or empty_journal()
    quick = replace(manifest, limits=replace(manifest.limits, retries=0))
    try:
        async with open_engines(quick, settings, journal, report) as operation:  # type: ignore[arg-type]  # only read
            build = Build(operation)
            found = await asyncio.to_thread(build.surveyor.survey, each)
            found.problems += found.over_caps(manifest.limits)
            notes: list[Problem] = []
            if (elsewhere := await asyncio.to_thread(known_elsewhere, manifest, settings.state)) is not None:
                (notes if elsewhere.kind == "note" else found.problems).append(elsewhere)
            if asks(found, checked=journal.unknown_flows_checked) and not found.problems:
                found.problems += await _unknown_flows(build.flow_list, journal, manifest.batch)
    finally:
        journal.close()
    for problem in [*found.problems, *notes, *operation.manifest.notes(False)]:
        report.add(problem)
    return found, report


async def _unknown_flows(flow_list: FlowList, journal: JournalView, batch: str) -> list[Problem]:
    """That the service has flows of the batch which the journal does not know, or does not show whether it has. Raises
    Stop where it cannot be asked."""
    listed = await flow_list.read()
    if isinstance(listed, Verdict):
        raise no_list(listed)
    checked = journal.unknown_flows_checked
    unknown = [] if checked else unknown_flows(journal, listed)
    problem = problem_of_list(batch, listed, unknown, newer_flows(journal, listed), checked=checked)
    return [problem] if problem is not None else []


async def clean(
    manifest: Manifest, settings: Settings, delete: bool, *, report: Report | None = None,
    started: Callable[[Operation], None] = lambda operation: None, events: Events = SILENT,
) -> tuple[list[Unstarted], Report]:  # fmt: skip
    """The batch's flows on the service that were never started; deleted where `delete` says so, as far as that can be done."""
    report = report or Report(manifest.name, manifest.endpoint)
    async with opened(manifest, settings, None, report, started, events, plans=False) as operation:
        return await operation.shutdown.in_time(Build(operation).cleanup.clean(delete)), report


async def abort(
    manifest: Manifest, settings: Settings, yes: bool, *, report: Report | None = None,
    started: Callable[[Operation], None] = lambda operation: None, events: Events = SILENT,
) -> tuple[list[Running], Report]:  # fmt: skip
    """The batch's flows that run on the service, as the journal knows them; aborted where `yes` says so. The journal keeps
    them as started: they are paid for. Raises Locked, JournalError, UsageError, and
    Stop where the journal cannot be opened now."""
    report = report or Report(manifest.name, manifest.endpoint)
    require_journal(manifest, settings.state)
    async with opened(manifest, settings, None, report, started, events, plans=False) as operation:
        return await Build(operation).abort().run(yes), report


async def refresh(manifest: Manifest, settings: Settings = DEFAULT_SETTINGS) -> tuple[Refreshed, Report]:
    """Ask the service what has become of the flows that were started. It only reads, and the journal stays as it is: `keep`
    writes what was learned. Raises JournalError, UsageError."""
    manifest = fitting(manifest)
    report = Report(manifest.name, manifest.endpoint)
    with opening_a_journal():
        journal = read_journal(manifest, settings.state)
    if journal is None:
        from .pipeline.refresh import Refreshed

        return Refreshed(), report
    quick = replace(manifest, limits=replace(manifest.limits, retries=min(1, manifest.limits.retries)))
    with closing(journal):
        async with open_engines(quick, settings, journal, report, plans=False) as operation:  # type: ignore[arg-type]  # only read
            return await Build(operation).refresh().run(), report


async def keep(manifest: Manifest, settings: Settings, found: Refreshed) -> bool:
    """Write what was learned into the journal; False where another command holds it. Raises JournalError, UsageError."""
    if not found.rows:
        return True
    try:
        journal = open_journal(manifest, settings.state, exclusive=False)
    except Locked:
        return False
    with closing(journal):
        await journal.record(*found.records(journal.ends(list(found.rows))))
    return True


__all__ = [
    "LEASE_S",
    "Limits",
    "Manifest",
    "MemoryJournal",
    "Options",
    "Report",
    "Settings",
    "Survey",
    "abort",
    "clean",
    "collect",
    "keep",
    "load_manifest",
    "plan",
    "refresh",
    "run",
]  # fmt: skip
