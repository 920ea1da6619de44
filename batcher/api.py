"""The public API: load a manifest, plan it, run it, collect what came of it.

In: paths, an environment, flags as `Settings`. Out: `Manifest`, `Survey`, `Report`. Called by users of the package and by
the command line, which alone reads the environment, draws, and picks exit codes. It joins the edges to the pipeline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from .core.abandoning import Unstarted
from .core.collecting import CollectOptions
from .core.errors import Reason, Stop, UsageError
from .core.events import SILENT, Events
from .core.model import SANDBOX, Limits, Manifest, Problem
from .core.output_names import DEFAULT_NAME, parse_name
from .core.planning import FlowPlan, Options
from .core.report import Report
from .core.retry import Verdict
from .host.process import is_journal, opening_a_journal, requests_at_once, require_utf8
from .journal.memory import MemoryJournal
from .journal.open import empty_journal, journal_path, open_journal, read_journal, read_sibling, state_folder
from .journal.ports import Journal, JournalView
from .journal.siblings import own_path, siblings
from .outputs.folder import OutputFolder
from .pipeline.abort import Running
from .pipeline.build import Build
from .pipeline.flow_list import FlowList, unknown_flows
from .pipeline.operation import Operation
from .pipeline.renamed import sent_before
from .pipeline.survey import Survey
from .pipeline.unknown_flows import problem_of_list
from .service.bandwidth import Bandwidth
from .service.byte_budget import ByteBudget
from .service.client import FlowsApi
from .service.credentials import Key
from .service.limiter import Limiter
from .sources.dispatch import AllSources
from .sources.images import Images


@dataclass(frozen=True, slots=True)
class Settings:
    """What flags say beyond the manifest. `key` is asked for the API key (None: no key), and again after each 401; where it
    has no other one, so long as `key_wait_s` says, for a file may be replaced a moment late. `max_duration_s` is one deadline
    for the whole run (None: the manifest's). `state`: the folder of the journal (None: `.batcher` beside the manifest)."""

    options: Options = field(default_factory=Options)
    key: Callable[[], str | None] = lambda: None
    state: Path | None = None
    ca_file: str | None = None
    max_duration_s: float | None = None
    key_wait_s: float = 0.0


class SystemClock:
    """The machine's own time."""

    wall = staticmethod(time.time)
    steady = staticmethod(time.monotonic)
    sleep = staticmethod(asyncio.sleep)


def load_manifest(
    path: str | os.PathLike[str], *, env: Mapping[str, str] | None = None, endpoint: str | None = None
) -> Manifest:
    """Read a manifest. `env` is what `${NAME}` means (None: nothing). Raises ManifestError with all that is wrong, and
    UsageError in a process whose names of files are not UTF-8: there the same files would be others."""
    from .manifest import load  # pydantic costs 100 ms

    require_utf8()
    return load(path, env if env is not None else {}, endpoint=endpoint)


def _fitting(manifest: Manifest, events: Events = SILENT) -> Manifest:
    """The same with no more requests at once than this process can open files for; told where they are fewer. Raises
    UsageError where it is no place to work in. Before a journal is opened: it needs some of them."""
    require_utf8()
    limits = manifest.limits
    most = requests_at_once(limits.concurrency, sandbox=manifest.endpoint == SANDBOX)
    if most < limits.concurrency and events.enabled:
        events.emit("concurrency_bounded", "warning", {"concurrency": most, "wanted": limits.concurrency})
    return replace(manifest, limits=replace(limits, concurrency=most))


def _renamed(manifest: Manifest, state: Path | None) -> Problem | None:
    """That the manifest's journal knows nothing, and another one knows its files as sent: in a thread, before a write."""
    folder, shared = state_folder(manifest, state), state is not None
    if journal_path(manifest, state) != own_path(manifest, folder, shared=shared):
        return None  # it goes on with the one that knows them
    for other in siblings(manifest, folder, shared=shared):
        if not other.gone and other.batch != manifest.batch:
            continue  # a copy is a batch of its own
        with closing(read_sibling(other)) as journal, closing(AllSources(0.0, time.time)) as sources:
            flow = sent_before(manifest, journal, sources)
        if flow is None:
            continue
        was = os.path.basename(other.manifest) if other.here else other.manifest
        knows = f"its journal knows the flow “{flow.name}” as {'started' if flow.started else 'begun'}, from the same files"
        away = f"; to {'pay for all of it again' if flow.started else 'begin all of it anew'}, move {other.path} away"
        if not other.gone:
            return Problem("unsettled", f"the batch “{manifest.batch}” is that of {was}: {knows}",
                           f"give this one another `batch`{away}")  # fmt: skip
        hint = f"name it {was} again"
        if other.here and (other.told or manifest.batch == Path(manifest.path).stem):
            hint = f"write `batch: {json.dumps(other.batch, ensure_ascii=False)}` into it to go on with that journal, or {hint}"
        return Problem("unsettled", f"this manifest was {was}, which is gone: {knows}", hint + away)
    return None


@contextlib.asynccontextmanager
async def _endpoint(manifest: Manifest, state: Path | None) -> AsyncIterator[str]:
    """The URL to talk to: the manifest's, or that of a sandbox that lives as long as this."""
    if manifest.endpoint != SANDBOX:
        yield manifest.endpoint
        return
    from .sandbox import Sandbox  # only where it is asked for

    async with contextlib.AsyncExitStack() as stack:
        try:
            state_folder(manifest, state).mkdir(mode=0o700, parents=True, exist_ok=True)
            sandbox = await stack.enter_async_context(Sandbox(state_folder(manifest, state) / "sandbox"))
        except BlockingIOError:
            raise UsageError("the embedded sandbox is in use by another command", "wait for it to end") from None
        except OSError as error:
            raise UsageError(f"the embedded sandbox cannot be served: {error}", "see --state") from error
        yield sandbox.url


@contextlib.asynccontextmanager
async def _ports(
    manifest: Manifest, settings: Settings, journal: Journal, report: Report, *, remember: bool = False, plans: bool = True,
    events: Events = SILENT,
) -> AsyncIterator[Operation]:
    """All but the journal open, as long as this."""
    manifest = manifest.knowing(journal)
    limits = manifest.limits
    rng = random.Random()
    clock = SystemClock()
    limiter = Limiter(limits.concurrency, limits.retries, limits.rate_per_s, rng, clock.steady)
    sources = AllSources(limits.min_age_s, clock.wall)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(sources.close)
        images = None
        if plans and (limits.check_images or limits.max_pixels is not None):
            memory = journal_path(manifest, settings.state).with_suffix(".images")
            images = Images(limits.check_images, limits.max_pixels, memory, remember=remember)
            stack.callback(images.close)
        url = await stack.enter_async_context(_endpoint(manifest, settings.state))
        bandwidth = Bandwidth(limits.bandwidth_bytes_per_s, clock.steady)
        client = FlowsApi(url, Key(settings.key), timeout_s=limits.timeout_s, connections=limits.concurrency,
                          bandwidth=bandwidth, ca_file=settings.ca_file, rate_per_s=limits.rate_per_s)  # fmt: skip
        await stack.enter_async_context(client)
        yield Operation(manifest, settings.options, journal, client, sources, clock, limiter,
                      ByteBudget(limits.memory_bytes), rng, report, images, events,
                      key_wait_s=settings.key_wait_s)  # fmt: skip


async def run(
    manifest: Manifest,
    settings: Settings = Settings(),  # frozen
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
    manifest's `notify` and `metrics` are the command line's: a caller has the report. Raises Locked, JournalError, UsageError.
    """
    report = report or Report(manifest.name, manifest.endpoint)
    if journal is None and (problem := await asyncio.to_thread(_renamed, manifest, settings.state)) is not None:
        report.add(problem)
        return report
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(contextlib.closing(OutputFolder(Path(collect_to)))) if collect_to is not None else None
        async with _operation(manifest, settings, journal, report, started, events) as operation:
            build = Build(operation)
            await build.run()
            limit = report.stop if report.stop is not None and report.stop.reason is Reason.LIMIT else None
            if folder is not None and report.stop is limit and "manifest" not in report.kinds:
                report.stop = None  # what was started is collected
                options = CollectOptions(parse_name(DEFAULT_NAME), accept_fewer=accept_fewer)
                await build.collector(folder, options).run()
                report.stop = report.stop or limit
    return report


async def collect(
    manifest: Manifest,
    to: str | os.PathLike[str],
    settings: Settings = Settings(),  # frozen
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
    """Wait for the flows that were started, and bring their outputs to the folder `to`; the report's `outputs` and
    `ends` say what came of it, `to`/results.jsonl which output came from which source.

    `name`: a pattern of {flow} {stem} {suffix} {name} {parent} {index} {asset_id}. `wait_s` bounds the waiting (None: until
    all have ended; 0: what is there now). `delete_remote`: delete each completed flow from the service once all of its
    outputs are verified on disk. `accept_fewer`: a completed flow that lists fewer outputs than it has inputs is whole
    nevertheless, from now on; else that is a problem, and the next collect looks again. The other arguments as in `run`. Raises
    Locked, JournalError, UsageError.
    """
    report = report or Report(manifest.name, manifest.endpoint)
    options = CollectOptions(parse_name(name), wait_s, delete_remote, accept_fewer)
    if journal is None:
        _known_journal(manifest, settings)
    with contextlib.closing(OutputFolder(Path(to))) as folder:
        async with _operation(manifest, settings, journal, report, started, events) as operation:
            await Build(operation).collector(folder, options).run()
    return report


@contextlib.asynccontextmanager
async def _operation(
    manifest: Manifest, settings: Settings, journal: Journal | None, report: Report, started: Callable[[Operation], None],
    events: Events, *, plans: bool = True,
) -> AsyncIterator[Operation]:  # fmt: skip
    """The journal held, the edges open, the deadline set."""
    manifest = _fitting(manifest, events)
    own = None
    if journal is None:
        journal = own = open_journal(manifest, settings.state)
    try:
        async with _ports(manifest, settings, journal, report, remember=True, plans=plans, events=events) as operation:
            started(operation)
            timer = None
            seconds = settings.max_duration_s if settings.max_duration_s is not None else manifest.limits.max_duration_s
            if seconds is not None:
                stop = Stop(Reason.DEADLINE, f"the max_duration of {seconds:g} s is over", "run again: it resumes")
                timer = asyncio.get_running_loop().call_later(seconds, operation.halt, stop)
            try:
                yield operation
            finally:
                if timer is not None:
                    timer.cancel()
    finally:
        if own is not None:
            own.close()


async def plan(
    manifest: Manifest,
    settings: Settings = Settings(),  # frozen
    each: Callable[[FlowPlan], None] = lambda plan: None,
) -> tuple[Survey, Report]:
    """The decisions that `run` would take, without a write: `each` sees every flow's plan. Asks for the templates."""
    manifest = _fitting(manifest)
    report = Report(manifest.name, manifest.endpoint)
    with opening_a_journal():
        journal = read_journal(manifest, settings.state, next_run=True) or empty_journal()
    quick = replace(manifest, limits=replace(manifest.limits, retries=0))
    try:
        async with _ports(quick, settings, journal, report) as operation:  # type: ignore[arg-type]  # only read
            build = Build(operation)
            try:
                found = await asyncio.to_thread(build.surveyor.survey, each)
            except Stop as stop:  # the templates cannot be asked for
                report.stop = None
                raise UsageError(stop.message, stop.hint) from stop
            found.problems += found.over_caps(manifest.limits)
            if (problem := await asyncio.to_thread(_renamed, manifest, settings.state)) is not None:
                found.problems.append(problem)
            if found.works and not journal.unknown_flows_checked and not found.problems:
                found.problems += await _unknown_flows(build.flow_list, journal, manifest.batch)
    finally:
        journal.close()
    for problem in [*found.problems, *operation.manifest.notes(False)]:
        report.add(problem)
    return found, report


async def _unknown_flows(flow_list: FlowList, journal: JournalView, batch: str) -> list[Problem]:
    """That the service has flows of the batch which the journal does not know, or does not show whether it has. Raises
    UsageError where it cannot be asked."""
    try:
        listed = await flow_list.read()
    except Stop as stop:
        raise UsageError(stop.message, stop.hint) from stop
    if isinstance(listed, Verdict):
        raise UsageError(f"the service's flows cannot be listed: {listed.message}", "run again later")
    problem = problem_of_list(batch, listed, unknown_flows(journal, listed))
    return [problem] if problem is not None else []


async def clean(
    manifest: Manifest, settings: Settings, delete: bool, *, report: Report | None = None,
    started: Callable[[Operation], None] = lambda operation: None, events: Events = SILENT,
) -> tuple[list[Unstarted], Report]:  # fmt: skip
    """The batch's flows on the service that were never started; deleted where `delete` says so, as far as that can be done."""
    report = report or Report(manifest.name, manifest.endpoint)
    async with _operation(manifest, settings, None, report, started, events, plans=False) as operation:
        return await operation.shutdown.in_time(Build(operation).cleanup.clean(delete)), report


async def abort(
    manifest: Manifest, settings: Settings, yes: bool, *, report: Report | None = None,
    started: Callable[[Operation], None] = lambda operation: None, events: Events = SILENT,
) -> tuple[list[Running], Report]:  # fmt: skip
    """The batch's flows that run on the service, as the journal knows them; aborted where `yes` says so. The journal keeps
    them as started: they are paid for. Raises Locked, JournalError, UsageError."""
    report = report or Report(manifest.name, manifest.endpoint)
    _known_journal(manifest, settings)
    async with _operation(manifest, settings, None, report, started, events, plans=False) as operation:
        return await Build(operation).abort().run(yes), report


def _known_journal(manifest: Manifest, settings: Settings) -> None:
    """Raises UsageError where nothing was run yet."""
    path = journal_path(manifest, settings.state)
    if not is_journal(path):
        raise UsageError(f"there is no journal at {path}: nothing was run here for {manifest.endpoint}",
                         "batcher run comes first; --state and --endpoint as there")  # fmt: skip


__all__ = [
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
    "load_manifest",
    "plan",
    "run",
]  # fmt: skip
