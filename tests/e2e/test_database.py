"""The command with its journal in PostgreSQL, as real processes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from batcher.journal.postgres.address import DatabaseAddress
from tests.postgres import own_server, server

from .conftest import Service, batcher, begin, write_batch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]  # seconds, on a machine that is busy; some fifteen commands

PASSWORD = "geheim%20word"  # the server takes any


@pytest.fixture
def state() -> str:
    """A database of its own."""
    name = f"d{os.urandom(6).hex()}"
    with server().connect() as beside:
        beside.execute(f"CREATE DATABASE {name}")
    return server().url.replace("/postgres?", f"/{name}?").replace("postgres:@", f"postgres:{PASSWORD}@")


def everything(folder: Path) -> str:
    """All that lies in the folder, but what the sandbox keeps."""
    return "".join(path.read_text(errors="replace") for path in folder.glob("*") if path.is_file())


def test_batch_is_brought_to_done_and_every_command_works_on_it(service: Service, state: str, tmp_path: Path) -> None:
    write_batch(tmp_path, 3, 2)
    said = ""

    def command(*words: str, code: int = 0, **env: str) -> str:
        nonlocal said
        ended = batcher(tmp_path, *words, "--endpoint", service.url, **{"BATCHER_STATE": state, **env})
        said += ended.stdout + ended.stderr
        assert ended.returncode == code, ended.stderr
        return ended.stdout

    assert "nothing was run here" in command("collect", "m.yaml", "--to", "out", code=2) + said
    assert "3 new" in command("plan", "m.yaml")
    assert json.loads(command("run", "m.yaml", "--json", "--log-file", "log"))["flows"]["started_now"] == 3
    assert json.loads(command("run", "m.yaml", "--json"))["requests"]["sent"] == 0
    assert json.loads(command("status", "m.yaml", "--json", "--verbose"))["flows"]["started"] == 3
    assert json.loads(command("collect", "m.yaml", "--to", "out", "--json"))["exit_code"] == 0
    command("report", "m.yaml")
    command("clean", "m.yaml", "--yes")
    command("status", "m.yaml", code=5, BATCHER_STATE="postgresql://u:geheim@127.0.0.1:1/db")
    command("status", "m.yaml", code=2, BATCHER_STATE=state.replace("?", "none?"))
    command("cron", "m.yaml", code=2)
    assert "--state postgresql://" in command("cron", "m.yaml", BATCHER_STATE=state.replace(PASSWORD, "")).replace("'", "")
    (tmp_path / "m.yaml").rename(tmp_path / "n.yaml")
    command("run", "n.yaml", code=12)
    assert "this manifest was m.yaml, which is gone" in said
    assert not (tmp_path / ".batcher").exists()
    assert "geheim" not in said
    assert "geheim" not in everything(tmp_path)
    assert [flow["starts"] for flow in service.record()["flows"]] == [1, 1, 1]


def test_killed_runs_are_gone_on_with(service: Service, state: str, tmp_path: Path) -> None:
    write_batch(tmp_path, 20, 3)
    words = ("run", "m.yaml", "--endpoint", service.url, "--state", state, "--concurrency", "4")
    service.order("*:latency=20ms")
    for pause_s in (0.9, 1.2, 1.5):
        process = begin(tmp_path, *words)
        time.sleep(pause_s)
        process.kill()
        process.communicate()
    service.order()
    ended = batcher(tmp_path, *words, "--json")
    assert json.loads(ended.stdout)["flows"]["started"] == 20, ended.stderr
    flows = [flow for flow in service.record()["flows"] if not flow["deleted"]]
    assert [(flow["starts"], len(flow["inputs"])) for flow in flows] == [(1, 3)] * 20


def test_command_that_must_be_alone_is_told_of_a_run(service: Service, state: str, tmp_path: Path) -> None:
    write_batch(tmp_path, 10, 1)
    words = ("run", "m.yaml", "--endpoint", service.url, "--state", state)
    service.order("upload:latency=3s")
    process = begin(tmp_path, *words)
    try:
        end = time.monotonic() + 20
        while "upload" not in service.requests() and time.monotonic() < end:
            time.sleep(0.05)
        alone = ("clean", "m.yaml", "--yes", "--endpoint", service.url, "--state", state)
        assert batcher(tmp_path, *alone).returncode == 11
        address = str(DatabaseAddress.parse(state))
        status = batcher(tmp_path, "status", "m.yaml", "--endpoint", service.url, "--state", address)
        assert (status.returncode, "f0" in status.stdout) == (0, True)
    finally:
        process.terminate()
        process.communicate()


def test_hot_standby_that_lags_is_never_asked_what_is_started(service: Service, tmp_path: Path) -> None:
    primary = own_server()
    standby = primary.standby()
    write_batch(tmp_path, 2, 1)
    url = standby.before(primary)
    words = ("--endpoint", service.url, "--json")

    def run(manifest: str, state: str, code: int = 0) -> int:
        ended = batcher(tmp_path, "run", manifest, "--state", state, *words)
        assert ended.returncode == code, ended.stderr
        return json.loads(ended.stdout)["flows"]["started_now"] if code == 0 else 0

    standby.stand_still(primary)
    assert run("m.yaml", url) == 2
    for more in ("load_balance_hosts=random", "load_balance_hosts=random", "target_session_attrs=any"):
        assert run("m.yaml", f"{url}&{more}") == 0
    assert json.loads(batcher(tmp_path, "status", "m.yaml", "--state", url, *words).stdout)["flows"]["started"] == 0  # it lags
    assert batcher(tmp_path, "collect", "m.yaml", "--to", "out", "--state", url, *words).returncode == 0
    (tmp_path / "m.yaml").rename(tmp_path / "n.yaml")
    run("n.yaml", url, code=12)
    assert [flow["starts"] for flow in service.record()["flows"] if not flow["deleted"]] == [1, 1]


def test_database_that_was_restored_from_before_pays_for_nothing_again(service: Service, state: str, tmp_path: Path) -> None:
    def command(state: str, *words: str) -> tuple[int, str]:
        ended = batcher(tmp_path, *words, "m.yaml", "--endpoint", service.url, "--state", state)
        return ended.returncode, ended.stderr + ended.stdout

    write_batch(tmp_path, 4, 1)
    lines = (tmp_path / "m.yaml").read_text().splitlines()

    def flows(count: int) -> None:
        (tmp_path / "m.yaml").write_text("\n".join(lines[: 3 + 3 * count]))

    flows(1)
    assert command(state, "run")[0] == 0
    name = state.partition("?")[0].rpartition("/")[2]
    copy = f"c{os.urandom(6).hex()}"
    with server().connect() as beside:
        beside.execute(f"CREATE DATABASE {copy} TEMPLATE {name}")
    flows(3)
    assert command(state, "run")[0] == 0
    older = state.replace(f"/{name}?", f"/{copy}?")
    for words in (["plan"], ["run"]):
        code, said = command(older, *words)
        assert code == 12, said
        assert "the journal is a copy from before" in said
    assert command(older, "run", "--adopt")[0] == 0
    flows(4)
    assert command(older, "run")[0] == 0
    assert [flow["starts"] for flow in service.record()["flows"]] == [1, 1, 1, 1]
