"""Hostile input: manifests, tables, names, and a service that answers anything at all.

Never a traceback, never exit code 1, never a wrong start, never more memory than a bound, and nothing on a terminal that it
would obey.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import random
import re
import subprocess
import sys
import time
import unicodedata
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from e2e.conftest import batcher as command
from e2e.conftest import environment, write_batch
from pipeline.batch import LIMITS, PNG, Batch, files, read_record

from batcher.core.errors import BatcherError, ManifestError
from batcher.core.facts import FileStat
from batcher.core.model import Input, Problem
from batcher.manifest import load
from batcher.sandbox import Sandbox, parse_fault
from batcher.sources.dispatch import AllSources

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c\u2028\u2029]")
NASTY = "a\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp\u2066\x85\u2028\r\nfake: line\x08\x7f"
KIB_OF_A_RUN = 160 * 1024  # the interpreter and the libraries take about 60 MiB of it


def assert_harmless(*texts: str) -> None:
    for text in texts:
        found = OBEYED.search(text)
        assert found is None, f"{found[0]!r} in {text[max(0, found.start() - 60) : found.end() + 20]!r}" if found else ""
        assert "Traceback" not in text


# ---- manifests and tables

FLOW = "version: 1\nflows:\n- {name: f, template: model_generate_fromimage, inputs: [%s]}\n"
LAUGHS = "\n".join(["a0: &a0 [lol, lol]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))])
MANIFESTS = {
    "billion laughs": f"version: 1\n{LAUGHS}\nflows: *a29\n",
    "laughs in a value": "version: 1\nx: &a [1]\n" + "\n".join(f"y{n}: &b{n} [*a, *a]" for n in range(9)) + "\nflows: []\n",
    "an alias to itself": "version: 1\nflows: &f\n- *f\n",
    "a scalar of 10 MB": FLOW % ("x" * 10_000_000),
    "a key of 10 MB": "version: 1\n? " + "k" * 10_000_000 + "\n: 1\nflows: []\n",
    "deep lists": FLOW % ("[" * 100_000),
    "deep mappings": "version: 1\nflows:\n" + "\n".join(" " * n + "a:" for n in range(1, 500)),
    "a tag that runs code": FLOW % "!!python/object/apply:os.system ['true']",
    "a control character": FLOW % "a\x1b[31m.png",
    "an escaped one": FLOW % '"a\\x1b[31m\\u202e\\x9b.png"',
    "in a name": 'version: 1\nflows:\n- {name: "f\\x1b[2J", template: t, inputs: [a.png]}\n',
    "in a key": 'version: 1\n"k\\x1b[2J": 1\nflows: []\n',
    "an attribute": "version: 1\nflows:\n- {each: {glob: '*.png'}, name: '{x.__class__}', template: t, inputs: ['{path}']}\n",
    "a call": FLOW % "{glob: '*.png', additional: {a: '{path.__class__.__mro__}', b: '{0}', c: '{path!r}'}}",
    "a width": FLOW % "{glob: '*.png', additional: {d: '{path:>9999999}'}}",
    "a huge number": "version: " + "9" * 100_000 + "\nflows: []\n",
    "a huge limit": "version: 1\nlimits: {concurrency: 1" + "0" * 5000 + "}\nflows: []\n",
    "NUL": "version: 1\0\nflows: []\n",
    "no UTF-8": "version: 1\nflows: [\udcff]\n",
    "a bomb of variables": FLOW % ("${A:-" * 50_000 + "}" * 50_000),
    "nothing": "",
}


@pytest.mark.parametrize("kind", list(MANIFESTS))
def test_hostile_manifest_is_refused_in_words(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(MANIFESTS[kind].encode(errors="surrogateescape"))
    (tmp_path / "a.png").write_bytes(PNG)
    said = problems_of(path)
    assert said
    assert all(len(text) < 1200 for text in said), "a message is a line, not a page"
    if kind != "an escaped one":  # a path may hold such characters: what prints it spells them out
        assert_harmless(*said)


def problems_of(path: Path) -> list[str]:
    """What is wrong with a manifest, its tables and its sources."""
    found: list[Problem | Input | FileStat] = []
    sources = AllSources(0, time.time)
    try:
        for flow in load(path, {}).flows():
            found += [flow] if isinstance(flow, Problem) else [*flow.inputs()]
        found = [sources.look(one) if isinstance(one, Input) else one for one in found]
    except ManifestError as error:
        found += error.problems
    sources.close()
    return [str(problem) for problem in found if isinstance(problem, Problem)]


TABLES = {
    "ragged": b"file,sku\na.png\na.png,1,2\n",
    "NUL": b"file,sku\na.png,\0\n",
    "BOM within": "file,sku\n\ufeffa.png,1\n".encode(),
    "no UTF-8": b"file,sku\na.png,\xff\n",
    "a field of 20 MB": b"file,sku\na.png," + b"x" * 20_000_000 + b"\n",
    "an open quote": b'file,sku\na.png,"' + b"x\n" * 100_000,
    "columns named as attributes": b"file,__class__,{x}\na.png,1,2\n",
    "escapes": "file,sku\n\x1b[2J\u202e.png,1\n".encode(),
    "a hundred thousand columns": b"file," + b",".join(b"c%d" % n for n in range(100_000)) + b"\na.png\n",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", list(TABLES))
def test_hostile_table_is_refused_in_words(tmp_path: Path, kind: str) -> None:
    (tmp_path / "t.csv").write_bytes(TABLES[kind])
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "m.yaml").write_text(FLOW % "{table: t.csv, file: '{file}', additional: {sku: '{sku}'}}")
    said = problems_of(tmp_path / "m.yaml")
    assert said
    assert all(len(text) < 1200 for text in said)
    if kind not in ("a field of 20 MB", "escapes"):
        return
    result = command(tmp_path, "plan", "m.yaml", "--endpoint", "sandbox")
    assert result.returncode in (2, 4), result.stderr
    assert result.stderr
    assert len(result.stderr) < 20_000
    assert_harmless(result.stderr, result.stdout)


# ---- a service that says anything

Mangle = Callable[[str, str, int, bytes], "tuple[int, dict[str, str], bytes | AsyncIterator[bytes]]"]


@asynccontextmanager
async def between(url: str, mangle: Mangle) -> AsyncIterator[str]:
    """A server that passes requests on to the one at `url`, and gives what `mangle` makes of the replies."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        async with session.request(request.method, url + request.raw_path, data=body, headers=request.headers) as reply:
            status, headers, changed = mangle(request.method, request.path, reply.status, await reply.read())
        if isinstance(changed, bytes):
            return web.Response(status=status, body=changed, headers={"Content-Type": "application/json", **headers})
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        try:
            async for piece in changed:
                await response.write(piece)
        except (ConnectionError, aiohttp.ClientConnectionError):
            pass  # the client has had enough
        return response

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


VALUES: list[Any] = [
    None, True, False, 0, -1, 10**30, 1e300, "", NASTY, "x" * 3000, [], {}, [[]], {"batcher": 1}, {"batcher": {"key": 1}},
    {"batcher": {"key": "zz" * 16, "sha256": "é" * 64}}, {"batcher": {"batch": "m", "flow": "flow 0", "key": "", "build": ""}},
    deep(50), deep(300), "created", "running", "error", "available", {"detail": NASTY}, [None, 1, "x", {}, []], float("nan"),
    float("inf"), "\ud800", {"": ""}, "../../x", "a/b?c#d%00",
]  # fmt: skip
BODIES = [
    b"", b"null", b"[]", b"{}", b"<html>\x1b[2J</html>", b"\xff\xfe", b'{"a":', b"1", b'"text"', b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"inputs":[{"id":' + b"9" * 10_000 + b"}]}", b'{"inputs":{}}', b'{"inputs":[1,null,"x",[]]}', b'{"next":"http://evil/"}',
    b'{"flows":[],"next":"/flows?page=2","total":1e400}', b'{"templates":null}', b'{"inputs":[],"next_cursor":"x"}',
    b'{"data":"data:;base64,****"}', b'{"data":"\\ud800"}', b'{"data":1}', b'{"flow_id":"\\u0000\\u001b"}',
]  # fmt: skip


def fuzzed(value: Any, rng: random.Random) -> Any:
    """The document with some of its values replaced, taken away, repeated or renamed."""
    if rng.random() < 0.15:
        return rng.choice(VALUES)
    if isinstance(value, dict):
        kept = {name: fuzzed(member, rng) for name, member in value.items() if rng.random() > 0.05}
        return {**kept, NASTY: 1} if rng.random() < 0.05 else kept
    if isinstance(value, list):
        items = [fuzzed(item, rng) for item in value]
        return items + items[:1] if rng.random() < 0.1 else items
    return value


def fuzzing(rng: random.Random, share: float) -> Mangle:
    def mangle(method: str, path: str, status: int, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if rng.random() > share:
            return status, {}, body
        headers = {"Retry-After": rng.choice(["0", "-1", "nan", "x", "Mon, 01 Jan 0001 00:00:00 -0000"])}
        match rng.randrange(8):
            case 0:
                return status, headers, rng.choice(BODIES)
            case 1:
                return rng.choice([200, 201, 204, 299, 301, 400, 404, 409, 418, 422, 500, 502, 504, 599]), headers, body
            case 2:
                cut = rng.randrange(len(body) + 1)
                return status, {}, body[:cut]
            case 3:
                changed = bytearray(body or b"x")
                changed[rng.randrange(len(changed))] = rng.randrange(256)
                return status, {}, bytes(changed)
        try:
            return status, {}, json.dumps(fuzzed(json.loads(body), rng)).encode()
        except ValueError:
            return status, {}, b"?"

    return mangle


async def fuzz(folder: Path, seed: int) -> None:
    """One run against a service whose replies are wrong now and then, and one against it once it is well."""
    folder.mkdir()
    rng = random.Random(seed)
    paths = files(folder, 3)
    batch = Batch(folder, paths, flows=2, limits=replace(LIMITS, settle_s=0.05, retries=2, timeout_s=5.0))
    batch.additional = {0: "words"} if seed % 3 == 0 else {}
    async with Sandbox(folder / "sandbox") as sandbox:
        async with between(sandbox.url, fuzzing(rng, 0.3)) as url:
            with contextlib.suppress(BatcherError):  # a clear end; anything else would be a bug
                report = await batch.run(url)
                assert report.exit_code != 1
                json.dumps(report.json())
        await judge_fuzzed(sandbox.url, paths)


async def judge_fuzzed(url: str, paths: list[Path]) -> None:
    """A flow that was started was right; and started once, as far as the service's own word could tell."""
    meant = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    for flow in (await read_record(url))["flows"]:
        if flow["starts"]:
            assert flow["starts"] == 1
            assert sorted(item["sha256"] for item in flow["inputs"]) == meant


async def test_replies_with_anything_in_them_never_crash_and_never_start_anything_wrong(tmp_path: Path) -> None:
    for seed in range(12):
        await fuzz(tmp_path / str(seed), seed)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_replies_with_anything_in_them_for_long(tmp_path: Path) -> None:
    first = random.randrange(10**6)
    print(f"seeds from {first}")
    for seed in range(first, first + 1000):
        try:
            await fuzz(tmp_path / str(seed), seed)
        except BaseException:
            print(f"seed {seed}")
            raise


async def test_words_of_the_service_and_names_of_files_are_harmless_on_a_terminal(tmp_path: Path) -> None:
    """Real output of the real command: text, JSON, plan, status, verbose log."""
    (tmp_path / "in").mkdir()
    for name in ("esc\x1b[31m.png", "nl\nfake: line.png", "c1\x9b31m.png", "bidi\u202egnp.png"):
        (tmp_path / "in" / name).write_bytes(PNG + name.encode())
    (tmp_path / "in" / "empty\x1b[2J.png").write_bytes(b"")
    (tmp_path / "m.yaml").write_text(
        "version: 1\nlimits: {settle: 100ms, retries: 0}\nflows:\n"
        "- {name: all, template: model_generate_fromimage, inputs: [{glob: 'in/*.png', additional: {n: '{name}'}}]}\n"
        "- {each: {glob: 'in/bidi*.png'}, name: '{stem}', template: model_generate_fromimage, inputs: ['{path}']}\n"
    )

    def nasty(method: str, path: str, status: int, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if method == "POST" and path.endswith("/inputs"):
            words = {"detail": [{"loc": ["body", NASTY], "msg": NASTY}]}
            return 422, {}, json.dumps(words, ensure_ascii=False).encode()
        return status, {}, body

    async with Sandbox(tmp_path / "sandbox") as sandbox, between(sandbox.url, nasty) as url:
        for words in (
            ["plan", "m.yaml"], ["run", "m.yaml", "--keep-going", "--verbose"], ["run", "m.yaml", "--keep-going", "--json"],
            ["status", "m.yaml"], ["status", "m.yaml", "--json"], ["clean", "m.yaml"],
        ):  # fmt: skip
            result = await asyncio.to_thread(command, tmp_path, *words, "--endpoint", url)
            assert result.returncode in (0, 3, 4), result.stderr
            assert_harmless(result.stderr, result.stdout)
            assert not any(line.startswith("fake:") for line in result.stderr.splitlines()), "a name made a line of its own"
            if "--json" in words:
                json.loads(result.stdout)
            elif words[0] == "run":
                assert "empty\\x1b[2J.png" in result.stderr
    assert unicodedata.category("\u202e") == "Cf"


# ---- bounded memory, measured on real processes


def measured(folder: Path, *words: str) -> tuple[int, str, int]:
    """Run the command; its exit code, what it said, and the most memory that it held, in KiB."""
    # Not ru_maxrss: what a process held before its exec, as a copy of this one, counts there too.
    code = "import atexit; atexit.register(lambda: open('held', 'w').write(open('/proc/self/status').read()))\n"
    command = [sys.executable, "-c", code + "from batcher.cli import main; main()", *words]
    result = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=600, check=False)
    held = re.search(r"VmHWM:\s+(\d+) kB", (folder / "held").read_text())
    assert held is not None
    return result.returncode, result.stdout + result.stderr, int(held[1])


async def gigabyte(head: bytes) -> AsyncIterator[bytes]:
    yield head
    for _ in range(4096):
        yield b"x" * 262_144


@functools.cache
def gzip_bomb() -> bytes:
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([packed.compress(b'{"a":"'), *(packed.compress(b"x" * (1 << 20)) for _ in range(256)), packed.flush()])


HUGE: dict[str, Callable[[str, str], bytes | AsyncIterator[bytes] | None]] = {
    "a status call": lambda method, path: gigabyte(b'{"state":"') if method == "GET" and path.count("/") == 2 else None,
    "the templates": lambda method, path: gigabyte(b'{"templates":["') if path == "/templates" else None,
    "an upload": lambda method, path: gigabyte(b'{"id":"') if method == "POST" and path.count("/") == 3 else None,
    "one item of a listing": lambda method, path: gigabyte(b'{"inputs":[{"id":"')
    if method == "GET" and path.endswith("/inputs") else None,
    "beside a listing": lambda method, path: gigabyte(b'{"x":"') if method == "GET" and path.endswith("/inputs") else None,
    "a refusal": lambda method, path: gigabyte(b'{"detail":"') if method == "POST" and path.count("/") == 3 else None,
    "compressed templates": lambda method, path: gzip_bomb() if path == "/templates" else None,
    "a compressed listing": lambda method, path: gzip_bomb() if method == "GET" and path.endswith("/inputs") else None,
}  # fmt: skip


@pytest.mark.parametrize("what", list(HUGE))
async def test_gigabyte_in_a_reply_is_not_held(tmp_path: Path, what: str) -> None:
    write_batch(tmp_path, 1, 2, settle="100ms")
    (tmp_path / "m.yaml").write_text((tmp_path / "m.yaml").read_text().replace("retries: 3", "retries: 0"))

    def huge(method: str, path: str, status: int, body: bytes) -> tuple[int, dict[str, str], Any]:
        if method == "PATCH" and what == "a status call":
            return 500, {}, b""
        found = HUGE[what](method, path)
        if found is None:
            return status, {}, body
        headers = {"Content-Encoding": "gzip"} if "compressed" in what else {}
        return 422 if what == "a refusal" else status, headers, found

    async with Sandbox(tmp_path / "sandbox") as sandbox, between(sandbox.url, huge) as url:
        code, said, kib = await asyncio.to_thread(measured, tmp_path, "run", "m.yaml", "--endpoint", url)
    assert code in ((0,) if what == "an upload" else (3, 5, 12)), said  # the upload was done, and its flow lists it
    assert_harmless(said)
    assert len(said) < 5000
    assert kib < KIB_OF_A_RUN, f"{kib // 1024} MiB held"


async def listing_of(count: int) -> AsyncIterator[bytes]:
    yield b'{"flow_id":"f","inputs":['
    for start in range(0, count, 1000):
        part = [
            f'{{"id":"{n:024x}","status":"available","processed":true,"additional":{{"n":{n},"batcher":{{"key":"{n:032x}",'
            f'"sha256":"{n:064x}"}}}}}}'
            for n in range(start, start + 1000)
        ]
        yield (("," if start else "") + ",".join(part)).encode()
    yield b"]}"


async def list_many(folder: Path, count: int, additional: str) -> None:
    """A flow that was given by its id shows `count` assets that nobody meant."""
    (folder / "a.png").write_bytes(PNG + b"a")
    (folder / "m.yaml").write_text(
        "version: 1\nlimits: {settle: 100ms, retries: 0, timeout: 60s}\nflows:\n"
        f"- {{name: f, flow_id: f1, inputs: [{{file: a.png{additional}}}]}}\n"
    )

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        if request.method == "GET" and request.path == "/flows/f1/inputs":
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            async for piece in listing_of(count):
                await response.write(piece)
            return response
        reply = {"flow_id": "f1", "state": "created", "id": "x", "flows": []}
        return web.json_response([] if request.path == "/flows" else reply)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        code, said, kib = await asyncio.to_thread(measured, folder, "run", "m.yaml", "--endpoint", url)
    finally:
        await runner.cleanup()
    assert code == 12, said
    assert "lists" in said
    print(f"{count} assets listed: {kib // 1024} MiB at most")
    assert kib < KIB_OF_A_RUN, f"{kib // 1024} MiB held"


@pytest.mark.parametrize("additional", ["", ", additional: words"])
async def test_listing_of_many_assets_is_not_held(tmp_path: Path, additional: str) -> None:
    await list_many(tmp_path, 60_000, additional)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_listing_of_a_million_assets_is_not_held(tmp_path: Path) -> None:
    await list_many(tmp_path, 1_000_000, "")


async def test_run_of_a_batch_against_a_fault_of_wrong_types(tmp_path: Path) -> None:
    """The sandbox's own way to answer with other types, all the time: nothing can be settled, and nothing is started wrong."""
    batch = Batch(tmp_path, files(tmp_path, 2), flows=2, limits=replace(LIMITS, settle_s=0.1, retries=1))
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("*:wrong_types=1")]) as sandbox:
        report = await batch.run(sandbox.url)
        assert report.exit_code in (0, 2, 3, 5, 12), report.problems
        await judge_fuzzed(sandbox.url, batch.paths)
