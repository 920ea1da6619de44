"""Charts: whatever a run was like, what is drawn is well-formed, lies within its axes, and says what was measured."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.cli.batch_status import BatchSums
from batcher.cli.flow_status import FlowStatus
from batcher.cli.page.charts import latencies, nice, over_time, step_s
from batcher.cli.page.data import FlowLine, PageData, Run
from batcher.cli.page.timeline import LANES, timeline
from batcher.core.measuring import FlowTimes, Measures, run_document
from batcher.core.model import Limits
from batcher.core.report import Report
from batcher.core.retry import Call, Kind

BEGAN = 1_700_000_000.0


def run_of(requests: list[tuple[float, float]], length_s: float, ended: bool = True) -> Run:
    """A run of uploads: (when, how long)."""
    measures = Measures(0.0)
    events = sorted([(at, 0, took) for at, took in requests] + [(at + took, 1, took) for at, took in requests])
    for at, end, took in events:
        if end:
            measures.ends(at, Call.UPLOAD, took, Kind.THROTTLED if took > 50 else Kind.DONE)
            measures.accepted(at, 1000)
        else:
            measures.leaves(at)
    end_s = max([length_s, *(at + took for at, took in requests)])
    return Run(BEGAN, run_document(Report("m.yaml", "https://x"), measures, end_s, ended))


def facts_of(flows: list[FlowLine]) -> PageData:
    sums = BatchSums(Report("m", "x"))
    return PageData("m.yaml", "m", "https://x", BEGAN, sums.report, flows, [], [], [], None, False, sums, 0, Limits())


def test_no_average_is_above_its_maximum_however_short_the_run() -> None:
    measures = Measures(0.0)
    measures.leaves(0.001)
    measures.ends(0.011, Call.UPLOAD, 0.01, Kind.DONE)
    measures.accepted(0.011, 1_000_000)
    run = Run(BEGAN, run_document(Report("m", "x"), measures, 0.02, ended=True))
    said = re.findall(r"On average ([\d.]+) (\S+), at most ([\d.]+) (\S+), over 20 ms", over_time(run))
    assert said[0] == ("50.0", "MB/s", "50.0", "MB/s") or said[0] == ("50", "MB/s", "50", "MB/s")
    mean, peak = re.findall(r"On average ([\d.]+), at most ([\d.]+),", over_time(run))[0]
    assert float(mean) <= float(peak)


def flow(name: str, *times: float | None, status: FlowStatus = FlowStatus.STARTED) -> FlowLine:
    stations = FlowTimes(*(None if at is None else BEGAN + at for at in times))
    return FlowLine(name, status, status.word, 1, 1, 1, "id", stations, None)


def look_at(markup: str) -> ET.Element:
    """The markup as a tree; every position is a number within its axis."""
    tree = ET.fromstring(f"<div>{markup}</div>")
    for element in tree.iter():
        for name in ("x", "x1", "x2", "width"):
            value = element.get(name, "")
            if value.endswith("%"):
                assert 0 <= float(value[:-1]) <= 100, f"{element.tag} {name}={value}"
        for number in re.findall(r"[^\s,]+", element.get("points", "")):
            assert -0.01 <= float(number) <= 1000.01
        if element.get("height"):
            assert float(element.get("height", "")) > 0
    return tree


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 900)), min_size=1, max_size=30), st.floats(0, 1e6), st.booleans())
def test_every_run_is_drawn_within_its_axes(requests, length_s: float, ended: bool) -> None:
    run = run_of(requests, length_s, ended)
    look_at(over_time(run))
    tree = look_at(latencies(run))
    bars = [element for element in tree.iter("rect") if element.get("class") == "bar"]
    assert sum(int(bar[0].text.rsplit(": ", 1)[1].replace("\u202f", "")) for bar in bars) == len(requests)


def test_percentiles_do_not_exceed_the_longest() -> None:
    text = latencies(run_of([(0, 0.0319)] * 40 + [(0, 0.0101)] * 60, 1))
    assert "Half of them within 11 ms, 95 % within 32 ms, the longest 32 ms." in text
    assert latencies(run_of([], 1)) == ""


@pytest.mark.parametrize("count", [1, 12, LANES, 3 * LANES])
def test_flows_have_a_line_each_until_they_are_too_many(count: int) -> None:
    flows = [flow(f"<f{n}>", n, n + 1, n + 2, n + 30, n + 31, n + 40) for n in range(count)]
    tree = look_at(timeline(facts_of(flows), run_of([(0, 1)], count + 60)))
    assert len(tree.findall(".//g")) == (count if count <= LANES else LANES)


def test_many_short_flows_are_told_as_how_many_had_come_how_far() -> None:
    flows = [flow(f"f{n}", n, n, n, n + 0.1, n + 0.1, n + 0.2) for n in range(1000)]
    tree = look_at(timeline(facts_of(flows), run_of([(0, 1)], 1000)))
    assert not tree.findall(".//g")
    assert len(tree.findall(".//polygon")) == 3
    last = [cell.text for cell in tree.findall(".//tbody/tr")[-1]]
    assert last[1:] == ["1\u202f000"] * 3


def test_flow_that_an_earlier_run_began_is_shown_from_where_this_one_took_part() -> None:
    resumed = flow("resumed", -5000, -4999, -4998, 10, 12, 20)
    other = flow("of an earlier run", -5000, -4999, -4998, -4000, -3000, -2000)
    stuck = flow("stuck", 1, 2, None, None, None, None, status=FlowStatus.PROBLEM)
    tree = look_at(timeline(facts_of([resumed, other, stuck]), run_of([(0, 1)], 30)))
    told = [group[0].text for group in tree.findall(".//g")]
    assert told == ["stuck: kept from its start", "resumed: uploading 0 ms, checking 10.0 s"]
    assert timeline(facts_of([other]), run_of([(0, 1)], 30)) == ""


@given(st.floats(1e-6, 1e12))
def test_axes_end_at_round_numbers_a_little_above(value: float) -> None:
    assert value * 0.999 <= nice(value) <= value * 2.0
    assert 1 <= value / step_s(value) <= 10 or value < 0.01


def test_axis_of_nothing_is_no_axis_of_nothing() -> None:
    assert nice(0) == 1.0
