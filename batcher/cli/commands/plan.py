"""`batcher plan`: in: flags; out: what `run` would do with each flow, on stdout; nothing is written anywhere.

A line per flow: + new, ~ changed, = nothing to do, ! blocked; below a changed one what changed; then the sums.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import textwrap
from typing import Any, Final

from ...api import Survey, plan
from ...core.errors import BatcherError
from ...core.model import Limits
from ...core.planning import Action, Change, FlowPlan, InputPlan, Tally, elsewhere
from ...core.report import Report
from ...core.text import size
from .. import flags, output, setup
from ..columns import fit
from ..readable import counted, left_open, shown

LISTED: Final = 40  # flows on a screen; --verbose lists all
CHANGES_LISTED: Final = 5  # inputs below a changed flow; --verbose lists all
SPOOL_BYTES: Final = 8 << 20  # of the document's flows in memory; the rest waits in a temporary file
NARROWEST: Final = 40  # columns of a terminal
NAMES: Final = (12, 60)  # columns of a name, at least and at most
FACTS: Final = 54  # columns of what is said beside it, where there is room
KINDS: Final = ("creates", "uploads", "lists", "starts", "deletes", "looks")  # of requests

SIGN: Final = {
    Action.NEW: "+", Action.RESUME: "+", Action.REBUILD: "~", Action.REDO: "~", Action.CHANGED: "~",
    Action.DONE: "=", Action.WAITING: "=", Action.BLOCKED: "!",
}  # fmt: skip
OF_CHANGE: Final = {Change.NEW: "+", Change.DIFFERS: "~"}
QUIET_ACTIONS: Final = (Action.DONE, Action.WAITING)  # shown only where there is room


@flags.command("plan", "what run would do", idle=(*flags.NO_EVENTS, *flags.NO_PROGRESS))
@flags.RESUBMIT_CHANGED
@flags.MAX_STARTS
@flags.REDO
@flags.REDO_FAILED
@flags.REDO_FROM
@flags.CHECKSUM
@flags.ONLY
def command(given: flags.CommonFlags, **options: Any) -> None:
    """Show what `run` would do with MANIFEST: per flow, and in sum. Writes nothing, here or there.

    + is new, ~ changed, = has nothing to do, ! is blocked (the reason stands on stderr).
    """
    shown: _Document | _Lines = _Document() if given.as_json else _Lines(given.verbose, silent=given.quiet)
    try:
        manifest = setup.load(given, options)
        found, report = asyncio.run(plan(manifest, setup.settings(given, options, manifest=manifest), shown.add))
    except BatcherError as error:
        output.exit_for(error, given.manifest, given.as_json)
    shown.finish(found, manifest.limits, report, whole=not options["only"])
    output.finish(report, False)


class _Lines:
    """For people: lines on stdout."""

    def __init__(self, verbose: bool, silent: bool) -> None:
        self._verbose = verbose
        self._silent = silent
        self._kept: list[tuple[int, bool, str]] = []  # (number, whether there is something to do, text)
        self._room = {True: LISTED, False: LISTED}
        self._flows = 0

    def add(self, plan: FlowPlan) -> None:
        """Called once per flow, from the planner's thread."""
        self._flows += 1
        if self._silent:
            return
        if self._verbose:
            output.out(output.harmless("\n".join([line(plan), *self._every_change(plan)])))
            return
        works = plan.action not in QUIET_ACTIONS
        if self._room[works]:
            self._room[works] -= 1
            self._kept.append((self._flows, works, "\n".join([line(plan), *_changes(plan)])))

    @staticmethod
    def _every_change(plan: FlowPlan) -> list[str]:
        if len(plan.tally.changes) == plan.tally.new + plan.tally.differs:
            return _changes(plan, len(plan.tally.changes))
        if not _is_compared(plan):
            return []
        again = (item for item in plan.inputs() if isinstance(item, InputPlan) and item.change in OF_CHANGE)
        return [_change(item.change, item.input.label) for item in again] + _removed(plan.tally)

    def finish(self, found: Survey, limits: Limits, report: Report, *, whole: bool) -> None:
        """The lines that were kept, in the manifest's order, and the sums."""
        if self._silent:
            return
        chosen = [one for one in self._kept if one[1]]
        chosen += [one for one in self._kept if not one[1]][: LISTED - len(chosen)]
        for _, _, text in sorted(chosen):
            output.out(output.harmless(text))
        if not self._verbose and found.flows > len(chosen):
            output.out(fit(f"… and {counted(found.flows - len(chosen), 'more flow')} (--verbose lists them)", _columns()))
        output.out("\n".join(sums(found, limits, whole)))


def line(plan: FlowPlan) -> str:
    """One flow in a line."""
    least, most = NAMES
    name = fit(shown(plan.flow.name), min(most, max(least, _columns() - FACTS)), pad=True)
    return fit(f"{SIGN[plan.action]} {name}  {_what(plan)}", _columns())


def _columns() -> int:
    return max(NARROWEST, shutil.get_terminal_size((80, 24)).columns)


def _what(plan: FlowPlan) -> str:
    tally = plan.tally
    inputs = counted(tally.total, "input")
    match plan.action:
        case Action.NEW:
            return f"new: {inputs}, {size(tally.total_bytes)}"
        case Action.RESUME if plan.is_starting:
            return "resumes: its start is settled first"
        case Action.RESUME:
            rest = f"{tally.unknown:,} to ask about" if tally.unknown else size(tally.new_bytes)
            return f"resumes: {tally.new:,} of {inputs} to send, {rest}"
        case Action.REBUILD:
            return f"built anew: {inputs}, {size(tally.total_bytes)}"
        case Action.REDO:
            return f"paid for again: {inputs}, {size(tally.total_bytes)}"
        case Action.CHANGED:
            return "changed since its start; stays as it is"
        case Action.DONE:
            return f"done: {inputs}, {size(tally.total_bytes)}"
        case Action.WAITING:
            return "waits: a file changed just now (min_age)"
        case _:
            return "blocked: " + counted(len(plan.problems), "problem")


def _is_compared(plan: FlowPlan) -> bool:
    """Whether the flow is held against what was sent for it: below any other, changes say nothing."""
    return plan.action in (Action.REBUILD, Action.REDO, Action.CHANGED)


def _changes(plan: FlowPlan, most: int = CHANGES_LISTED) -> list[str]:
    if not _is_compared(plan):
        return []
    tally = plan.tally
    lines = [_change(change, label) for change, label in tally.changes[:most]]
    more = tally.new + tally.differs - len(lines)
    if more:
        lines.append(f"    … and {counted(more, 'more change')}")
    if _itself_changed(plan):
        lines.append("    ~ template, parameters or additional of the flow")
    if elsewhere(plan.facts, plan.flow.flow_id):
        lines.append("    ~ flow_id")
    return lines + _removed(tally)


def _itself_changed(plan: FlowPlan) -> bool:
    return plan.facts is not None and plan.facts.spec_digest != plan.spec_digest


def _change(change: Change, label: str) -> str:
    return fit(f"    {OF_CHANGE[change]} {shown(label)}", _columns())


def _removed(tally: Tally) -> list[str]:
    """The journal has the keys of inputs, not their names."""
    return [f"    - {counted(tally.removed, 'input')} no longer in the manifest"] if tally.removed else []


def sums(found: Survey, limits: Limits, whole: bool) -> list[str]:
    """What the plan comes to. `whole`: all flows of the manifest were looked at."""
    requests = found.requests
    flows = ", ".join(f"{count:,} {action.value}" for action, count in found.actions.items()) or "none"
    gone = found.journaled - found.known
    lines = [f"flows:    {flows}"]
    if whole and gone > 0:
        lines.append(f"          {counted(gone, 'flow')} of the journal no longer in the manifest")
    lines.append(f"inputs:   {found.inputs:,} in all; +{found.new:,} ~{found.differs:,} -{found.removed:,} against the journal")
    sent = f"{size(found.to_send_bytes)} ({size(found.to_send_encoded)} encoded)"
    lines.append(f"to send:  {counted(found.to_send, 'input')}, {sent}")
    parts = [counted(getattr(requests, f"{one}s"), one) for one in ("create", "upload", "list", "start", "delete", "look")
             if getattr(requests, f"{one}s")]  # fmt: skip
    lines.append(f"requests: {requests.total:,}" + (f" ({', '.join(parts)})" if parts else ""))
    later = f"; {counted(requests.held_back, 'flow')} left to later runs (--max-starts)" if requests.held_back else ""
    price = limits.price_per_start
    cost = f", {price.times(requests.starts)}" if price is not None else ""
    lines.append(f"to pay:   {counted(requests.starts, 'start')}{cost}{later}")
    if price is not None:
        lines.append(f"paid:     {counted(found.paid, 'start')}, {price.times(found.paid)}")
    if left := left_open(found.unknown, found.unsettled + found.creating, limits.settle_s):
        lines.append(f"open:     {left}")
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, _columns(), subsequent_indent=" " * 10, break_on_hyphens=False)
    ]


class _Document:
    """For programs: one JSON document on stdout, with every flow in it; a million of them are not held."""

    def __init__(self) -> None:
        self._spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES, "w+", encoding="utf-8")  # noqa: SIM115 - closed in finish
        self._first = True

    def add(self, plan: FlowPlan) -> None:
        """Called once per flow, from the planner's thread."""
        tally = plan.tally
        all_anew = plan.action in (Action.REBUILD, Action.REDO)
        to_send = (tally.total if all_anew else tally.new) if plan.action.works else 0
        document: dict[str, Any] = {
            "flow": plan.flow.name, "action": plan.action.value, "inputs": tally.total, "bytes": tally.total_bytes,
            "to_send": to_send, "new": tally.new, "changed": tally.differs, "removed": tally.removed,
        }  # fmt: skip
        if _is_compared(plan):  # labels: at most a thousand per flow; the counts are complete
            document["flow_itself_changed"] = _itself_changed(plan) or elsewhere(plan.facts, plan.flow.flow_id)
            document["changes"] = [{"input": label, "kind": "new" if change is Change.NEW else "changed"}
                                   for change, label in tally.changes]  # fmt: skip
        self._spool.write(("" if self._first else ", ") + output.document(document))
        self._first = False

    def finish(self, found: Survey, limits: Limits, report: Report, *, whole: bool) -> None:
        requests, price = found.requests, limits.price_per_start
        document = report.json() | {
            "actions": {action.value: count for action, count in found.actions.items()},
            "to_send": found.to_send,
            "bytes_to_send": found.to_send_bytes,
            "encoded_bytes_to_send": found.to_send_encoded,
            "requests_needed": requests.total,
            "requests_by_kind": {name: getattr(requests, name) for name in KINDS},
            "starts": requests.starts,
            "held_back": requests.held_back,
            "open": {"uploads": found.unknown, "creates": found.creating, "starts": found.unsettled},
            "cost": {"starts": requests.starts, "starts_paid": found.paid} | (
                {"price_per_start": str(price), "to_pay": price.times(requests.starts), "paid": price.times(found.paid)}
                if price is not None else {}),
            "against_journal": {"new": found.new, "changed": found.differs, "removed": found.removed},
        }
        if whole:
            document["flows_only_in_journal"] = max(0, found.journaled - found.known)
        output.out(output.document(document)[:-1] + ', "plan": [', end="")
        with self._spool:
            self._spool.seek(0)
            while part := self._spool.read(1 << 16):
                output.out(part, end="")
        output.out("]}")
