"""`batcher clean`: in: a manifest; out: flows of its batch that were never started, listed, and deleted with --yes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from ..api import Settings, clean
from ..core.errors import BatcherError
from . import common


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
    try:
        loaded = common.load(manifest, endpoint, as_json)
        settings: Settings = common.settings(state=state, ca_file=ca_file)
        found, report = asyncio.run(clean(loaded, settings, yes))
    except BatcherError as error:
        common.exit_for(error, manifest, as_json)
    if as_json:
        common.out(json.dumps(report.json() | {"unstarted": [{"flow_id": i, "flow": n} for i, n in found], "deleted": yes}))
    elif not quiet:
        for flow_id, name in found:
            common.out(common.harmless(f"{flow_id}  {name}").replace("\n", "\\n"))
        what = "deleted" if yes else "never started; --yes deletes them" if found else "never started"
        common.out(f"{len(found)} flows {what}")
    common.finish(report, False)
