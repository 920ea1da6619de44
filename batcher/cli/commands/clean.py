"""`batcher clean`: in: a manifest; out: flows of its batch that were never started, listed, and deleted with --yes."""

from __future__ import annotations

from typing import Any

import click

from ...api import Settings, clean
from ...core.abandoning import Unstarted
from ...core.model import Manifest
from .. import flags, output
from ..carry_out import carry_out


@flags.command("clean", "delete flows that were never started", idle=flags.NO_PROGRESS)
@click.option("--yes", is_flag=True, help="delete them")
def command(given: flags.CommonFlags, yes: bool) -> None:
    """List the flows of MANIFEST's batch on the service that were never started; with --yes, delete them.

    Flows that are no longer in the manifest are among them. Started flows are never touched.
    """
    found: list[Unstarted] = []

    async def act(manifest: Manifest, settings: Settings, **watched: Any) -> None:
        found.extend((await clean(manifest, settings, yes, **watched))[0])

    report = carry_out(given, "clean", act, {})
    deleted = sum(flow.deleted for flow in found)
    if given.as_json:
        unstarted = [{"flow_id": flow.flow_id, "flow": flow.name, "deleted": flow.deleted} for flow in found]
        done = yes and deleted == len(found)
        output.out(output.document(report.json() | {"unstarted": unstarted, "deleted": done}))
    elif not given.quiet:
        for flow in found:
            output.out(output.harmless(f"{flow.flow_id}  {flow.name}").replace("\n", "\\n"))
        if yes:
            output.out(f"{deleted} flows deleted" if deleted == len(found) else f"{deleted} of {len(found)} flows deleted")
        else:
            output.out(f"{len(found)} flows never started" + ("; --yes deletes them" if found else ""))
    output.finish(report, False)
