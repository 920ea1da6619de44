"""`collect` as a command: the quickstart, kills at random, signals, a bounded memory, its documents and its words."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import PNG, Service, batcher, begin, environment, write_batch

pytestmark = pytest.mark.slow

MANIFESTS = Path(__file__).parents[2] / "manifests"


def assert_whole(folder: Path, flows: int, inputs: int) -> None:
    """Every output there, once and whole, made from its own source; nothing half-done left behind."""
    out = folder / "out"
    found = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    lists = {found.pop("results.csv").decode(), found.pop("results.jsonl").decode()}
    assert len(lists) == 2
    assert set(found) == {f"f{flow}/{number}.glb" for flow in range(flows) for number in range(inputs)}
    for name, content in found.items():
        assert content[:4] == b"glTF"
        assert int.from_bytes(content[8:12], "little") == len(content)
        assert (folder / name[1:].replace(".glb", ".png")).read_bytes() in content
    with open(out / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["source"], row["output"], row["state"]) for row in rows} == {
        (f"{flow}/{number}.png", f"f{flow}/{number}.glb", "collected") for flow in range(flows) for number in range(inputs)
    }


def killed_at_random(service: Service, folder: Path, kills: int, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    flows, inputs, width = 4, 12, 4
    write_batch(folder, flows, inputs, size=60_000)
    assert batcher(folder, "run", "m.yaml", "--endpoint", service.url).returncode == 0
    service.order("*:latency=60ms", "output:p=0.1,garbage=html", "output:p=0.1,truncate=1")
    words = ("collect", "m.yaml", "--endpoint", service.url, "--to", "out", "--concurrency", str(width))
    for _ in range(kills):
        process = begin(folder, *words)
        time.sleep(rng.uniform(0.4, 1.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    service.order()
    done = batcher(folder, *words)
    assert done.returncode == 0, done.stderr
    assert_whole(folder, flows, inputs)
    requests = service.record()["requests"]["output"]
    again = batcher(folder, *words, "--quiet")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert service.record()["requests"]["output"] == requests, "a file that was there was downloaded again"


def test_collect_killed_at_random_completes_on_the_next_one(service: Service, tmp_path: Path) -> None:
    killed_at_random(service, tmp_path, kills=4, seed=7)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_collect_killed_fifty_times(service: Service, tmp_path: Path) -> None:
    killed_at_random(service, tmp_path, kills=50, seed=random.randrange(1 << 32))


def test_collect_at_64_brings_every_output(service: Service, tmp_path: Path) -> None:
    """The loop and as many threads as there are read the journal at the same time."""
    write_batch(tmp_path, 300, 1)
    words = ("m.yaml", "--endpoint", service.url, "--concurrency", "64")
    assert batcher(tmp_path, "run", *words).returncode == 0
    done = batcher(tmp_path, "collect", *words, "--to", "out")
    assert done.returncode == 0, done.stderr
    assert_whole(tmp_path, 300, 1)


def test_quickstart_is_collected_from_the_embedded_sandbox(tmp_path: Path) -> None:
    folder = shutil.copytree(MANIFESTS, tmp_path / "manifests")
    assert batcher(folder, "run", "quickstart.yaml").returncode == 0
    done = batcher(folder, "collect", "quickstart.yaml", "--to", "out", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["outputs"]["total"], document["outputs"]["collected_now"], document["ends"]["completed"]) == (8, 8, 5)
    assert (document["exit_code"], document["flows"]["started"], document["problems"]) == (0, 5, [])
    assert (folder / "out" / "stools" / "moss.glb").read_bytes()[:4] == b"glTF"
    (folder / "out" / "results.csv").unlink()
    both = batcher(folder, "run", "quickstart.yaml", "--collect", "out")
    assert both.returncode == 0, both.stderr
    assert "outputs: 0 collected now" in both.stdout
    assert (folder / "out" / "results.csv").is_file()


def test_fewer_outputs_are_an_alert_until_they_are_accepted(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 3)
    command = [sys.executable, "-m", "batcher.sandbox", "--dir", str(tmp_path / "store"), "--reading", "fewer=2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        try:
            assert batcher(tmp_path, "run", "m.yaml", "--endpoint", url).returncode == 0
            words = ("collect", "m.yaml", "--endpoint", url, "--to", "out", "--wait", "1s")
            short = batcher(tmp_path, *words)
            assert (short.returncode, "2 are missing, of 0/" in short.stderr) == (12, True), short.stderr
            assert "1 of 1 collected, 2 missing" in short.stdout
            assert "--accept-fewer" in short.stderr
            alone = batcher(tmp_path, "run", "m.yaml", "--endpoint", url, "--accept-fewer")
            assert (alone.returncode, "add --collect DIR" in alone.stderr) == (2, True)
            both = batcher(tmp_path, "run", "m.yaml", "--endpoint", url, "--collect", "out", "--accept-fewer", "--json")
            assert both.returncode == 0, both.stderr
            assert json.loads(both.stdout)["outputs"]["missing"] == 2
            again = batcher(tmp_path, *words, "--quiet")
            assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
        finally:
            process.terminate()
            process.wait(10)


def test_waiting_signals_failures_and_a_second_copy_have_their_codes(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 2, 3)
    words = ("collect", "m.yaml", "--endpoint", service.url, "--to", "out")
    service.order("start:nth=2,fail_flow=1")
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url).returncode == 0
    service.order("flow:latency=5s")
    process = begin(tmp_path, *words)
    time.sleep(1.5)
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url).returncode == 11
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    service.order()
    failed = batcher(tmp_path, *words, "--wait", "2h", "--json")
    assert failed.returncode == 13, failed.stderr
    (problem,) = json.loads(failed.stdout)["problems"]
    assert (problem["kind"], "--redo" in problem["hint"]) == ("failed", True)
    assert len(list((tmp_path / "out" / "failed").rglob("*.glb"))) == 3
    name = problem["flow"]
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--redo", name).returncode == 0
    redone = batcher(tmp_path, *words, "--delete-remote")
    assert redone.returncode == 0, redone.stderr
    assert "2 deleted from the service" in redone.stdout
    assert len(list((tmp_path / "out").glob("f*/*.glb"))) == 6
    adopted = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--adopt", "--json")
    assert (adopted.returncode, json.loads(adopted.stdout)["flows"]["started_now"]) == (0, 0)


def test_full_disk_ends_it_in_words_and_the_next_one_completes(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 2, size=600_000)
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url).returncode == 0
    words = ("collect", "m.yaml", "--endpoint", service.url, "--to", "out")
    limit = f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({400_000}, {400_000}))"
    command = [sys.executable, "-c", f"{limit}; from batcher.cli import main; main()", *words]
    full = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=50)
    assert full.returncode == 12, full.stderr
    assert "cannot be used" in full.stderr
    assert "Traceback" not in full.stderr
    assert list((tmp_path / "out").rglob("*.glb")) == list((tmp_path / "out").rglob("*.part")) == []
    assert batcher(tmp_path, *words).returncode == 0
    assert_whole(tmp_path, 1, 2)


def test_wrong_words_are_told_before_anything_is_done(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    for words, fragment in (
        (["--to", "out", "--name", "{stm}"], "did you mean {stem}?"),
        (["--to", "out"], "batcher run comes first"),
        (["--wait", "soon", "--to", "out"], "90s"),
    ):
        result = batcher(tmp_path, "collect", "m.yaml", *words)
        assert result.returncode == 2
        assert fragment in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("download", ["json", "raw"])
def test_memory_is_bounded_with_an_output_of_300_mb(tmp_path: Path, download: str) -> None:
    command = [sys.executable, "-m", "batcher.sandbox", "--dir", str(tmp_path / "store"), "--reading", f"download={download}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        try:
            with open(tmp_path / "large.png", "wb") as file:
                file.write(PNG)
                for _ in range(300):
                    file.write(os.urandom(1_000_000))
            text = "version: 1\nflows: [{name: f, template: model_generate_fromimage, inputs: [large.png]}]\n"
            (tmp_path / "m.yaml").write_text(text)
            assert batcher(tmp_path, "run", "m.yaml", "--endpoint", url).returncode == 0
            began = time.monotonic()
            words = [sys.executable, "-m", "batcher", "collect", "m.yaml", "--endpoint", url, "--to", "out", "--quiet"]
            child = subprocess.Popen(words, cwd=tmp_path, env=environment())
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            elapsed_s = time.monotonic() - began
        finally:
            process.terminate()
            process.wait(10)
    assert child.returncode == 0
    size = (tmp_path / "out" / "f" / "large.glb").stat().st_size
    assert size > 300_000_000
    print(f"{download}: {size / 1e6:.0f} MB in {elapsed_s:.1f} s, peak RSS {usage.ru_maxrss / 1024:.0f} MiB")
    assert usage.ru_maxrss <= 120 * 1024
