"""The text of faults and readings: what is understood, and what is said about the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batcher.sandbox import FormatError, Readings, load_faults, parse_fault
from batcher.sandbox.fault_plan import Plan
from batcher.sandbox.faults import EFFECTS, fault_from


def test_a_fault_is_read_from_its_text() -> None:
    fault = parse_fault("upload+create:p=0.2,lost_reply=close,latency=50ms")
    assert fault.calls == {"upload", "create"}
    assert (fault.effect, fault.value, fault.phase) == ("lost_reply", "close", "after")
    assert (fault.p, fault.latency_s) == (0.2, 0.05)


@pytest.mark.parametrize("text", ["stall", "*:stall", "stall=1"])
def test_a_fault_without_calls_is_about_all(text: str) -> None:
    assert parse_fault(text).calls == frozenset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status=429,retry_after=date:7", (429, "date:7")),
        ("redirect=http://127.0.0.1:1/x", ("http://127.0.0.1:1/x", None)),
        ("huge=1GB", (10**9, None)),
        ("late_commit=3s,status=504", (3.0, None)),
        ("outage=500ms", (0.5, None)),
    ],
)
def test_values_are_read_with_their_units_and_colons(text: str, expected: tuple[object, object]) -> None:
    fault = parse_fault(text)
    assert (fault.value, fault.retry_after) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "says nothing"),
        ("uplaod:stall", "'uplaod' is no call"),
        ("upload:stal", "'stal' is unknown"),
        ("upload:p=0.5", "an effect is missing"),
        ("upload:p=1.5,stall", "a probability"),
        ("upload:nth=0,stall", "whole number from 1"),
        ("upload:stall,truncate", "one effect at a time"),
        ("upload:stall,stall", "twice"),
        ("upload:status=99", "a status from 200"),
        ("upload:lost_reply=never", "one of close, reset, hang"),
        ("upload:latency=soon", "a duration"),
        ("upload:huge=much", "a size"),
        ("upload:drop_mid=1,when=after", "does not fit"),
        ("upload:status=429,retry_after=soon", "seconds"),
        ("flows:redirect=elsewhere", "a URL"),
    ],
)
def test_what_is_wrong_with_a_fault_is_said(text: str, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        parse_fault(text)


def test_a_fault_may_be_an_object() -> None:
    assert fault_from({"calls": ["upload"], "p": 0.5, "stall": True}) == parse_fault("upload:p=0.5,stall=true")
    with pytest.raises(FormatError):
        fault_from(7)


def test_faults_are_loaded_from_yaml_and_json(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("- upload:p=0.2,lost_reply=close\n- {calls: start, status: 503, retry_after: 7}\n")
    (tmp_path / "f.json").write_text(json.dumps({"faults": ["stall"]}))
    assert [fault.effect for fault in load_faults(tmp_path / "f.yaml")] == ["lost_reply", "status"]
    assert [fault.effect for fault in load_faults(tmp_path / "f.json")] == ["stall"]
    (tmp_path / "bad.yaml").write_text("- [")
    with pytest.raises(FormatError, match=r"bad\.yaml"):
        load_faults(tmp_path / "bad.yaml")


def struck(text: str, calls: int = 8, seed: int = 0) -> list[int]:
    """Which of the first calls (from 1) the fault strikes."""
    plan = Plan([parse_fault(text)], seed)
    return [number for number in range(1, calls + 1) if plan.choose("upload").fault]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("nth=3", [3]),
        ("every=3", [3, 6]),
        ("first=2", [1, 2]),
        ("after=6", [7, 8]),
        ("count=2", [1, 2]),
        ("after=2,count=3", [3, 4, 5]),
        ("every=2,count=2", [2, 4]),
    ],
)
def test_selectors_count_the_calls_from_1(selector: str, expected: list[int]) -> None:
    assert struck(f"upload:{selector},stall") == expected
    assert struck(f"create:{selector},stall") == []


def test_chance_is_seeded() -> None:
    assert struck("p=0.5,stall", 100, seed=1) == struck("p=0.5,stall", 100, seed=1)
    assert struck("p=0.5,stall", 100, seed=1) != struck("p=0.5,stall", 100, seed=2)
    assert 30 < len(struck("p=0.5,stall", 100)) < 70


def test_the_first_fault_wins_and_latencies_add_up() -> None:
    texts = ["latency=1s", "upload:stall,latency=2s", "upload:truncate,latency=4s", "latency=8s"]
    chosen = Plan([parse_fault(text) for text in texts]).choose("upload")
    assert chosen.fault
    assert (chosen.fault.effect, chosen.latency_s) == ("stall", 11)


def test_an_outage_happens_once_unless_it_says_more() -> None:
    assert struck("outage=1s") == [1]
    assert struck("outage=1s,count=2") == [1, 2]


def test_readings_are_read_from_text() -> None:
    readings = Readings.parse("id=asset_id, download=raw,illegal=422,input_processing=0.5,page_size=7")
    assert (readings.id, readings.download, readings.illegal) == ("asset_id", "raw", 422)
    assert (readings.input_processing, readings.page_size) == (0.5, 7)
    assert Readings.parse("") == Readings()


@pytest.mark.parametrize(
    "text",
    ["id", "ide=id", "id=name", "illegal=418", "illegal=x", "page_size=0", "input_processing=-1", "input_processing=nan"],
)
def test_readings_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        Readings.parse(text)


def test_every_reading_and_every_effect_explains_itself() -> None:
    assert all(meaning for _, _, meaning in Readings.table())
    assert all(effect.help for effect in EFFECTS.values())
