"""`batcher clean`: in: a manifest; out: flows of its batch that were never started, listed, and deleted with --yes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from ..api import clean
from ..core.errors import BatcherError
from ..core.report import Report
from ..service.credentials import Mask
from . import common
from .afterwards import Afterwards, load_failed


@click.command("clean", short_help="delete flows that were never started")
@common.common
@click.option("--yes", is_flag=True, help="delete them")
def command(
    manifest: str, endpoint: str | None, state: Path | None, ca_file: str | None, as_json: bool, quiet: bool,
    verbose: bool, log_format: str, log_file: str | None, progress: str, yes: bool,
) -> None:  # fmt: skip
    """List the flows of MANIFEST's batch on the service that were never started; with --yes, delete them.

    Flows that are no longer in the manifest are among them. Started flows are never touched.
    """
    mask = Mask()
    events = common.open_log(log_file, log_format, verbose, mask)
    found: list[tuple[str, str]] = []
    try:
        with load_failed(events, manifest):
            loaded = common.load(manifest, endpoint, as_json)
        settings = replace(common.settings(state=state, ca_file=ca_file), key=partial(common.read_key, mask))

        async def work(*, report: Report, started: common.Started) -> None:
            found.extend((await clean(loaded, settings, yes, report=report, started=started, events=events))[0])

        after = Afterwards(loaded, events, mask, "clean")
        report = asyncio.run(common.watched(work, loaded, "none", after))
    except BatcherError as error:
        common.exit_for(error, manifest, as_json)
    if as_json:
        unstarted = [{"flow_id": flow_id, "flow": name} for flow_id, name in found]
        common.out(common.document(report.json() | {"unstarted": unstarted, "deleted": yes}))
    elif not quiet:
        for flow_id, name in found:
            common.out(common.harmless(f"{flow_id}  {name}").replace("\n", "\\n"))
        what = "deleted" if yes else "never started; --yes deletes them" if found else "never started"
        common.out(f"{len(found)} flows {what}")
    common.finish(report, False)
