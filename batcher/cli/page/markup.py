"""The page as text: one HTML file that asks for nothing else.

In: `PageData`, thumbnails. Out: the page. Called by `batcher report`. Names come from files and tables and may be hostile:
they are escaped in markup and in the data, and the page's own policy allows no script but the one whose digest it names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any, Final

from ...core.exit_codes import about as about_code
from ...core.markup import embedded, source_digest
from ...core.model import NOTES
from ...core.text import size
from ...version import __version__
from ..flow_status import FlowStatus
from ..readable import count, counted, shown, span
from . import charts
from .data import FlowLine, PageData, Run, natural
from .elements import bdi, moment, sentence
from .problem_groups import kept, problems
from .timeline import timeline

FOLDERS: Final = 4  # of outputs that are named
RUN_HEADS: Final = ("Began", "Command", "Took", "Exit code", "Flows started", "Inputs uploaded", "Bytes", "Outputs", "Requests",
                    "Retries")  # fmt: skip


def page(facts: PageData, uris: Sequence[str], pictures: Mapping[int, Sequence[tuple[int, int]]]) -> str:
    """The whole page."""
    home = resources.files(__package__)
    style = home.joinpath("page.css").read_text("utf-8")
    script = home.joinpath("page.js").read_text("utf-8")
    policy = f"default-src 'none'; img-src data:; style-src '{source_digest(style)}'; script-src '{source_digest(script)}'"
    body = "".join((_header(facts), problems(facts), _flows(facts), _run(facts), _runs(facts), _footer(facts)))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(facts.batch)}: {escape(_headline(facts)[0])}</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="application/json" id="data">{embedded(_data(facts, uris, pictures))}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _headline(facts: PageData) -> tuple[str, str]:
    """(the outcome of all in a sentence, its CSS class)."""
    flows, counts = facts.report.flows, facts.counts
    total, bad = flows.total, facts.bad
    if facts.under_way:
        what = "collect" if facts.runs[0].command == "collect" else "run"
        return f"A {what} is under way: {count(flows.started)} of {count(total)} flows are started", "busy"
    if bad:
        return f"{count(bad)} of {count(total)} flows {'needs' if bad == 1 else 'need'} a look", "bad"
    if any(problem.kind not in NOTES for problem in facts.problems):
        return "Something needs a look", "bad"
    if not total:
        return "There are no flows", "calm"
    done = counts[FlowStatus.COLLECTED] + counts[FlowStatus.DELETED]
    if flows.started < total:
        return f"{count(flows.started) if flows.started else 'None'} of {count(total)} flows are started", "busy"
    if done == total:
        return ("The flow is collected" if total == 1 else f"All {count(total)} flows are collected"), "good"
    started = "The flow is started" if total == 1 else f"All {count(total)} flows are started"
    return f"{started}, {count(done)} of them collected" if done else started, "good"


def _header(facts: PageData) -> str:
    headline, mark = _headline(facts)
    last = facts.runs[0] if facts.runs else None
    where = f'<span class="quiet"> · {bdi(facts.manifest)} at {bdi(facts.endpoint)}</span>'
    return (
        f'<header><p class="over">{bdi(facts.batch)}{where}</p><h1 class="{mark}">{escape(headline)}.</h1>'
        f"{_last(facts, last)}{_bar(facts)}{_numbers(facts)}</header>\n<main>"
    )


def _last(facts: PageData, last: Run | None) -> str:
    if last is None:
        return '<p class="lead">No run has been measured yet: this journal was written by an older batcher.</p>'
    began, command = moment(last.began), "collect" if last.command == "collect" else "run"
    if facts.under_way:
        return f'<p class="lead">It began at {began}; what is said here is as of {moment(facts.now)}.</p>'
    if last.exit_code is None:
        return (f'<p class="lead">The last {command} began at {began} and was cut off before it could end. '
                f"<strong>{command.capitalize()} again: it resumes.</strong></p>")  # fmt: skip
    about = about_code(last.exit_code)
    happened, advice = (about.happened, about.advice) if about is not None else ("it ended", "")
    what = f"The last {command} began at {began}, took {span(last.elapsed_s)}, and ended with {last.exit_code}: {happened}."
    return f'<p class="lead">{what}' + (f" <strong>{sentence(advice)}</strong>" if advice else "") + "</p>"


def _bar(facts: PageData) -> str:
    """How the flows stand, as one bar, with its legend."""
    total = max(1, facts.report.flows.total)
    order = (FlowStatus.COLLECTED, FlowStatus.DELETED, FlowStatus.COMPLETED, FlowStatus.RUNNING, FlowStatus.STARTED,
             FlowStatus.UPLOADING, FlowStatus.PLANNED, FlowStatus.ABORTED, FlowStatus.FAILED, FlowStatus.PROBLEM)  # fmt: skip
    counts = Counter(facts.counts)
    counts[FlowStatus.PLANNED] += facts.report.flows.total - sum(counts.values())
    x = 0.0
    drawn, legend = [], []
    for status in order:
        number = counts[status]
        mark = f"s-{status.word}"
        if number:
            share = 100 * number / total
            drawn.append(f'<rect class="{mark}" x="{x:.3f}%" width="{share:.3f}%" height="10"/>')
            x += share
        if number:
            legend.append(f'<span class="{mark}"><b>{count(number)}</b> {status.of_many}</span>')
    return (
        f'<svg class="bar" width="100%" height="10" aria-hidden="true">{"".join(drawn)}</svg>'
        f'<p class="key" aria-label="How the flows stand">{"".join(legend)}</p>'
    )


def _numbers(facts: PageData) -> str:
    inputs = facts.report.inputs
    entries = [("Inputs uploaded", count(inputs.uploaded), f"of {count(inputs.total)}"), ("Bytes", size(inputs.bytes), "")]
    outputs = facts.report.outputs
    if outputs is not None and outputs.total:
        entries.append(("Outputs collected", count(outputs.collected), f"of {count(outputs.total)}, {size(outputs.bytes)}"))
    price = facts.limits.price_per_start
    if price is not None:
        words = f"for {counted(facts.paid, 'start')}{price.to_come(facts.report.flows.pending)}"
        entries.append(("Paid", price.times(facts.paid), escape(words)))
    run = facts.measured
    if run is not None:
        requests = run.document["requests"]
        retried, slowed = int(requests["retried"]), int(requests["throttled"])
        words = f"{count(retried)} sent again" + (f", {count(slowed)} throttled" if slowed else "")
        entries += [
            ("Requests", count(run.sent), words),
            ("Throughput", f"{size(run.bytes_per_s)}/s", "on average"),
            ("Duration", span(run.elapsed_s), "of the last run with requests"),
        ]
    cells = "".join(
        f'<div><dt>{name}</dt><dd><span class="big">{escape(value)}</span> <span class="quiet">{note}</span></dd></div>'
        for name, value, note in entries
    )
    return f'<dl class="numbers">{cells}</dl>{_folders(facts)}'


def _folders(facts: PageData) -> str:
    """Where the outputs are."""
    folders = [bdi(shown(folder)) for folder, _ in facts.sums.folders.most_common(FOLDERS)]
    more = len(facts.sums.folders) - len(folders)
    rest = f" and {counted(more, 'more folder')}" if more else ""
    return f'<p class="quiet where-to">Collected to {", ".join(folders)}{rest}.</p>' if folders else ""


def _flows(facts: PageData) -> str:
    counts = facts.counts
    chips = f'<button type="button" data-show="-1" aria-pressed="true">All <b>{count(facts.report.flows.total)}</b></button>'
    for status in FlowStatus:
        if counts[status]:
            word = status.word.capitalize() + ("s" if status is FlowStatus.PROBLEM and counts[status] > 1 else "")
            chips += (f'<button type="button" data-show="{int(status)}" aria-pressed="false">{word} '
                      f"<b>{count(counts[status])}</b></button>")  # fmt: skip
    left = facts.report.flows.total - len(facts.flows)
    words = f"The {count(len(facts.flows))} most urgent are listed, {count(left)} are left out."
    cut = f'<p class="advice">{words}</p>' if left else ""
    return (
        f'<section aria-labelledby="h-flows"><h2 id="h-flows">Flows</h2>{cut}'
        '<noscript><p class="advice">The table of flows needs scripts, which are switched off here.</p></noscript>'
        f'<div class="tools" hidden><label>Filter <input type="search" id="filter" autocomplete="off" spellcheck="false" '
        f'placeholder="name, id or message"></label><div class="chips" role="group" aria-label="Show">{chips}</div>'
        '<label class="sorter">Sort by <select id="sorter"></select></label></div>'
        '<p id="shown" class="quiet" role="status" aria-live="polite"></p>'
        '<div id="flows" hidden></div><dialog id="detail" aria-labelledby="detail-name"></dialog></section>'
    )


def _run(facts: PageData) -> str:
    run = facts.measured
    if run is None:
        return ""
    sofar = f', <span class="quiet">its first {span(run.elapsed_s)}</span>' if run.exit_code is None else ""
    return (
        f'<section aria-labelledby="h-run"><h2 id="h-run">The run of {moment(run.began)}{sofar}</h2><div class="charts">'
        f"{charts.over_time(run)}{charts.latencies(run)}{timeline(facts, run)}</div></section>"
    )


def _runs(facts: PageData) -> str:
    if len(facts.runs) < 2:
        return ""
    rows = ""
    for run in facts.runs:
        code = run.exit_code
        ended = _ended(code) if code is not None else "not ended"
        requests, inputs, flows = (run.document[name] for name in ("requests", "inputs", "flows"))
        outputs = run.document.get("outputs", {}).get("collected_now")
        ran = run.command == "run"
        cells = (run.command if ran else "collect", span(run.elapsed_s), ended, count(flows["started_now"]) if ran else "–",
                 count(inputs["uploaded_now"]) if ran else "–", size(inputs["bytes_now"]) if ran else "–",
                 "–" if outputs is None else count(outputs), count(requests["sent"]), count(requests["retried"]))  # fmt: skip
        rows += f'<tr><th scope="row">{moment(run.began)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    head = "".join(f'<th scope="col">{name}</th>' for name in RUN_HEADS)
    return (
        '<section aria-labelledby="h-runs"><h2 id="h-runs">Runs</h2><div class="scroll" tabindex="0" role="region" '
        f'aria-labelledby="h-runs"><table class="figures"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        "</section>"
    )


def _ended(code: int) -> str:
    about = about_code(code)
    return f'<span title="{escape(about.happened) if about is not None else ""}">{code}</span>'


def _footer(facts: PageData) -> str:
    words = f"Written by batcher {__version__} at {moment(facts.now)}, from its journal."
    return f'</main>\n<footer><p class="quiet">{words}</p></footer>'


def _data(facts: PageData, uris: Sequence[str], pictures: Mapping[int, Sequence[tuple[int, int]]]) -> dict[str, Any]:
    """What the script is given: a list for each column, one entry for each flow. Times in whole seconds since 1970."""
    flows = facts.flows
    order = sorted(range(len(flows)), key=lambda n: natural(flows[n].name))
    rank = [0] * len(flows)
    for place, n in enumerate(order):
        rank[n] = place
    return {
        "words": [status.word for status in FlowStatus],
        "name": [flow.name for flow in flows],
        "rank": rank,
        "status": [int(flow.status) for flow in flows],
        "shown": {str(n): flow.state for n, flow in enumerate(flows) if flow.state != flow.status.word},
        "outputs": [[flow.collected, flow.listed] if flow.listed else 0 for flow in flows],
        "more": {str(n): _more(flow) for n, flow in enumerate(flows) if flow.folder or flow.seen_at or flow.attempts},
        "accepted": [flow.accepted for flow in flows],
        "inputs": [flow.inputs for flow in flows],
        "size": [flow.size_bytes for flow in flows],
        "id": [flow.flow_id for flow in flows],
        "times": [_times(flow) for flow in flows],
        "gone": [n for n, flow in enumerate(flows) if flow.gone],
        "problem": {str(n): kept(flow.problem) for n, flow in enumerate(flows) if flow.problem is not None},
        "uris": list(uris),
        "pictures": {
            str(n): [[uri, shown(flows[n].pictures[item].label)] for item, uri in of_flow] for n, of_flow in pictures.items()
        },
    }


def _more(flow: FlowLine) -> dict[str, Any]:
    """What the dialog of a flow tells beside the table."""
    more: dict[str, Any] = {"to": flow.folder} if flow.folder else {}
    more |= {"seen": round(flow.seen_at)} if flow.seen_at else {}
    return more | ({"attempts": [[*one] for one in flow.attempts]} if flow.attempts else {})


def _times(flow: FlowLine) -> list[float | None] | None:
    t = flow.times
    stations = [t.begun, t.opened, t.first_upload, t.last_upload, t.verified, t.started]
    return None if stations == [None] * 6 else [None if at is None else round(at, 1) for at in stations]
