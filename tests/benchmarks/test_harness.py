"""The harness measures what it says: every peer does all the work, missing work is an error, memory is the child's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .harness.limits import CAPACITIES, _phases
from .harness.process import measure
from .harness.results import number, spread, table
from .harness.server import NO_COMPILER, BenchError, FlowsServer, Timeline, compiler
from .harness.workload import KB, Work, make_files
from .peers import CLIENTS

PEERS = Path(__file__).parent / "peers.py"
needs_compiler = pytest.mark.skipif(compiler() is None, reason=NO_COMPILER)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    make_files(tmp_path, KB, 5)
    return tmp_path


def run_peer(*arguments: object) -> None:
    subprocess.run([sys.executable, PEERS, *map(str, arguments)], check=True, timeout=30)


@needs_compiler
@pytest.mark.parametrize("flags", [[], ["--flow-per-file"]], ids=["one flow", "a flow per file"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_peer_does_all_the_work_though_requests_are_refused(client: str, flags: list[str], files: Path) -> None:
    pytest.importorskip(CLIENTS[client][1])
    with FlowsServer(p503=0.2) as server:
        run_peer(client, server.url, files, *flags)
        Work(inputs=5, flows=5 if flags else 1, size_bytes=KB).check(server.stats(), client)


@needs_compiler
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("flags", [[], ["--flow-per-file"]], ids=["one flow", "a flow per file"])
def test_curl_does_all_the_work_with_bodies_made_beforehand(flags: list[str], files: Path) -> None:
    with FlowsServer() as server:
        run_peer("curl-prepare", server.url, files, "--out", files / "ram", "--count", 5, *flags)
        subprocess.run(["sh", files / "ram" / "curl.sh"], check=True, timeout=30)
        Work(inputs=5, flows=5 if flags else 1, size_bytes=KB).check(server.stats(), "curl")


@needs_compiler
def test_missing_work_is_an_error_that_names_what_is_missing(files: Path) -> None:
    pytest.importorskip("aiohttp")
    with FlowsServer() as server:
        run_peer("aiohttp-plain", server.url, files, "--count", 4)
        with pytest.raises(BenchError, match="inputs accepted: 4 instead of 5; bytes of data: 5,560 instead of 6,950"):
            Work(inputs=5, flows=1, size_bytes=KB).check(server.stats(), "a peer")


def test_memory_is_the_commands_own_however_large_the_harness(tmp_path: Path) -> None:
    ballast = bytearray(b"x") * (200 << 20)
    usage = measure([sys.executable, "-c", "pass"], tmp_path)
    del ballast
    assert 5 < usage.rss_mib < 100
    assert usage.cpu_s > 0
    assert 0 < usage.wall_s < 10


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"exit code 3: (?s:.*)no luck"):
        measure([sys.executable, "-c", "import sys; print('no luck'); sys.exit(3)"], tmp_path)


def test_files_have_their_size_and_differ(files: Path) -> None:
    contents = [path.read_bytes() for path in sorted(files.iterdir())]
    assert [len(content) for content in contents] == [KB] * 5
    assert len(set(contents)) == 5
    assert contents[0].startswith(b"\x89PNG\r\n\x1a\n")


def test_a_phase_is_judged_by_what_was_accepted_after_it_settled() -> None:
    per_bucket = [capacity * 2 for capacity in CAPACITIES]  # of 100 ms; a request takes 50 ms
    accepted = [0] * 10 + [per_bucket[0]] * 10 + [0] * 10 + [per_bucket[1] // 2] * 10 + [per_bucket[2]] * 20
    refused = [0] * 20 + [4] * 20 + [0] * 20
    moves = [(2.0, CAPACITIES[1]), (4.0, CAPACITIES[2]), (6.0, 1000)]
    found = _phases(Timeline(100, moves, accepted, accepted, refused, accepted), settle_s=1)
    assert [phase.share for phase in found] == pytest.approx([1, 0.5, 1])
    assert [phase.refused_share for phase in found] == pytest.approx([0, 80 / 400, 0])


def test_figures_are_written_with_the_digits_that_they_deserve() -> None:
    assert [number(value) for value in (0.0123, 1.234, 12.34, 8730.4)] == ["0.012", "1.23", "12.3", "8,730"]
    assert spread([2.0, 1.0, 4.0]) == "2.00 (1.00–4.00)"
    assert spread([2.0]) == "2.00"
    assert table(["client", "s"], [["curl", "1"]]) == "| client |   s |\n|--------|----:|\n| curl   |   1 |"
