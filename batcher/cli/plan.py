"""`batcher plan`: in: flags; out: what `run` would do with each flow, on stdout; nothing is written anywhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from ..api import plan
from ..core.errors import BatcherError
from ..core.planning import FlowPlan
from ..edges.progress import size
from . import common

LISTED = 40  # flows on a screen; --verbose lists all


@click.command("plan", short_help="what run would do")
@common.common
@click.option("--resubmit-changed", is_flag=True, help="as in run")
@click.option("--redo", multiple=True, metavar="NAME", help="as in run")
@click.option("--checksum", is_flag=True, help="as in run")
@click.option("--only", multiple=True, metavar="NAME", help="only these flows (a pattern; repeatable)")
def command(
    manifest: str, endpoint: str | None, state: Path | None, ca_file: str | None, as_json: bool, quiet: bool,
    verbose: bool, log_format: str, log_file: str | None, progress: str, **wishes: Any,
) -> None:  # fmt: skip
    """Show what `run` would do with MANIFEST: per flow, and in sum. Writes nothing, here or there."""
    listed: list[dict[str, Any]] = []
    lines: list[str] = []

    def each(plan: FlowPlan) -> None:
        if as_json and len(listed) < 1000:
            listed.append({"flow": plan.flow.name, "action": plan.action.value, "inputs": plan.tally.total,
                           "to_send": plan.tally.new, "bytes": plan.tally.total_bytes})  # fmt: skip
        if not as_json and (verbose or len(lines) < LISTED):
            lines.append(f"{plan.action.value:8} {plan.flow.name}  {plan.tally.total} inputs, {size(plan.tally.total_bytes)}")

    try:
        loaded = common.load(manifest, endpoint, as_json)
        found, report = asyncio.run(plan(loaded, common.settings(state=state, ca_file=ca_file, **wishes), each))
    except BatcherError as error:
        common.exit_for(error, manifest, as_json)
    sums = {action.value: count for action, count in found.actions.items()}
    if as_json:
        document = report.json() | {"plan": listed, "actions": sums, "to_send": found.to_send,
                                    "bytes_to_send": found.to_send_bytes, "requests_needed": found.requests}  # fmt: skip
        common.out(common.document(document))
    elif not quiet:
        common.out(common.harmless("\n".join(lines)))
        if found.flows > len(lines):
            common.out(f"… and {found.flows - len(lines)} more flows (--verbose lists them)")
        counts = ", ".join(f"{count} {action}" for action, count in sums.items()) or "none"
        sending = f"{found.to_send} inputs, {size(found.to_send_bytes)}, about {found.requests} requests"
        common.out(f"flows: {counts}; to send: {sending}")
    common.finish(report, False)
