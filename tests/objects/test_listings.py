"""Patterns over a bucket: what they match, in which order, and how many keys are held."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from batcher.core.model import Flow, Input, ObjectSource, Problem
from batcher.core.objects import Address
from batcher.manifest.load import load
from batcher.objects.listing import FEW, listing

from .stores import PNG, Gate, Shop, environment

BEGIN = "version: 1\ndefaults: {template: model_generate_fromimage}\nflows:\n- name: a\n  inputs:\n"


def found(folder: Path, entry: str) -> list[str | Problem]:
    """What an entry lists: labels after the prefix, or problems."""
    (folder / "m.yaml").write_text(BEGIN + entry)
    (flow,) = load(folder / "m.yaml", {}).flows()
    assert isinstance(flow, Flow)
    return [one if isinstance(one, Problem) else one.label for one in flow.inputs()]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("photos/*.png", ["photos/B.png", "photos/a.png", "photos/{z}.png", "photos/ü.png"]),
        ("photos/**/*.png",
         ["photos/B.png", "photos/a.png", "photos/sub/deep/c.png", "photos/sub/x y.png", "photos/{z}.png", "photos/ü.png"]),
        ("**/x*.png", ["photos/sub/x y.png"]),
        ("photos/[ab].png", ["photos/a.png"]),
        ("photos/sub/x*", ["photos/sub/x y.png"]),
        ("photos/?.png", ["photos/B.png", "photos/a.png", "photos/ü.png"]),
        ("photos/a.png", ["photos/a.png"]),
    ],
)  # fmt: skip
def test_pattern_matches_as_with_files_and_sorts_as_files_do(
    shop: Shop, gate: Gate, tmp_path: Path, pattern: str, names: list[str]
) -> None:
    for name in ("photos/a.png", "photos/B.png", "photos/ü.png", "photos/{z}.png", "photos/.hidden.png", "photos/.h/d.png",
                 "photos/sub/x y.png", "photos/sub/deep/c.png", "photos-2/a.png", "photos/a.txt"):  # fmt: skip
        shop.put(name, PNG)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    there = found(tmp_path, f'  - glob: "{shop.url}/{pattern}"\n')
    assert there == [f"{shop.url}/{name}" for name in names]
    assert found(tmp_path, f'  - glob: "{pattern}"\n') == names


def test_columns_exclude_and_what_was_listed(shop: Shop, gate: Gate, tmp_path: Path) -> None:
    for name in ("a.png", "b_draft.png", "sub/c.png"):
        shop.put(name, PNG)
    (tmp_path / "m.yaml").write_text(
        BEGIN + f'  - glob: "{shop.url}/**/*.png"\n    exclude: "**/*_draft.png"\n'
        '    additional: {p: "{path}", n: "{name}", s: "{stem}", x: "{suffix}", d: "{parent}", i: "{index}"}\n'
    )
    (flow,) = load(tmp_path / "m.yaml", {}).flows()
    assert isinstance(flow, Flow)
    first, second = [one for one in flow.inputs() if isinstance(one, Input)]
    assert first.additional == {"p": f"{shop.url}/a.png", "n": "a.png", "s": "a", "x": ".png", "d": shop.url, "i": 0}
    assert second.additional["d"] == f"{shop.url}/sub"  # type: ignore[index, call-overload]
    assert isinstance(first.source, ObjectSource)
    assert first.source.listed is not None
    assert first.source.listed.size == 8
    list(flow.inputs())
    assert [method for method, _, _ in gate.asked] == ["GET"], "one listing, however often it is walked"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("s3://nobucket/a/*.png", "in a bucket that is not there"),
        ("s3://shop/none/*.png", "matches no file (nothing there has a key that begins with none/"),
        ("https://example.com/*.png", "cannot be a pattern"),
        ("S3://shop/*.png", "write s3://"),
        ("gcs://shop/*.png", "write gs://"),
        ("s3://shop", "names a bucket"),
        ("s3://key:secret@shop/*.png", "an address holds no user name and no key"),
    ],
)
def test_pattern_that_is_wrong_is_said_with_its_place(
    s3_server: tuple[str, Path], gate: Gate, tmp_path: Path, entry: str, words: str
) -> None:
    (tmp_path / "m.yaml").write_text(BEGIN + f'  - glob: "{entry}"\n')
    run = subprocess.run([sys.executable, "-m", "batcher", "plan", "m.yaml", "--endpoint", "sandbox"], cwd=tmp_path,
                         capture_output=True, text=True, timeout=50)  # fmt: skip
    assert words in run.stderr
    assert "m.yaml:6:" in run.stderr
    assert "secret" not in run.stderr
    assert run.returncode in (2, 4)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3://shop/", "names no object"), ("s3:///a.png", "names no bucket"), ("s3://shop/a//b.png", "has an empty"),
        ("ftp://host/a.png", "is no kind of address"), ("file:///tmp/a.png", "write the path by itself"),
        ("http://example.com/a.png", "over plain http"), ("https://u:pw@example.com/a.png", "no user name and no password"),
        ("https://example.com", "names no object"),
    ],
)  # fmt: skip
def test_address_that_is_wrong_is_said_with_its_place(tmp_path: Path, address: str, words: str) -> None:
    (tmp_path / "m.yaml").write_text(BEGIN + f"  - {address}\n")
    with pytest.raises(Exception, match=words) as raised:
        load(tmp_path / "m.yaml", {})
    assert "m.yaml:6:5: " in str(raised.value)
    assert "pw" not in str(raised.value)


class Keys(BaseHTTPRequestHandler):
    """As many keys as the bucket's name says, in pages of a thousand, as S3 lists them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        most = int(parts.path.strip("/").removeprefix("n"))
        first = int(query.get("continuation-token", ["0"])[0])
        last = min(first + 1000, most)
        rows = "".join(
            f"<Contents><Key>photos/{number:09}.png</Key><LastModified>2026-11-29T10:00:00.000Z</LastModified>"
            f"<ETag>&quot;{hashlib.md5(b'%d' % number).hexdigest()}&quot;</ETag><Size>{1000 + number}</Size></Contents>"
            for number in range(first, last)
        )
        more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < most else ""
        is_cut = str(last < most).lower()
        body = f"<ListBucketResult><IsTruncated>{is_cut}</IsTruncated>{rows}{more}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def keys(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("obstore", reason="pip install 'batcher[objects]'")
    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        for name, value in environment(url).items():
            monkeypatch.setenv(name, value)
        yield url
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("count", [10, FEW, FEW + 1, 5_500])
def test_many_keys_are_walked_as_a_few_are(keys: str, count: int) -> None:
    there = listing(Address("s3", f"n{count}", ""), "photos", "photos/", lambda key: key.endswith(".png"))
    assert len(there) == there.seen == count
    assert [key for key, _ in there] == [f"photos/{number:09}.png" for number in range(count)]
    assert [key for key, _ in there] == sorted(key for key, _ in there)
    last = there.get(f"photos/{count - 1:09}.png")
    assert last is not None
    assert last.size == 999 + count
    assert there.get("photos/none") is None


MEASURED = """\
import json, re, time
from batcher.core.objects import Address
from batcher.objects.listing import listing
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) >> 10
listing(Address("s3", "n10", ""), "photos", "photos/", lambda key: True)
before, began = peak(), time.monotonic()
there = listing(Address("s3", "n1000000", ""), "photos", "photos/", lambda key: True)
listed_s, walked = time.monotonic() - began, sum(1 for _ in there)
print(json.dumps({"before_mib": before, "peak_mib": peak(), "listed_s": round(listed_s, 1), "keys": walked}))
"""


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's peak")
def test_million_keys_are_listed_and_walked_in_bounded_memory(keys: str) -> None:
    run = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, timeout=500, check=True)
    figures = json.loads(run.stdout)
    print(figures)
    assert figures["keys"] == 1_000_000
    assert figures["peak_mib"] - figures["before_mib"] < 40
