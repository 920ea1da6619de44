"""`batcher abort`: in: a manifest; out: flows of its batch that run on the service, listed, and aborted with --yes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..api import abort
from ..core.errors import BatcherError
from ..core.report import Report
from ..pipeline.abort import Running
from ..service.credentials import Mask
from . import common
from .afterwards import Afterwards, load_failed
from .columns import counted


@click.command("abort", short_help="abort flows that run on the service")
@common.common
@click.option("--yes", is_flag=True, help="abort them")
@click.option("--only", **common.NAMES, help="only these flows (a pattern; repeatable)")
@click.option("--concurrency", type=click.IntRange(1, 1024), help="requests in flight at most")
@click.option("--rate", type=common.RATE, help="requests, as 20/s or 300/min")
@click.option("--timeout", type=common.DURATION, help="no progress on a request for this long")
@click.option("--retries", type=click.IntRange(0, 100), help="attempts after the first, per request")
def command(
    manifest: str, endpoint: str | None, state: Path | None, ca_file: str | None, as_json: bool, quiet: bool,
    verbose: bool, log_format: str | None, log_file: str | None, progress: str, yes: bool, concurrency: int | None,
    rate: float | None, timeout: float | None, retries: int | None, **options: Any,
) -> None:  # fmt: skip
    """List the flows of MANIFEST's batch that run on the service; with --yes, abort them.

    They stay paid for, and the journal keeps them as started: `collect` then ends with 13 and brings what they left. Flows
    that are no longer in the manifest are among them.
    """
    mask = Mask()
    events = common.open_log(log_file, log_format, verbose, mask)
    found: list[Running] = []
    try:
        with load_failed(events, manifest):
            loaded = common.load(manifest, endpoint, as_json, concurrency=concurrency, rate_per_s=rate,
                                 timeout_s=timeout, retries=retries)  # fmt: skip
        settings = replace(common.settings(state=state, ca_file=ca_file, **options), key=partial(common.read_key, mask))

        async def work(*, report: Report, started: common.Started) -> None:
            found.extend((await abort(loaded, settings, yes, report=report, started=started, events=events))[0])

        report = asyncio.run(common.watched(work, loaded, "none", Afterwards(loaded, events, mask, "abort")))
    except BatcherError as error:
        common.exit_for(error, manifest, as_json, quiet=quiet)
    if as_json:
        common.out(common.document(report.json() | _document(found)))
    elif not quiet:
        for each in found:
            line = f"{each.flow_id}  {each.flow}  {each.became or each.state}"
            common.out(common.harmless(line).replace("\n", "\\n"))
        common.out(_sum(found, yes))
    common.finish(report, False)


def _document(found: Sequence[Running]) -> dict[str, Any]:
    listed = [{"flow_id": each.flow_id, "flow": each.flow, "state": each.state, "became": each.became} for each in found]
    return {"running": listed, "aborted": sum(each.aborted for each in found)}


def _sum(found: Sequence[Running], yes: bool) -> str:
    if not yes:
        verb = "runs" if len(found) == 1 else "run"
        return f"{counted(len(found), 'flow')} {verb} on the service" + ("; --yes aborts what runs" if found else "")
    aborted = sum(each.aborted for each in found)
    others = f", {len(found) - aborted} not" if aborted < len(found) else ""
    return f"{counted(aborted, 'flow')} aborted{others}"
