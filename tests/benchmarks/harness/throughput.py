"""Speed: batcher beside its peers, by size of input, under latency and refusals, and without its journal.

In: `CASES`. Out: one `Part` each. Called by bench.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from .contest import Contestant, Sample, as_json, compete, median, peak_rss_mib, ratio, ratios
from .process import environment
from .results import Part, Target, number, spread
from .server import BenchError, FlowsServer, PythonServer
from .setting import RAM_DISK, Setting, free_memory_bytes
from .workload import GB, KB, MB, Work, data_length, make_files, write_json_manifest, write_manifest

PEERS = Path(__file__).parent.parent / "peers.py"
MEMORY_JOURNAL = Path(__file__).parent.parent / "memory_journal.py"
BATCHER, LOOP, CURL = "batcher", "requests loop", "curl --parallel"
THREADS, AIOHTTP, HTTPX = "requests, 16 threads", "aiohttp, json=", "httpx"
LISTS = "aiohttp, json=, lists"
CLIENTS = {LOOP: "requests-loop", THREADS: "requests-threads", AIOHTTP: "aiohttp-plain", HTTPX: "httpx"}
SCRIPTS = {AIOHTTP: CLIENTS[AIOHTTP], LISTS: "aiohttp-lists"}  # of `small`
PEER_COPIES = 8  # of one encoded file that a `json=` client may hold at once, for the check of free memory
RSS_LIMIT_MIB = 110
LATENCY_MS = 50


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison. `counts`: a peer too slow for all inputs gets so many; 0 leaves it out. Rates are compared.

    The loop's counts keep it busy for about ten seconds, so that its start weighs as little as over the whole work.
    """

    label: str
    claim: int
    size_bytes: int
    inputs: int
    counts: Mapping[str, int]
    wanted: Mapping[str, float] = field(default_factory=dict)  # least ratio of batcher's rate to that peer's
    flow_per_file: bool = False
    concurrency: int = 16
    latency_ms: float = 0
    p503: float = 0

    def reduced(self) -> Case:
        counts = {name: min(count, max(1, count // 10)) for name, count in self.counts.items()}
        return replace(self, inputs=max(2, self.inputs // 10), counts=counts)

    def work(self, name: str) -> Work:
        inputs = self.counts.get(name, self.inputs)
        return Work(inputs, inputs if self.flow_per_file else 1, self.size_bytes)


CASES = {
    "1kb": Case("1 KB", 1, KB, 20_000, {LOOP: 8_000, THREADS: 5_000, HTTPX: 5_000}, {LOOP: 9, CURL: 0.6}),
    "flows": Case("flows of one 1 KB input", 2, KB, 2_000, {THREADS: 1_000, HTTPX: 1_000}, {LOOP: 8}, flow_per_file=True),
    "100kb": Case("100 KB", 0, 100 * KB, 5_000, {LOOP: 3_000, THREADS: 2_000, HTTPX: 2_000}),
    "1mb": Case("1 MB", 3, MB, 2_000, {LOOP: 800, THREADS: 400, AIOHTTP: 800, HTTPX: 400}, {LOOP: 8, CURL: 0.65}),
    "64mb": Case("64 MB", 3, 64 * MB, 64, {LOOP: 16, THREADS: 16, AIOHTTP: 16, HTTPX: 16}, {LOOP: 20, CURL: 1.2}),
    "1gb": Case("1 GB", 0, GB, 16, {LOOP: 1, THREADS: 0, AIOHTTP: 1, HTTPX: 1}),
}
SMALL = {
    "inputs": Case("inputs of 1 KB in one flow", 9, KB, 8_000, {}, {AIOHTTP: 0.9, LISTS: 0.9}),
    "flows": Case("flows of one 1 KB input", 9, KB, 1_000, {}, {AIOHTTP: 0.9, LISTS: 0.9}, flow_per_file=True),
}
LATENCY = Case(
    "1 KB at 50 ms, 5 % of 503", 6, KB, 60_000, {LOOP: 200, THREADS: 3_000, AIOHTTP: 20_000, HTTPX: 5_000},
    concurrency=64, latency_ms=LATENCY_MS, p503=0.05,
)  # fmt: skip


def compare(setting: Setting, name: str) -> Part:
    """One size against every peer: speed, memory, CPU."""
    case = CASES[name].reduced() if setting.quick else CASES[name]
    with _contest(setting, case) as (samples, absent):
        part = _part(name, case, samples, absent)
    for peer, wanted in case.wanted.items():
        if peer in samples:
            part.targets.append(Target.at_least(case.claim, f"{case.label}: × {peer}", wanted, ratio(samples, BATCHER, peer)))
    if not case.flow_per_file:
        rss = peak_rss_mib(samples[BATCHER])
        part.targets.append(Target.at_most(4, f"peak RSS at {case.label}", RSS_LIMIT_MIB, rss, " MiB"))
    return part


def small(setting: Setting) -> Part:
    """Small inputs and small flows beside a script that checks nothing, and one that lists before it starts."""
    part = Part("small", "Small inputs and flows, 16 in flight, the manifest written out as JSON",
                ["work", "service", "client", "s", f"× {AIOHTTP}", f"× {LISTS}", "peak RSS MiB", "server busy"])  # fmt: skip
    for case in SMALL.values():
        for service, server in (("in Python", PythonServer), ("in C", FlowsServer)):
            _small(setting, part, case.reduced() if setting.quick else case, service, server())
    return part


def _small(setting: Setting, part: Part, case: Case, service: str, server: FlowsServer) -> None:
    with setting.folder("small") as folder, server:
        (folder / "files").mkdir()
        make_files(folder / "files", case.size_bytes, case.inputs)
        manifest = write_json_manifest(folder, case.inputs, flow_per_file=case.flow_per_file)
        contestants = [_batcher(setting, case, manifest, server.url)]
        contestants += [_peer(setting, case, name, folder, server.url) for name in SCRIPTS]
        samples = compete(setting, server, contestants)
    for name, runs in samples.items():
        seconds = [case.inputs / run.per_s for run in runs]
        beside = [spread(ratios(samples, name, peer)) for peer in SCRIPTS]
        row = [f"{case.inputs:,} {case.label}", service, name, spread(seconds), *beside, f"{peak_rss_mib(runs):,.0f}"]
        part.rows.append([*row, f"{100 * median(runs, 'server_busy'):.0f} %"])
    for peer in SCRIPTS:
        what = f"{case.label}, service {service}: × {peer}"
        part.targets.append(Target.at_least(9, what, case.wanted[peer], ratio(samples, BATCHER, peer)))
    part.data[f"{case.label}, {service}"] = as_json(samples)


def latency(setting: Setting) -> Part:
    """Against a slow service that refuses: how much of what the concurrency allows is reached."""
    case = LATENCY.reduced() if setting.quick else LATENCY
    with _contest(setting, case) as (samples, absent):
        part = _part("latency", case, samples, absent)
    ideal_per_s = case.concurrency / (case.latency_ms / 1000)
    part.header.append("of the ideal")
    own = {LOOP: 1, THREADS: 16}  # requests in flight
    for row, (name, runs) in zip(part.rows, samples.items(), strict=False):  # the absent follow the others
        ideal = own.get(name, case.concurrency) / (case.latency_ms / 1000)
        row.append(f"{100 * median(runs, 'per_s') / ideal:.0f} %")
    for row in part.rows[len(samples) :]:
        row.append("")
    share = median(samples[BATCHER], "per_s") / ideal_per_s
    part.notes.append(
        f"Ideal: requests in flight / {case.latency_ms:g} ms, for batcher {ideal_per_s:,.0f}/s. Refused requests take "
        f"their {case.latency_ms:g} ms too, so that {100 * (1 - case.p503):.0f} % is the most that can be reached."
    )
    part.targets.append(Target.at_least(6, f"{case.label}, {case.concurrency} in flight: share of the ideal", 0.85, share))
    return part


def journal(setting: Setting) -> Part:
    """The same batch with the journal on disk and in memory."""
    case = CASES["1kb"].reduced() if setting.quick else CASES["1kb"]
    in_memory = "batcher, journal in memory"
    with setting.folder("journal") as folder, FlowsServer() as server:
        manifest = _prepare(folder, case)
        normal = _batcher(setting, case, manifest, server.url)

        def command(folder: Path) -> list[str]:
            return [setting.batcher_python, str(MEMORY_JOURNAL), *normal.command(folder)[1:]]

        memory = replace(normal, name=in_memory, command=command, inspect=_has_no_database)
        samples = compete(setting, server, [replace(normal, inspect=_has_database), memory])
    part = _part("journal", case, samples, {})
    part.title = "The journal's cost, 1 KB"
    kept = ratio(samples, BATCHER, in_memory)
    part.targets.append(Target.at_least(5, "1 KB: throughput with the journal, × in memory", 0.9, kept))
    return part


def _databases(folder: Path) -> list[Path]:
    """SQLite files below `folder`, by their magic."""
    found = []
    for path in (folder / "state").rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                if file.read(15) == b"SQLite format 3":
                    found.append(path)
    return found


def _has_database(folder: Path) -> None:
    if not _databases(folder):
        raise BenchError("batcher left no journal in its state folder: what was compared with memory?")


def _has_no_database(folder: Path) -> None:
    if _databases(folder):
        raise BenchError("the journal was meant to be in memory, but there is one on the disk")


# ---- contestants ----


def _prepare(folder: Path, case: Case) -> Path:
    (folder / "files").mkdir()
    make_files(folder / "files", case.size_bytes, case.inputs)
    return write_manifest(folder, flow_per_file=case.flow_per_file)


@contextmanager
def _contest(setting: Setting, case: Case) -> Iterator[tuple[dict[str, list[Sample]], dict[str, str]]]:
    """The samples of everyone who can take part, and why the others do not."""
    with (
        setting.folder("files") as folder,
        setting.folder("curl", on=RAM_DISK) as ram,
        FlowsServer(latency_ms=case.latency_ms, p503=case.p503) as server,
    ):
        manifest = _prepare(folder, case)
        contestants = [_batcher(setting, case, manifest, server.url)]
        absent: dict[str, str] = {}
        installed = _installed_peers(setting)
        for name in CLIENTS:
            if why := _why_absent(case, name, installed):
                absent[name] = why
            else:
                contestants.append(_peer(setting, case, name, folder, server.url))
        distinct = min(case.inputs, max(1, GB // case.size_bytes))
        if not shutil.which("curl"):
            absent[CURL] = "not installed"
        elif shutil.disk_usage(RAM_DISK).free < 1.1 * distinct * data_length(case.size_bytes):
            absent[CURL] = "the RAM disk is too small"
        else:
            contestants.append(_curl(setting, case, folder, server.url, ram))
        yield compete(setting, server, contestants), absent


def _installed_peers(setting: Setting) -> set[str]:
    reply = subprocess.run([setting.peers_python, PEERS, "installed"], capture_output=True, text=True, check=True)
    return set(json.loads(reply.stdout))


def _why_absent(case: Case, name: str, installed: set[str]) -> str | None:
    at_once = 1 if name == LOOP else min(case.concurrency, case.work(name).inputs)
    needed = at_once * PEER_COPIES * data_length(case.size_bytes)
    if CLIENTS[name] not in installed:
        return "not installed"
    if case.work(name).inputs == 0:
        return f"would hold {case.concurrency} files of {case.label}"
    if needed > free_memory_bytes():
        return f"would need {needed / GB:.0f} GiB of memory"
    return None


def _batcher(setting: Setting, case: Case, manifest: Path, url: str) -> Contestant:
    def command(folder: Path) -> list[str]:
        return setting.run_command(manifest, url, folder / "state", concurrency=case.concurrency)

    return Contestant(BATCHER, case.work(BATCHER), command)


def _peer_command(setting: Setting, case: Case, client: str, work: Work, folder: Path, url: str) -> list[str]:
    command = [setting.peers_python, str(PEERS), client, url, str(folder / "files"), "--count", str(work.inputs)]
    command += ["--concurrency", str(case.concurrency)]
    return [*command, "--flow-per-file"] if case.flow_per_file else command


def _peer(setting: Setting, case: Case, name: str, folder: Path, url: str) -> Contestant:
    work = case.work(name)
    command = _peer_command(setting, case, {**CLIENTS, **SCRIPTS}[name], work, folder, url)
    return Contestant(name, work, lambda _folder: command)


def _curl(setting: Setting, case: Case, folder: Path, url: str, ram: Path) -> Contestant:
    work = case.work(CURL)
    prepare = _peer_command(setting, case, "curl-prepare", work, folder, url)
    subprocess.run([*prepare, "--out", str(ram)], check=True, env=environment())
    return Contestant(CURL, work, lambda _folder: ["sh", str(ram / "curl.sh")])


# ---- the table ----


def _part(name: str, case: Case, samples: dict[str, list[Sample]], absent: dict[str, str]) -> Part:
    unit = "flows" if case.flow_per_file else "inputs"
    # Against latency everyone has a concurrency of its own: the share of the ideal says more than a ratio.
    references = [] if case.latency_ms else [peer for peer in (LOOP, CURL) if peer in samples]
    header = ["client", unit, f"{unit}/s", "MB/s", *(f"× {peer}" for peer in references)]
    header += ["peak RSS MiB", "CPU s/GB", "server busy"]
    part = Part(name, f"{case.label}, {case.inputs:,} {unit}, {case.concurrency} in flight", header)
    for client, runs in samples.items():
        count = case.work(client).inputs
        part.rows.append(
            [
                client,
                f"{count:,}" + (f" of {case.inputs:,}" if count < case.inputs else ""),
                spread([run.per_s for run in runs]),
                number(median(runs, "mb_per_s")),
                *(spread(ratios(samples, client, peer)) for peer in references),
                f"{peak_rss_mib(runs):,.0f}",
                number(median(runs, "cpu_s_per_gb")),
                f"{100 * median(runs, 'server_busy'):.0f} %",
            ]
        )
    part.rows += [[client, why, *[""] * (len(header) - 2)] for client, why in absent.items()]
    part.data = {"label": case.label, "samples": as_json(samples)}
    return part
