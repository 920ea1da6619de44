"""Several runs of one batch: how they share it, and how they part. By processes, on a real PostgreSQL."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.postgres import Server, own_server

from .command import KEY, PNG, Service, begin, judge, serving, until, write_batch

pytest.importorskip("pgqueuer", reason="the extra `hosts` is not installed")
psycopg = pytest.importorskip("psycopg")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = own_server()
    yield made
    made.made.cleanup()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path / "store") as made:
        yield made


LEADS = "backend IN (SELECT pid FROM pg_locks WHERE locktype='advisory')"


class Hosts:
    """Runs of one manifest. Each may be in a folder of its own, which plays a host with files of its own."""

    def __init__(self, folder: Path, service: Service, server: Server) -> None:
        self.folder = folder
        self._common = ("--endpoint", service.url, "--progress", "none")
        self._server, self._schema = server, f"h{abs(hash(str(folder)))}"
        self._state = ("--state", f"{server.url}&schema={self._schema}")

    def begin(self, *words: str, folder: Path | None = None, command: str = "run") -> subprocess.Popen[str]:
        return begin(folder or self.folder, command, "m.yaml", *self._common, *self._state, *words)

    def members(self, which: str = "true") -> int:
        """Runs that have joined and not left."""
        with psycopg.connect(self._server.url) as connection:
            if not connection.execute("SELECT to_regclass(%s)", (f"{self._schema}.crew",)).fetchone()[0]:
                return 0
            query = f"SELECT count(*) FROM {self._schema}.crew WHERE left_at IS NULL AND {which}"
            return int(connection.execute(query).fetchone()[0])

    def states(self) -> dict[str, str]:
        """Of flows, by name."""
        with psycopg.connect(self._server.url) as connection:
            return dict(connection.execute(f"SELECT name, state FROM {self._schema}.flows").fetchall())

    def run(self, *words: str, folder: Path | None = None, command: str = "run") -> subprocess.CompletedProcess[str]:
        return ended(self.begin(*words, folder=folder, command=command))


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, errors = process.communicate(timeout=90)
    assert "Traceback" not in errors, errors
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


@pytest.fixture
def hosts(tmp_path: Path, service: Service, server: Server) -> Hosts:
    folder = tmp_path / "host"
    folder.mkdir()
    return Hosts(folder, service, server)


def test_run_that_is_told_to_end_hands_its_flows_back_at_once(hosts: Hosts, service: Service) -> None:
    write_batch(hosts.folder, 24, 1)
    service.order("*:latency=150ms")
    first = hosts.begin("--lease", "60s", "--concurrency", "4")
    until(lambda: service.count("upload") >= 2)
    second = hosts.begin("--lease", "60s", "--concurrency", "4")
    until(lambda: service.count("start") >= 4)
    first.send_signal(signal.SIGTERM)
    began = monotonic()
    assert ended(first).returncode == 143
    service.order()
    assert ended(second).returncode == 0
    assert monotonic() - began < 30, "nobody waited for the lease"
    judge(service, 24, 1, complete=True)


def test_another_manifest_ends_with_2_and_names_both_hosts(hosts: Hosts, service: Service, tmp_path: Path) -> None:
    write_batch(hosts.folder, 6, 1)
    service.order("*:latency=300ms")
    first = hosts.begin("--concurrency", "2")
    until(lambda: service.count("create") >= 1)
    other = tmp_path / "other"
    other.mkdir()
    write_batch(other, 7, 1)
    second = hosts.run(folder=other)
    assert second.returncode == 2
    assert second.stderr.count("process") == 2, second.stderr
    service.order()
    assert ended(first).returncode == 0
    judge(service, 6, 1, complete=True)


def test_flows_whose_sources_one_host_lacks_are_left_to_the_others(hosts: Hosts, service: Service, tmp_path: Path) -> None:
    write_batch(hosts.folder, 12, 1)
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "m.yaml").write_bytes((hosts.folder / "m.yaml").read_bytes())
    for flow in range(12):
        (lacking / f"{flow}").mkdir()
        for path in (hosts.folder / f"{flow}").iterdir():
            (lacking / f"{flow}" / path.name).symlink_to(path if flow % 2 else tmp_path / "nowhere")
    service.order("*:latency=100ms")
    first = hosts.begin("--concurrency", "4")
    until(lambda: service.count("start") >= 1)
    second = ended(hosts.begin("--concurrency", "4", folder=lacking))
    assert ended(first).returncode == 0
    assert second.returncode == 0, second.stderr
    assert second.stderr.count("lacks") <= 1, second.stderr
    judge(service, 12, 1, complete=True)


def test_flows_whose_sources_no_host_has_end_with_4(hosts: Hosts, service: Service) -> None:
    write_batch(hosts.folder, 4, 1)
    for path in (hosts.folder / "2").iterdir():
        path.unlink()
        path.symlink_to(hosts.folder / "nowhere")
    first = hosts.begin()
    second = hosts.begin()
    assert [ended(first).returncode, ended(second).returncode] == [4, 4]
    assert service.count("create") == 0
    found = [ended(hosts.begin("--keep-going")), ended(hosts.begin("--keep-going"))]
    assert 4 in [one.returncode for one in found]
    judge(service, 3, 1, complete=True)


def write_lacking(hosts: Hosts, folder: Path, lacks: int) -> None:
    """The same batch as another host sees it, which lacks the source of one flow."""
    folder.mkdir()
    (folder / "m.yaml").write_bytes((hosts.folder / "m.yaml").read_bytes())
    for flow in [path for path in hosts.folder.iterdir() if path.is_dir() and path.name.isdigit()]:
        (folder / flow.name).mkdir()
        for path in flow.iterdir():
            (folder / flow.name / path.name).symlink_to(path if int(flow.name) != lacks else folder / "nowhere")


@pytest.mark.parametrize("lacks", [0, 2])  # the first flow is worked on before the queue is filled
def test_leader_that_goes_on_offers_what_it_lacks_to_others(hosts: Hosts, service: Service, tmp_path: Path, lacks: int) -> None:
    write_batch(hosts.folder, 4, 1)
    write_lacking(hosts, tmp_path / "lacking", lacks)
    service.order("templates:latency=5s")
    leads = hosts.begin("--keep-going", "--json", folder=tmp_path / "lacking")
    until(lambda: hosts.members(LEADS) == 1)
    second = hosts.begin("--keep-going", "--json")
    until(lambda: hosts.members() == 2)  # one that comes later finds those flows done with
    other, found = ended(second), ended(leads)
    assert (other.returncode, found.returncode) == (0, 0), other.stderr + found.stderr
    assert found.stderr.count("this host lacks") <= 1, found.stderr
    for counts in (json.loads(one.stdout)["flows"] for one in (other, found)):
        assert {name: counts[name] for name in ("started", "failed", "pending")} == {"started": 4, "failed": 0, "pending": 0}
    judge(service, 4, 1, complete=True)


def test_run_that_is_alone_counts_what_it_lacks_once(hosts: Hosts, service: Service, tmp_path: Path) -> None:
    write_batch(hosts.folder, 4, 1)
    write_lacking(hosts, tmp_path / "lacking", 2)
    found = hosts.run("--keep-going", "--json", folder=tmp_path / "lacking")
    assert found.returncode == 4
    assert found.stderr.count("no such file") == 1, found.stderr
    told = json.loads(found.stdout)
    assert {name: told["flows"][name] for name in ("started", "failed", "pending")} == {"started": 3, "failed": 1, "pending": 0}
    assert {name: told["inputs"][name] for name in ("uploaded", "failed", "pending")} == {
        "uploaded": 3, "failed": 1, "pending": 0,
    }  # fmt: skip


def test_most_starts_are_counted_together(hosts: Hosts, service: Service) -> None:
    write_batch(hosts.folder, 20, 1)
    service.order("*:latency=500ms")  # so that all three are there before the first has ended
    codes = [ended(process).returncode for process in [hosts.begin("--max-starts", "7") for _ in range(3)]]
    assert set(codes) <= {0, 10}
    assert 10 in codes
    assert sum(flow["starts"] for flow in service.get("record")["flows"]) == 7
    service.order()
    assert hosts.run().returncode == 0
    judge(service, 20, 1, complete=True)


def test_flow_that_is_to_be_paid_for_again_is_so_once(hosts: Hosts, service: Service) -> None:
    write_batch(hosts.folder, 6, 1)
    assert hosts.run().returncode == 0
    service.order("*:latency=100ms")
    runs = [hosts.begin("--redo", "f1", "--redo", "f2") for _ in range(3)]
    assert [ended(process).returncode for process in runs] == [0, 0, 0]
    names = [flow["additional"]["batcher"]["flow"] for flow in service.get("record")["flows"] if flow["starts"]]
    assert sorted(names) == sorted([f"f{number}" for number in range(6)] + ["f1", "f2"])


def _wait(seconds: float) -> None:
    end = monotonic() + seconds
    until(lambda: monotonic() > end)


def test_in_an_outage_one_of_all_asks(hosts: Hosts, service: Service) -> None:
    write_batch(hosts.folder, 40, 1)
    service.order("*:latency=50ms")
    runs = [hosts.begin("--concurrency", "8", "--retries", "30") for _ in range(3)]
    until(lambda: service.count("start") >= 3)
    service.order("*:status=503")
    until(lambda: len([one for one in service.requests() if one["status"] == 503]) > 8)
    _wait(3.0)  # by now all three see it: what follows comes from one of them, at the pace of its backoff
    before = len(service.requests())
    _wait(6.0)
    probes = len(service.requests()) - before
    service.order()
    assert [ended(process).returncode for process in runs] == [0, 0, 0]
    assert probes < 10, probes
    judge(service, 40, 1, complete=True)


def test_clean_waits_for_nobody_and_says_that_runs_are_at_work(hosts: Hosts, service: Service) -> None:
    write_batch(hosts.folder, 40, 1)
    service.order("*:latency=300ms")
    first = hosts.begin("--concurrency", "2")
    until(lambda: service.count("create") >= 1)
    assert hosts.run("--yes", command="clean").returncode == 11
    looked = hosts.run("--json", command="status")
    assert looked.returncode == 0
    assert json.loads(looked.stdout)["flows"]["total"] >= 1
    assert any("process" in flow.get("at_work", "") for flow in json.loads(looked.stdout)["journal"])
    assert "at work: " in hosts.run(command="status").stdout
    first.kill()
    first.communicate()
    until(lambda: hosts.run("--yes", command="clean").returncode == 0)
    service.order()
    assert hosts.run().returncode == 0
    judge(service, 40, 1, complete=True)


def test_password_is_shown_nowhere(hosts: Hosts, server: Server) -> None:
    write_batch(hosts.folder, 1, 1)
    address = "postgresql://me:s3cret-pw@127.0.0.1:1/db"
    words = ("m.yaml", "--endpoint", "http://127.0.0.1:1", "--state", address, "--log-file", "log.json", "--verbose")
    found = [ended(begin(hosts.folder, command, *words)) for command in ("run", "status", "plan", "report")]
    assert all(one.returncode in (2, 5, 12) for one in found), [one.stderr for one in found]
    said = "".join(one.stdout + one.stderr for one in found)
    said += "".join(path.read_text(errors="replace") for path in hosts.folder.rglob("*") if path.is_file())
    assert "s3cret-pw" not in said
    assert "127.0.0.1:1/db" in said
    assert KEY not in said


def test_without_the_extra_it_is_said_what_to_install(hosts: Hosts) -> None:
    write_batch(hosts.folder, 1, 1)
    without = "import sys; sys.modules['psycopg'] = None; from batcher.cli import main; main()"
    words = ("run", "m.yaml", "--endpoint", "http://127.0.0.1:1", "--state", "postgresql://me@127.0.0.1/db")
    command = [sys.executable, "-c", without, *words]
    found = subprocess.run(command, cwd=hosts.folder, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "pip install 'batcher[hosts]'" in found.stderr
    assert "Traceback" not in found.stderr




def test_results_are_brought_by_whoever_is_there_each_once(hosts: Hosts, service: Service, tmp_path: Path) -> None:
    write_batch(hosts.folder, 30, 1)
    assert hosts.run().returncode == 0
    service.order("output:latency=100ms")
    to = tmp_path / "models"
    runs = [hosts.begin("--to", str(to), "--concurrency", "4", command="collect") for _ in range(3)]
    until(lambda: service.count("output") >= 5)
    runs[0].kill()
    runs[0].communicate()
    assert [ended(process).returncode for process in runs[1:]] == [0, 0]
    assert len(list(to.rglob("*.glb"))) == 30
    assert len((to / "results.jsonl").read_text().splitlines()) == 30
    assert service.count("output") <= 30 + 16, "but for those of the one that was killed, each was asked for once"


@pytest.mark.parametrize("done", [True, False])
def test_start_that_a_dead_run_left_is_settled_by_the_leader_though_the_file_is_gone(
    hosts: Hosts, service: Service, done: bool
) -> None:  # fmt: skip
    inbox = hosts.folder / "inbox"
    inbox.mkdir()
    (inbox / "a.png").write_bytes(PNG + b"a" * 900)
    (hosts.folder / "m.yaml").write_text(
        "version: 1\nlimits: {settle: 1s}\nflows:\n- each: {glob: 'inbox/*.png'}\n  name: '{stem}'\n"
        "  template: model_generate_fromimage\n  inputs: ['{path}']\n"
    )
    service.order("start:lost_reply=hang" if done else "start:late_commit=60s")
    first = hosts.begin("--lease", "2s")
    until(lambda: hosts.states() == {"a": "starting"} if service.count("upload") else False)
    if done:
        until(lambda: service.get("record")["flows"][0]["starts"] == 1)
    first.kill()
    first.communicate()
    service.order()
    (inbox / "a.png").unlink()
    second = hosts.run("--lease", "2s")
    assert second.returncode == 0, second.stderr
    assert hosts.states() == {"a": "started" if done else "planned"}
    (flow,) = service.get("record")["flows"]
    assert (flow["starts"], flow["deleted"]) == (int(done), not done)
