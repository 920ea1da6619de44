"""What is told is so: commands that look at one batch agree, wherever it was cut off, and whoever cannot listen."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batcher.cli.commands import init
from batcher.core.chosen import Chosen

from .conftest import PNG, Service, batcher, begin, environment, write_batch

pytestmark = pytest.mark.slow


def told(folder: Path, *words: str) -> dict[str, Any]:
    """The document of a command."""
    result = batcher(folder, *words, "--json")
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """A line for bash, in which `batcher` is the command."""
    text = f'batcher() {{ "{sys.executable}" -m batcher "$@"; }}\n{line}'
    return subprocess.run(["bash", "-c", text], cwd=folder, env=environment(), capture_output=True, text=True, timeout=50)


def killed(service: Service, folder: Path, *words: str) -> None:
    """A run of 40 flows of an input each that is killed once the flows are created, amid the first uploads."""
    write_batch(folder, 40, 1)
    service.order("*:latency=300ms")
    process = begin(folder, "run", "m.yaml", "--endpoint", service.url, *words)
    end = time.monotonic() + 30
    while len(service.record()["flows"]) < 40 and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    process.kill()
    process.communicate()
    service.order()


def test_another_flow_id_after_the_start_is_a_change(service: Service, tmp_path: Path) -> None:
    first, second = service.create(), service.create()
    (tmp_path / "a.png").write_bytes(PNG + b"one")
    text = "version: 1\nflows: [{name: g, flow_id: %s, inputs: [a.png]}]\n"
    words = ("m.yaml", "--endpoint", service.url)
    (tmp_path / "m.yaml").write_text(text % first)
    assert batcher(tmp_path, "run", *words).returncode == 0
    (tmp_path / "m.yaml").write_text(text % second)
    assert batcher(tmp_path, "plan", *words).stdout.splitlines()[:2] == [
        "~ g                           changed since its start; stays as it is", "    ~ flow_id",
    ]  # fmt: skip
    run = batcher(tmp_path, "run", *words)
    assert f"it was started as {first}, which is not what flow_id names now" in run.stderr
    assert "1 changed" in run.stdout
    assert [flow["starts"] for flow in service.record()["flows"]] == [1, 0]
    assert batcher(tmp_path, "run", *words, "--resubmit-changed").returncode == 0
    flows = service.record()["flows"]
    assert [(flow["starts"], len(flow["inputs"]), flow["deleted"]) for flow in flows] == [(1, 1, False)] * 2
    assert told(tmp_path, "run", *words)["requests"]["sent"] == 0


def test_plan_after_a_kill_knows_what_never_left(service: Service, tmp_path: Path) -> None:
    killed(service, tmp_path, "--concurrency", "4")
    held = sum(len(flow["inputs"]) for flow in service.record()["flows"])
    plan = told(tmp_path, "plan", "m.yaml", "--endpoint", service.url)
    assert plan["to_send"] >= 40 - held - 4, "four at a time can have left"
    run = told(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    assert (run["exit_code"], run["flows"]["started"]) == (0, 40)
    assert run["requests"]["sent"] >= plan["requests_needed"]


def test_a_run_that_was_killed_is_not_under_way(service: Service, tmp_path: Path) -> None:
    killed(service, tmp_path)
    time.sleep(1)  # what the run notes of itself at first
    assert "under way since" not in batcher(tmp_path, "status", "m.yaml", "--endpoint", service.url).stdout


def test_plan_sees_that_the_journal_was_lost(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 2, 1)
    words = ("m.yaml", "--endpoint", service.url)
    assert batcher(tmp_path, "run", *words).returncode == 0
    (tmp_path / ".batcher").rename(tmp_path / "away")
    for command in ("plan", "run"):
        result = batcher(tmp_path, command, *words)
        assert result.returncode == 12, command
        assert "the service has 2 flow(s) of the batch “m”" in result.stderr


def test_commands_agree_about_flows_at_fault(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    text = (tmp_path / "m.yaml").read_text()
    text += "- {name: half, template: model_generate_fromimage, inputs: [0/0.png, no.png]}\n"
    (tmp_path / "m.yaml").write_text(text)
    words = ("m.yaml", "--endpoint", service.url)
    run = told(tmp_path, "run", *words, "--keep-going")
    for command in ("status", "report"):
        look = told(tmp_path, command, *words)
        for what in ("total", "started", "failed", "pending"):
            assert look["flows"][what] == run["flows"][what], (command, what)
        assert look["inputs"]["total"] == run["inputs"]["total"] == 3, command
    assert run["flows"]["failed"] == 1


def test_source_that_is_gone_after_the_start_leaves_nothing_pending(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 2, 2)
    words = ("m.yaml", "--endpoint", service.url)
    assert batcher(tmp_path, "run", *words).returncode == 0
    (tmp_path / "m.yaml").write_text((tmp_path / "m.yaml").read_text().replace("{glob: '0/*.png'}", "0/0.png, 0/1.png"))
    (tmp_path / "0" / "1.png").unlink()
    run, status = told(tmp_path, "run", *words), told(tmp_path, "status", *words)
    assert (run["exit_code"], run["requests"]["sent"]) == (0, 0)
    for look in (run, status):
        assert (look["inputs"]["total"], look["inputs"]["uploaded"], look["inputs"]["pending"]) == (4, 4, 0)


def test_commands_agree_about_an_outage(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 9, 2)
    service.order("upload:after=5,status=503")
    words = ("m.yaml", "--endpoint", service.url)
    run = told(tmp_path, "run", *words, "--retries", "1", "--timeout", "5s")
    assert run["exit_code"] == 5
    with_a_problem = {problem["flow"] for problem in run["problems"]} - {None}
    assert run["flows"]["failed"] == len(with_a_problem)
    assert told(tmp_path, "status", *words)["flows"]["failed"] == len(with_a_problem)


def test_each_problem_names_its_flow(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 3)
    (tmp_path / "m.yaml").write_text(
        "version: 1\ndefaults: {template: model_generate_fromimage}\nflows:\n"
        "- {each: {glob: '0/*.png'}, name: 'n{stem}', inputs: ['{path}']}\n"
    )
    service.order("create:status=422")
    result = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    assert result.returncode == 3
    assert sorted(line[-5:] for line in result.stderr.splitlines()) == [" [n0]", " [n1]", " [n2]"]


def test_the_document_of_a_second_copy_has_every_member(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    service.order("*:latency=2s")
    words = ("run", "m.yaml", "--endpoint", service.url)
    with begin(tmp_path, *words) as first:
        while not list(tmp_path.glob(".batcher/*.left")):
            time.sleep(0.02)
        document = told(tmp_path, *words)
        first.kill()
    assert (document["exit_code"], document["endpoint"]) == (11, service.url)
    assert {"manifest", "flows", "inputs", "requests", "elapsed_s", "problems"} <= document.keys()


def test_the_advice_about_a_change_that_only_a_checksum_shows_is_enough(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    words = ("run", "m.yaml", "--endpoint", service.url)
    assert batcher(tmp_path, *words).returncode == 0
    source = tmp_path / "0" / "0.png"
    before, data = source.stat(), bytearray(source.read_bytes())
    data[-1] ^= 1
    source.write_bytes(data)
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "(--checksum --resubmit-changed pays for it again)" in batcher(tmp_path, *words, "--checksum").stderr
    assert "1 started now" in batcher(tmp_path, *words, "--checksum", "--resubmit-changed").stdout


def test_results_of_what_is_ready_are_had_without_a_unit(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url).returncode == 0
    result = batcher(tmp_path, "collect", "m.yaml", "--to", "out", "--wait", "0", "--endpoint", service.url)
    assert result.returncode in (0, 10), result.stderr


@pytest.mark.parametrize(
    ("redirected", "code"),
    [("2>&-", 0), ("2>/dev/full", 0), (">/dev/full 2>&1", 0), (">&- 2>&-", 0), (">/dev/full", 0),
     ("2>&1 | head -c 0; exit ${PIPESTATUS[0]}", 0)],
)  # fmt: skip
def test_a_run_does_what_it_does_whoever_cannot_listen(service: Service, tmp_path: Path, redirected: str, code: int) -> None:
    write_batch(tmp_path, 2, 1)
    result = shell(tmp_path, f"batcher run m.yaml --endpoint {service.url} {redirected}")
    assert result.returncode == code, result.stderr
    assert "bug" not in result.stdout + result.stderr
    assert ("cannot be written: No space left" in result.stderr) == (redirected == ">/dev/full")
    assert [flow["starts"] for flow in service.record()["flows"]] == [1, 1]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("batcher run no.yaml 2>/dev/full", 2),
        ("batcher run no.yaml 2>&-", 2),
        ("batcher help manifest >/dev/full", 2),
        ("batcher --help >/dev/full", 2),
        ("batcher schema >/dev/full", 2),
        ("batcher help manifest | head -c 1; exit ${PIPESTATUS[0]}", 0),
    ],
)
def test_results_that_cannot_be_written_are_no_success_and_no_bug(tmp_path: Path, line: str, code: int) -> None:
    result = shell(tmp_path, line)
    assert result.returncode == code, result.stderr
    assert "bug" not in result.stderr
    assert ("cannot be written" in result.stderr) == line.endswith(">/dev/full") or "2>" in line


def test_the_state_folder_is_its_owners_with_the_embedded_sandbox_too(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    assert batcher(tmp_path, "plan", "m.yaml", "--endpoint", "sandbox").returncode == 0
    assert stat.S_IMODE((tmp_path / ".batcher").stat().st_mode) == 0o700


def test_a_key_that_is_missing_is_not_called_refused(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    command = [sys.executable, "-m", "batcher", "sandbox", "--dir", str(tmp_path / "store"), "--key", "abc", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        for key, said in (("", "the service wants a key: 401"), ("wrong", "the service refuses the key: 401")):
            result = batcher(tmp_path, "run", "m.yaml", "--endpoint", url, GENERIO_API_KEY=key)
            assert result.returncode == 7
            assert said in result.stderr
        process.terminate()


def test_a_port_that_is_taken_is_said_in_words(tmp_path: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = batcher(tmp_path, "sandbox", "--port", str(port))
    assert result.returncode == 2
    assert f"port {port} is in use" in result.stderr


def test_what_cannot_be_an_image_is_left_out_of_a_first_manifest(tmp_path: Path) -> None:
    for name, content in {"ok.png": PNG + b"x", "text.png": b"hello\n", "short.webp": b"RIFF"}.items():
        (tmp_path / name).write_bytes(content)
    document = json.loads(batcher(tmp_path, "init", ".", "--json").stdout)
    assert [odd["path"] for odd in document["left_out"]] == ["short.webp", "text.png"]
    assert document["inputs"] == 1


def test_the_root_folder_has_a_place_for_its_results() -> None:
    assert init._next(Path("/"), Path("/batcher.yaml"), "sandbox", "one")[-1].endswith("--to results")


def test_a_name_that_is_asked_about_twice_is_suggested_once() -> None:
    chosen = Chosen("--redo", ["nosuch"])
    for name in ("a", "b", "a", "b"):
        assert not chosen(name)
    assert chosen.missed()[0].hint.endswith("there are: a, b")


def test_why_a_flow_failed_is_told_everywhere(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 2, 1)
    words = ("m.yaml", "--endpoint", service.url)
    service.order("start:nth=2,fail_flow=1")
    service.read("reason=object")
    assert batcher(tmp_path, "run", *words).returncode == 0
    why = "OOM: out of memory while meshing"
    collected = batcher(tmp_path, "collect", *words, "--to", "out")
    assert collected.returncode == 13
    assert f"failed on the service: {why}; what it left" in collected.stderr
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        assert file.readline().rstrip().split(",")[-1] == "reason"
        file.seek(0)
        rows = {row["flow"]: row["reason"] for row in csv.DictReader(file)}
    assert sorted(rows.values()) == ["", why]
    failed = next(flow for flow, reason in rows.items() if reason)
    service.process.terminate()  # what is told from here on comes from the journal
    service.process.wait(10)
    status = batcher(tmp_path, "status", *words)
    assert f"it failed on the service: {why}" in status.stdout
    assert "2 of 2 started, 1 failed, 1 collected" in status.stdout
    document = told(tmp_path, "status", *words)
    (entry,) = (flow for flow in document["journal"] if "ended" in flow)
    assert (entry["flow"], entry["ended"], entry["reason"]) == (failed, "failed", why)
    assert (document["flows"]["started"], document["flows"]["failed"]) == (2, 0), "as run counts them"
    assert (document["problems"][0]["kind"], document["problems"][0]["flow"]) == ("failed", failed)
    page = told(tmp_path, "report", *words)
    assert page["flows"] == document["flows"]
    assert why in (tmp_path / "report.html").read_text()
    again = batcher(tmp_path, "collect", *words, "--to", "out", "--retries", "0")
    assert why in again.stderr, "a later collect knows it, too"


def test_wrong_usage_is_told_in_a_document_where_one_is_asked_for(tmp_path: Path) -> None:
    done = batcher(tmp_path, "run", "m.yaml", "--bogus", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"]) == (2, 2)
    assert "--bogus" in document["problems"][0]["message"]
    assert "--bogus" in done.stderr


def test_plan_ends_as_run_does_where_the_service_is_away(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        done = batcher(tmp_path, "plan", "m.yaml", "--json", "--endpoint", f"http://127.0.0.1:{nobody.getsockname()[1]}")
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"], document["problems"][0]["kind"]) == (5, 5, "unavailable")


def test_what_never_left_is_not_counted_as_unanswered(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 20, 1)
    service.order("upload:latency=9s")
    process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--rate", "8/s", "--concurrency", "2")
    end = time.monotonic() + 30
    while len(service.record()["flows"]) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    words = batcher(tmp_path, "status", "m.yaml", "--endpoint", service.url).stdout
    foretold = told(tmp_path, "plan", "m.yaml", "--endpoint", service.url)["open"]
    assert 1 <= foretold["uploads"] <= 2, "so many were in flight at a time; the others were announced"
    assert f"no reply was seen to {foretold['uploads']} upload" in words
