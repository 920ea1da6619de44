"""`batcher clean`: in: a manifest; out: flows of its batch that were never started, listed, and deleted with --yes."""

from __future__ import annotations

from typing import Any

import click

from ...api import Settings, clean
from ...core.model import Manifest
from .. import flags, output
from ..carry_out import carry_out


@flags.command("clean", "delete flows that were never started", idle=flags.NO_PROGRESS)
@click.option("--yes", is_flag=True, help="delete them")
def command(given: flags.CommonFlags, yes: bool) -> None:
    """List the flows of MANIFEST's batch on the service that were never started; with --yes, delete them.

    Flows that are no longer in the manifest are among them. Started flows are never touched.
    """
    found: list[tuple[str, str]] = []

    async def act(manifest: Manifest, settings: Settings, **watched: Any) -> None:
        found.extend((await clean(manifest, settings, yes, **watched))[0])

    report = carry_out(given, "clean", act, {})
    if given.as_json:
        unstarted = [{"flow_id": flow_id, "flow": name} for flow_id, name in found]
        output.out(output.document(report.json() | {"unstarted": unstarted, "deleted": yes}))
    elif not given.quiet:
        for flow_id, name in found:
            output.out(output.harmless(f"{flow_id}  {name}").replace("\n", "\\n"))
        what = "deleted" if yes else "never started; --yes deletes them" if found else "never started"
        output.out(f"{len(found)} flows {what}")
    output.finish(report, False)
