"""The whole life of a batch, as its user sees it: run, collect, status, report, redo, with what fails on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import PNG, Service, batcher, begin, write_batch

pytestmark = pytest.mark.slow
FLOWS = 12


def told(folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    result = batcher(folder, *words, "--json")
    assert result.returncode == code, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def words(service: Service, tmp_path: Path) -> tuple[str, ...]:
    """A batch of flows of an input each, with a price; every fourth start fails."""
    write_batch(tmp_path, FLOWS, 1)
    text = (tmp_path / "m.yaml").read_text().replace("limits: {", "limits: {price_per_start: 0.40 EUR, max_cost: 5 EUR, ")
    (tmp_path / "m.yaml").write_text(text)
    service.order("start:every=4,fail_flow")
    service.read("reason=object")
    return "m.yaml", "--endpoint", service.url


def test_every_screen_tells_the_same_from_the_run_to_the_redo(service: Service, tmp_path: Path, words: tuple[str, ...]) -> None:
    plan = batcher(tmp_path, "plan", *words)
    assert "to pay:   12 starts, 4.80 EUR\n" in plan.stdout
    run = batcher(tmp_path, "run", *words)
    assert run.returncode == 0, run.stderr
    assert "paid:   4.80 EUR now for 12 starts, 4.80 EUR in all for 12" in run.stdout
    assert told(tmp_path, "status", *words)["states"]["started"] == FLOWS
    time.sleep(1.5)
    service.order("start:nth=1,fail_flow")
    refreshed = told(tmp_path, "status", *words, "--refresh")
    assert (refreshed["states"]["completed"], refreshed["states"]["failed"]) == (9, 3)
    assert refreshed["refreshed"]["requests"] <= FLOWS
    assert told(tmp_path, "status", *words)["states"] == refreshed["states"], "it is kept"

    collect = batcher(tmp_path, "collect", *words, "--to", "out")
    assert collect.returncode == 13
    status = batcher(tmp_path, "status", *words).stdout
    assert "flows:   12 of 12 started, 3 failed, 9 collected\n" in status
    assert ", to out\n" in status
    assert "ended with 13\n" in status
    report = batcher(tmp_path, "report", *words)
    assert report.stdout.startswith("report.html: 12 of 12 flows started, 3 failed, 9 collected; ")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "3 of 12 flows need a look." in page
    assert "ended with 13: a flow failed or was aborted on the service." in page
    assert "OOM: out of memory while meshing" in page
    assert "4.80 EUR" in page

    redo = batcher(tmp_path, "plan", *words, "--redo-failed")
    assert "to pay:   3 starts, 1.20 EUR\n" in redo.stdout
    assert "paid:     12 starts, 4.80 EUR\n" in redo.stdout
    some = batcher(tmp_path, "run", *words, "--redo-failed", "--max-starts", "1", "--quiet")
    assert some.returncode == 10
    assert "paid 0.40 EUR now for 1 start, 5.20 EUR in all for 13" in some.stderr, "a mail of cron says it, too"
    assert batcher(tmp_path, "run", *words, "--redo-failed").returncode == 0
    assert batcher(tmp_path, "collect", *words, "--to", "out").returncode == 13
    again = told(tmp_path, "status", *words)
    assert (again["states"]["failed"], again["states"]["collected"], again["cost"]["paid"]) == (1, 11, "6.00 EUR")
    attempts = [flow["attempts"] for flow in again["journal"] if "attempts" in flow]
    assert [len(of) for of in attempts] == [1, 1, 1]
    assert {one["reason"] for of in attempts for one in of} == {"OOM: out of memory while meshing"}
    assert sum(flow["starts"] for flow in service.record()["flows"]) == 15, "each is paid for as often as it was asked for"
    assert batcher(tmp_path, "report", *words).returncode == 0
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', (tmp_path / "report.html").read_text("utf-8"))
    assert data is not None
    assert sum("attempts" in more for more in json.loads(data[1])["more"].values()) == 3


def test_a_cap_on_the_cost_is_found_before_a_write(service: Service, tmp_path: Path, words: tuple[str, ...]) -> None:
    text = (tmp_path / "m.yaml").read_text().replace("max_cost: 5 EUR", "max_cost: 4.79 EUR")
    (tmp_path / "m.yaml").write_text(text)
    run = batcher(tmp_path, "run", *words)
    assert run.returncode == 2
    assert "this run would start 12 flows for 4.80 EUR, and limits.max_cost allows 4.79 EUR" in run.stderr
    assert not service.record()["flows"]


def test_a_refresh_in_vain_shows_what_is_known_and_why(service: Service, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert batcher(tmp_path, "run", *words).returncode == 0
    service.process.terminate()
    service.process.wait(10)
    status = batcher(tmp_path, "status", *words, "--refresh")
    assert status.returncode == 5
    assert "flows:   12 of 12 started\n" in status.stdout
    assert "asked:   in vain: " in status.stdout
    assert "Traceback" not in status.stderr


def test_a_template_that_is_misspelt_in_defaults_is_told_once_and_there(service: Service, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG + os.urandom(99))
    flows = "".join(f"- {{name: f{n}, inputs: [a.png]}}\n" for n in range(30))
    (tmp_path / "m.yaml").write_text(f"version: 1\ndefaults: {{template: model_generate_fromimag}}\nflows:\n{flows}")
    run = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    assert run.returncode == 2
    assert run.stderr.count("the service has no template") == 1
    said = "m.yaml:2:22: the service has no template model_generate_fromimag (did you mean model_generate_fromimage?)"
    assert said in run.stderr


@pytest.mark.parametrize("command", ["collect", "gallery"])
def test_a_folder_that_is_not_named_is_asked_for_in_words(tmp_path: Path, command: str) -> None:
    (tmp_path / "m.yaml").write_text("version: 1\nflows: []\n")
    result = batcher(tmp_path, command, "m.yaml")
    assert result.returncode == 2
    assert result.stderr.startswith("batcher: --to is missing: ")
    assert f"batcher {command} m.yaml --to out" in result.stderr


def test_a_second_signal_says_that_it_ended_at_once(service: Service, tmp_path: Path, words: tuple[str, ...]) -> None:
    service.order("upload:latency=20s")
    process = begin(tmp_path, "run", *words, "--progress", "plain")
    end = time.monotonic() + 30
    while "create" not in service.requests() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1.0)  # its upload is on its way now, and takes long
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopped at once; what the journal has stays" in errors
    plan = batcher(tmp_path, "plan", *words)
    assert "open:     no reply was seen to " in plan.stdout
    service.order()
    again = batcher(tmp_path, "run", *words)
    assert again.returncode == 0, again.stderr
