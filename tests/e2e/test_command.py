"""The command as people and cron meet it: exit codes, documents, kills, signals, a second copy."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from .conftest import PNG, Service, batcher, begin, write_batch

pytestmark = pytest.mark.slow


def judge(service: Service, folder: Path, flows: int, inputs: int, complete: bool = True) -> dict:
    """No flow that was started may be wrong or started twice; when complete, nothing is left behind."""
    record = service.record()
    started = [flow for flow in record["flows"] if flow["starts"]]
    names = Counter(flow["additional"]["batcher"]["flow"] for flow in started)
    assert all(count == 1 for count in names.values()), names
    for flow in started:
        assert flow["starts"] == 1
        source = folder / flow["additional"]["batcher"]["flow"].removeprefix("f")
        meant = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in source.iterdir())
        assert Counter(item["sha256"] for item in flow["inputs"]) == meant
        assert len(flow["inputs"]) == inputs
    if complete:
        assert len(started) == flows
        assert not [flow for flow in record["flows"] if not flow["starts"] and not flow["deleted"]]
    return record


def wait_for_an_upload(service: Service) -> None:
    """Until the run that was begun is at work; at most 20 s."""
    deadline = time.monotonic() + 20
    while "upload" not in service.requests():
        assert time.monotonic() < deadline, "nothing was uploaded"
        time.sleep(0.05)


def test_run_completes_and_a_second_one_sends_nothing(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 3, 4)
    first = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--json")
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert document["flows"] == {"total": 3, "started": 3, "started_now": 3, "pending": 0, "failed": 0, "changed": 0,
                                 "rebuilt": 0}  # fmt: skip
    assert (document["inputs"]["uploaded_now"], document["inputs"]["pending"]) == (12, 0)
    judge(service, tmp_path, 3, 4)
    second = json.loads(batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--json").stdout)
    assert (second["exit_code"], second["requests"]["sent"], second["flows"]["started"]) == (0, 0, 3)
    quiet = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    status = json.loads(batcher(tmp_path, "status", "m.yaml", "--endpoint", service.url, "--json").stdout)
    assert (status["flows"]["started"], status["inputs"]["uploaded"]) == (3, 12)


def test_plan_writes_nothing(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 2, 2)
    result = batcher(tmp_path, "plan", "m.yaml", "--endpoint", service.url, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["to_send"] == 4
    assert service.record()["flows"] == []
    assert not (tmp_path / ".batcher").exists()


@pytest.mark.parametrize("seed", range(2))
def test_killed_run_completes_on_the_next_one(service: Service, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    write_batch(tmp_path, 6, 12, size=60_000)
    service.order("*:latency=20ms")
    for _ in range(5):
        process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--concurrency", "8")
        time.sleep(rng.uniform(0.3, 1.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    service.order()
    result = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    assert result.returncode == 0, result.stderr
    judge(service, tmp_path, 6, 12)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_drains_and_the_next_run_resumes(service: Service, tmp_path: Path, number: int, code: int) -> None:
    write_batch(tmp_path, 4, 20)
    service.order("*:latency=100ms")
    process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--concurrency", "4")
    while service.record()["requests"].get("upload", 0) < 8 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    judge(service, tmp_path, 4, 20, complete=False)
    service.order()
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url).returncode == 0
    record = judge(service, tmp_path, 4, 20)
    assert record["requests"]["upload"] == 80, "an input was sent twice"


def test_second_copy_is_told_so(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 5)
    service.order("*:latency=300ms")
    process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    wait_for_an_upload(service)
    service.order("*:latency=4s")  # for the list that comes next
    second = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    service.order()
    assert second.returncode == 11
    assert "another run" in second.stderr
    process.communicate()
    assert process.returncode == 0


def test_deadline_ends_the_run_in_order(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 4, 20)
    service.order("*:latency=200ms")
    words = ("run", "m.yaml", "--endpoint", service.url, "--concurrency", "2")
    assert batcher(tmp_path, *words, "--max-duration", "1s").returncode == 10
    service.order()
    assert batcher(tmp_path, *words).returncode == 0
    judge(service, tmp_path, 4, 20)


def test_refused_input_stops_only_its_flow(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 3, 2)
    (tmp_path / "1" / "0.png").write_bytes(PNG + os.urandom(1_200_000))
    result = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    assert result.returncode == 3
    assert "1/0.png" in result.stderr
    record = judge(service, tmp_path, 3, 2, complete=False)
    assert sum(flow["starts"] for flow in record["flows"]) == 2
    (tmp_path / "1" / "0.png").write_bytes(PNG + b"small")
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url).returncode == 0
    judge(service, tmp_path, 3, 2)


def test_dead_service_and_refused_key_have_their_codes_and_the_key_is_nowhere(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    dead = batcher(tmp_path, "run", "m.yaml", "--endpoint", "http://127.0.0.1:9", "--retries", "1")
    assert dead.returncode == 5
    service.order("*:status=401")
    refused = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--verbose", "--log-file", "log.txt")
    assert refused.returncode == 7
    assert "GENERIO_API_KEY" in refused.stderr
    clear = batcher(tmp_path, "run", "m.yaml", "--endpoint", "http://flows.example")
    assert clear.returncode == 2
    assert "https" in clear.stderr
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for text in (dead.stderr, refused.stderr, refused.stdout, clear.stderr, *map(repr, written)):
        assert "secret-key-7" not in text


def test_missing_source_stops_before_the_first_write_and_keep_going_sends_the_rest(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 2, 2)
    text = (tmp_path / "m.yaml").read_text() + "- {name: gone, template: model_generate_fromimage, inputs: [nope.png]}\n"
    (tmp_path / "m.yaml").write_text(text)
    result = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    assert result.returncode == 4
    assert "m.yaml:10:61: no such file: 'nope.png'" in result.stderr
    assert service.record()["flows"] == []
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--keep-going").returncode == 4
    judge(service, tmp_path, 2, 2)


def test_lost_journal_is_adopted(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 3, 3)
    words = ("run", "m.yaml", "--endpoint", service.url)
    assert batcher(tmp_path, *words).returncode == 0
    for path in (tmp_path / ".batcher").glob("m-*"):
        path.unlink()
    assert batcher(tmp_path, *words).returncode == 12
    adopted = batcher(tmp_path, *words, "--adopt", "--json")
    assert adopted.returncode == 0, adopted.stderr
    assert json.loads(adopted.stdout)["flows"]["started"] == 3
    judge(service, tmp_path, 3, 3)


def test_what_was_adopted_before_is_not_deleted_when_adopting_again(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 3, 2)
    words = ("run", "m.yaml", "--endpoint", service.url)
    assert batcher(tmp_path, *words, "--no-start").returncode == 0
    for path in (tmp_path / ".batcher").glob("m-*"):
        path.unlink()
    assert batcher(tmp_path, *words, "--adopt", "--no-start").returncode == 0
    again = batcher(tmp_path, *words, "--adopt")
    assert again.returncode == 0, again.stderr
    gone = [flow for flow in judge(service, tmp_path, 3, 2)["flows"] if flow["deleted"]]
    assert all(not flow["inputs"] for flow in gone), "but for the one that shows that the list is whole"


def test_flow_that_turns_out_to_be_started_is_neither_deleted_nor_built_anew(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 2)
    words = ("run", "m.yaml", "--endpoint", service.url)
    assert batcher(tmp_path, *words, "--no-start").returncode == 0
    (flow,) = service.record()["flows"]
    service.start(flow["flow_id"])  # as a start that was lost and comes late
    (tmp_path / "0" / "0.png").write_bytes(PNG + b"changed")  # so that the flow is given up
    time.sleep(0.5)  # it is completed, and the service would delete it
    result = batcher(tmp_path, *words)
    assert result.returncode == 12
    assert "was to be deleted, but the service says that it is completed" in result.stderr
    assert "started late; what it was started with is not known; --redo NAME pays for it again" in result.stderr
    again = batcher(tmp_path, *words, "--resubmit-changed", "--json")
    flows = json.loads(again.stdout)["flows"]
    assert (again.returncode, flows["started"], flows["changed"], flows["pending"]) == (0, 1, 0, 0)
    (flow,) = service.record()["flows"]
    assert (flow["starts"], flow["deleted"]) == (1, False)


def test_what_changed_is_deleted_before_it_is_created_anew(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 2)
    words = ("run", "m.yaml", "--endpoint", service.url)
    assert batcher(tmp_path, *words, "--no-start").returncode == 0
    (tmp_path / "0" / "0.png").write_bytes(PNG + b"changed")
    assert batcher(tmp_path, *words).returncode == 0
    assert [call for call in service.requests() if call in ("create", "delete")] == ["create", "delete", "create"]


def test_clean_deletes_what_was_never_started(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 2, 2)
    words = ("m.yaml", "--endpoint", service.url)
    assert batcher(tmp_path, "run", *words, "--no-start").returncode == 0
    listed = batcher(tmp_path, "clean", *words)
    assert listed.stdout.count("  f0\n") == 1
    assert batcher(tmp_path, "clean", *words, "--yes").returncode == 0
    assert all(flow["deleted"] for flow in service.record()["flows"])
    assert batcher(tmp_path, "run", *words).returncode == 0
    judge(service, tmp_path, 2, 2)


def test_usage_errors_are_said_in_a_line(tmp_path: Path) -> None:
    for words, fragment in ((["rnu"], "did you mean run"), (["run", "none.yaml"], "no such manifest"), (["run"], "MANIFEST")):
        result = batcher(tmp_path, *words)
        assert result.returncode == 2
        assert fragment in result.stderr
        assert "Traceback" not in result.stderr
    assert batcher(tmp_path, "--version").stdout.startswith("batcher, version")


def test_flow_that_was_given_by_its_id_is_neither_deleted_nor_started_twice(service: Service, tmp_path: Path) -> None:
    flow_id = service.create()
    source = tmp_path / "a.png"
    source.write_bytes(PNG + b"one")
    (tmp_path / "m.yaml").write_text(f"version: 1\nflows: [{{name: g, flow_id: {flow_id}, inputs: [a.png]}}]\n")
    words = ("run", "m.yaml", "--endpoint", service.url)
    assert batcher(tmp_path, *words, "--no-start").returncode == 0
    before = source.stat()
    source.write_bytes(PNG + b"two")
    changed = batcher(tmp_path, *words)
    assert changed.returncode == 12
    assert "does not delete" in changed.stderr
    source.write_bytes(PNG + b"one")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert batcher(tmp_path, *words).returncode == 0
    assert batcher(tmp_path, *words, "--redo", "g").returncode == 2
    assert batcher(tmp_path, *words).returncode == 0
    (flow,) = service.record()["flows"]
    assert (flow["starts"], len(flow["inputs"]), flow["deleted"]) == (1, 1, False)


@pytest.mark.parametrize("edit", ["another name", "another flow, and back"])
def test_flow_that_inputs_were_sent_into_is_not_filled_again(service: Service, tmp_path: Path, edit: str) -> None:
    """They may yet arrive in it, whatever the manifest calls it by now."""
    first, second = service.create(), service.create()
    (tmp_path / "a.png").write_bytes(PNG + b"one")
    text = "version: 1\nlimits: {timeout: 500ms, settle: 60s}\nflows: [{name: %s, flow_id: %s, inputs: [a.png]}]\n"
    words = ("run", "m.yaml", "--endpoint", service.url)
    (tmp_path / "m.yaml").write_text(text % ("f", first))
    service.order("upload:nth=1,late_commit=50s")
    assert batcher(tmp_path, *words, "--max-duration", "3s").returncode == 10
    if edit == "another name":
        (tmp_path / "m.yaml").write_text(text % ("g", first))
        known = " as f"
    else:
        (tmp_path / "m.yaml").write_text(text % ("f", second))
        assert batcher(tmp_path, *words).returncode == 0
        (tmp_path / "m.yaml").write_text(text % ("f", first))
        known = ""
    refused = batcher(tmp_path, *words, "--resubmit-changed")
    assert refused.returncode == 12
    assert f"inputs were sent into the flow {first} before{known}, and may yet arrive there" in refused.stderr
    assert [flow["starts"] for flow in service.record()["flows"]] == [0, int(edit != "another name")]


@pytest.mark.parametrize("instead", ["flow_id: %s", "template: model_generate_fromimage"])
def test_flow_that_was_given_is_let_go_of_when_the_manifest_names_another(
    service: Service, tmp_path: Path, instead: str
) -> None:
    first = service.create()
    (tmp_path / "a.png").write_bytes(PNG + b"one")
    text = "version: 1\nflows: [{name: g, %s, inputs: [a.png]}]\n"
    (tmp_path / "m.yaml").write_text(text % f"flow_id: {first}")
    words = ("run", "m.yaml", "--endpoint", service.url)
    assert batcher(tmp_path, *words, "--no-start").returncode == 0
    (tmp_path / "a.png").write_bytes(PNG + b"two")
    said = batcher(tmp_path, *words)
    assert said.returncode == 12
    assert "make a new flow on the service and name its id" in said.stderr
    (tmp_path / "m.yaml").write_text(text % (instead % service.create() if "%" in instead else instead))
    result = batcher(tmp_path, *words)
    assert result.returncode == 0, result.stderr
    flows = service.record()["flows"]
    assert [(flow["starts"], len(flow["inputs"]), flow["deleted"]) for flow in flows] == [(0, 1, False), (1, 1, False)]
    assert flows[1]["inputs"][0]["sha256"] == hashlib.sha256(PNG + b"two").hexdigest()
