"""`batcher abort`: in: a manifest; out: flows of its batch that run on the service, listed, and aborted with --yes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from ...api import Settings, abort
from ...core.model import Manifest
from ...pipeline.abort import Running
from .. import flags, output
from ..carry_out import carry_out
from ..readable import counted


@flags.command("abort", "abort flows that run on the service", idle=flags.NO_PROGRESS)
@click.option("--yes", is_flag=True, help="abort them")
@flags.ONLY
@flags.REQUESTS
def command(given: flags.CommonFlags, yes: bool, **options: Any) -> None:
    """List the flows of MANIFEST's batch that run on the service; with --yes, abort them.

    They stay paid for, and the journal keeps them as started: `collect` then ends with 13 and brings what they left. Flows
    that are no longer in the manifest are among them.
    """
    found: list[Running] = []

    async def act(manifest: Manifest, settings: Settings, **watched: Any) -> None:
        found.extend((await abort(manifest, settings, yes, **watched))[0])

    report = carry_out(given, "abort", act, options)
    if given.as_json:
        output.out(output.document(report.json() | _document(found)))
    elif not given.quiet:
        for each in found:
            line = f"{each.flow_id}  {each.flow}  {each.became or each.state}"
            output.out(output.harmless(line).replace("\n", "\\n"))
        output.out(_sum(found, yes))
    output.finish(report, False)


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
