"""What is wrong with the batch, as the page tells it: problems of one kind with one piece of advice together.

In: the problems of `PageData`. Out: markup; a problem as the page's script gets it. Called by `markup`.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from ...core.model import Problem
from ..readable import count
from .data import PageData
from .elements import bdi, sentence

LISTED: Final = 5  # problems of one kind that are spelled out; the rest are in the table
GROUPS: Final = 12  # kinds of problem on the page
KINDS: Final = {
    "manifest": "The manifest is wrong", "source": "A source is at fault", "refused": "Refused by the service",
    "unavailable": "The service was unavailable", "fatal": "Key or credit", "unsettled": "Not settled",
    "failed": "Failed on the service", "changed": "Changed after the start", "waiting": "Left alone for now",
    "note": "Worth a word", "limit": "As many starts as one run may make",
}  # fmt: skip
URGENCY: Final = {
    "unsettled": 1, "fatal": 1, "failed": 2, "source": 2, "manifest": 2, "refused": 3, "unavailable": 4, "changed": 5,
    "waiting": 5, "note": 5, "limit": 5,
}  # fmt: skip


def problems(facts: PageData) -> str:
    """What needs a look, then what is worth knowing."""
    out = ""
    if facts.problems:
        out = f'<section aria-labelledby="h-problems"><h2 id="h-problems">Problems</h2>{_groups(facts.problems)}</section>'
    if facts.notes:
        out += f'<section aria-labelledby="h-notes"><h2 id="h-notes">Worth knowing</h2>{_groups(facts.notes)}</section>'
    return out


def _groups(problems: Sequence[Problem]) -> str:
    """Problems of one kind with one piece of advice together, the most urgent first."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.kind, problem.hint), []).append(problem)
    order = sorted(groups.items(), key=lambda item: (URGENCY.get(item[0][0], 0), -len(item[1])))
    out = []
    for (kind, hint), of_group in order[:GROUPS]:
        number = f' <span class="quiet">{count(len(of_group))}</span>'
        items = "".join(_item(problem) for problem in of_group[:LISTED])
        more = ""
        if len(of_group) > LISTED:
            rest = "".join(_item(problem) for problem in of_group[LISTED : LISTED + 200])
            left = len(of_group) - LISTED
            beyond = f"<p>… and {count(left - 200)} more, in the table below.</p>" if left > 200 else ""
            more = f"<details><summary>{count(left)} more</summary><ul>{rest}</ul>{beyond}</details>"
        advice = f'<p class="advice">{sentence(hint)}</p>' if hint else ""
        title = KINDS.get(kind, kind.capitalize())  # a run may be stopped by a deadline or a signal
        out.append(f'<div class="group"><h3>{escape(title)}{number}</h3>{advice}<ul>{items}</ul>{more}</div>')
    if len(order) > GROUPS:
        out.append(f"<p>… and {count(len(order) - GROUPS)} more kinds, in the table below.</p>")
    return "".join(out)


def _item(problem: Problem) -> str:
    where = []
    if problem.flow:
        where.append(bdi(problem.flow))
    if problem.place is not None:
        where.append(f'<span class="quiet">{bdi(str(problem.place))}</span>')
    return f'<li><span class="where">{" ".join(where)}</span> <span class="what">{bdi(problem.message)}</span></li>'


def kept(problem: Problem) -> list[str]:
    """Its kind, message, advice and place, for the script."""
    place = "" if problem.place is None else str(problem.place)
    return [KINDS.get(problem.kind, problem.kind), problem.message, problem.hint, place]
