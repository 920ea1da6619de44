"""The key is nowhere: not in what is printed, logged or stored, not with another host, not in clear on a wire."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from batcher.api import Settings
from batcher.core.errors import UsageError
from batcher.sandbox import Sandbox, parse_fault
from batcher.service.client import FlowsApi
from batcher.service.credentials import SHOWN, Key, Mask

from .command import KEY, Service, batcher, begin, environment, serving, until, write_batch
from .faults_server import listening
from .small import Batch

pytestmark = pytest.mark.slow

LIMITS = "settle: 300ms, retries: 1, timeout: 2s"
SAYING = ("--verbose", "--log-format", "json", "--progress", "plain")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path / "store", "--key", KEY) as service:
        yield service


def needles(key: str = KEY) -> list[str]:
    """Spellings of the key, and of enough of it. Made here, apart from the product's own list."""
    found = [key, key[:12], key[-12:], quote(key, safe=""), quote(key), quote(quote(key, safe=""), safe="")]
    found += [json.dumps(key)[1:-1], key.replace("/", "\\/"), key.encode().hex(), key[::-1]]
    for before in ("", "B", "Be", "Bearer ", f"{key}:", ":"):
        text = base64.b64encode(f"{before}{key}".encode()).decode()
        start = -(-len(before) * 4 // 3)
        found.append(text[start + 1 : -4])
    assert all(len(needle) >= 12 for needle in found)
    return found


def assert_nowhere(*texts: str | bytes) -> None:
    for text in texts:
        shown = text if isinstance(text, str) else text.decode("latin-1")
        for needle in needles():
            assert needle.lower() not in shown.lower(), f"{needle} stands in {shown[:2000]!r}"


def written(folder: Path) -> list[bytes]:
    """Every file that the command may have written: journals, logs, reports."""
    found = [path for path in folder.rglob("*") if path.is_file() and "store" not in path.parts and path.suffix != ".png"]
    assert any(".batcher" in path.parts for path in found)
    return [path.read_bytes() for path in found] + [path.name.encode() for path in found]


def test_the_search_finds_what_it_is_to_find() -> None:
    for text in (f"x{KEY}y", quote(KEY), base64.b64encode(f"Bearer {KEY}".encode()).decode(), KEY.upper()):
        with pytest.raises(AssertionError):
            assert_nowhere(text)


def test_a_mask_takes_out_every_spelling() -> None:
    mask = Mask()
    mask.add("another-old-key")
    mask.add(KEY)
    mask.add(None)
    for before in ("", "B", "Be", "Bearer "):
        plain = f"{before}{KEY}"
        encoded = base64.b64encode(plain.encode()).decode()
        for text in (plain, quote(plain, safe=""), json.dumps(plain), repr(plain), encoded, f"<{plain.encode().hex()}>"):
            assert_nowhere(mask(f"it said {text}, twice: {text}"))
    assert mask("an another-old-key") == f"an {SHOWN}"
    assert mask("nothing of it") == "nothing of it"
    short = Mask()
    short.add("a")
    assert short("a banana") == "a banana"


SAID = [  # the service says the key, and batcher repeats the words around it
    ("upload:nth=2,status=422,body=echo", 3),
    ("*:status=401,body=echo", 7),
]
SAID_TOO = [
    ("create:status=400,body=echo", 3),
    ("flows:status=403,body=echo", 12),
    ("*:status=403,body=echo", 7),
    ("*:status=503,body=echo", 5),
]
UNSAID = [
    ("start:nth=1,error_after_commit=500,body=echo", 0),
    ("inputs:status=404,body=echo", 12),
    ("upload:status=500,body=echo", 5),
    ("upload:garbage=html", 0),
    ("*:garbage=binary", 5),
]


@pytest.mark.parametrize(
    ("fault", "code"), [("", 0), *SAID, *(pytest.param(*run, marks=pytest.mark.long) for run in (*SAID_TOO, *UNSAID))]
)
def test_key_is_in_nothing_that_a_run_says_or_keeps(service: Service, tmp_path: Path, fault: str, code: int) -> None:
    write_batch(tmp_path, 1, 3, LIMITS)
    service.order(*([fault] if fault else []))
    where = ("m.yaml", "--endpoint", service.url)
    results = [
        batcher(tmp_path, "run", *where, *SAYING, "--json"),
        batcher(tmp_path, "run", *where, *SAYING, "--log-file", "log.txt"),
        batcher(tmp_path, "status", *where, "--json"),
    ]
    if code:
        results += [batcher(tmp_path, "plan", *where, "--verbose"), batcher(tmp_path, "clean", *where, "--yes", "--json")]
    assert results[0].returncode == code, results[0].stderr
    said = [text for result in results for text in (result.stdout, result.stderr)]
    assert_nowhere(*said, *written(tmp_path))
    if (fault, code) in SAID + SAID_TOO:
        assert SHOWN in said[0], "the service did say it"
    assert not any("Traceback" in text for text in said)


def test_key_is_not_in_the_process_list(service: Service, tmp_path: Path) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("no /proc here")
    write_batch(tmp_path, 1, 1, LIMITS)
    service.order("upload:lost_reply=hang")
    process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--timeout", "60s")
    until(lambda: service.count("create") == 1)
    proc = Path(f"/proc/{process.pid}")
    shown = [(proc / name).read_bytes() for name in ("cmdline", "comm", "status", "stat")]
    shown += [os.fsencode(os.readlink(link)) for link in (proc / "fd").iterdir() if link.is_symlink()]
    process.kill()
    said = process.communicate()
    assert b"run" in shown[0]
    assert_nowhere(*shown, *said)


CRASH = """
import asyncio, sys
from batcher.cli import main
from batcher.pipeline.survey import Surveyor
def broken(surveyor, *more):
    client = surveyor._planner._templates._requests._client
    secret = client._key.headers
    raise RuntimeError(f"unexpected {secret} in {client!r}")
Surveyor.survey = broken
sys.argv = ["batcher", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("words", [(), ("--verbose", "--log-file", "log.txt", "--json")])
def test_key_is_not_in_what_is_said_of_a_bug(service: Service, tmp_path: Path, words: tuple[str, ...]) -> None:
    write_batch(tmp_path, 1, 1, LIMITS)
    command = [sys.executable, "-c", CRASH, "run", "m.yaml", "--endpoint", service.url, *words]
    result = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=50)
    assert result.returncode == 1
    assert "a bug in batcher: RuntimeError: unexpected" in result.stderr
    assert SHOWN in result.stderr
    assert ("Traceback" in result.stderr) == ("--verbose" in words)
    assert_nowhere(result.stdout, result.stderr, *written(tmp_path))


@pytest.mark.anyio
async def test_key_is_not_in_what_python_shows_of_its_values(tmp_path: Path) -> None:
    batch = Batch(tmp_path, 1, 2)
    faults = [parse_fault("upload:status=422,body=echo")]
    async with Sandbox(tmp_path / "store", faults=faults) as sandbox:
        report = await batch.run(sandbox.url, Settings(key=lambda: KEY))
        key = Key(lambda: KEY)
        client = FlowsApi(sandbox.url, key, timeout_s=1, connections=1)
        assert_nowhere(repr(key), repr(key.mask), repr(client), repr(report), str(report.json()))
        assert_nowhere(repr(Settings(key=lambda: KEY)))
        assert SHOWN in repr(report)
        async with client:
            found = await client.start("none", lambda: None)
            assert_nowhere(repr(found))
    for problem in report.problems:
        assert_nowhere(str(problem))
    try:
        raise KeyError(report)
    except KeyError as error:
        assert_nowhere(*traceback.TracebackException.from_exception(error, capture_locals=True).format())


REDIRECTED = ("templates", "flows", "upload", "inputs", "start")


@pytest.mark.parametrize("call", ["create", "*", *(pytest.param(call, marks=pytest.mark.long) for call in REDIRECTED)])
def test_a_redirect_is_not_followed(service: Service, tmp_path: Path, call: str) -> None:
    write_batch(tmp_path, 1, 1, LIMITS)
    with listening() as other:
        service.order(f"{call}:redirect={other.url}")
        result = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--retries", "0")
        # At first sight it is no Flows API; later a service that was there is in trouble.
        assert result.returncode == (2 if call in ("*", "templates") else 5), result.stderr
        assert other.url.removeprefix("http://") in result.stderr, "it says where to"
        assert other.heard == []
    assert_nowhere(result.stdout, result.stderr, *written(tmp_path))


def test_a_listing_that_goes_on_elsewhere_is_not_followed(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1, LIMITS)
    with listening() as other:
        flows = [{"flow_id": "1", "state": "created", "additional": None}]
        for following in (f"{other.url}/flows?page=2", f"//{other.url[7:]}/flows", "http://flows.example/flows?page=2"):
            answers = {"/templates": {"templates": ["model_generate_fromimage"]}, "/flows": {"flows": flows, "next": following}}
            with listening(answers) as service:
                result = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url)
                assert result.returncode == 12, result.stderr
                assert "is not whole" in result.stderr
                assert any(KEY in heard for heard in service.heard), "the endpoint itself gets it"
        assert other.heard == []


NOT_LOOPBACK = [
    "http://flows.example", "HTTP://FLOWS.EXAMPLE", "http://10.0.0.1:8080", "http://0.0.0.0", "http://[2001:db8::1]",
    "http://127.0.0.1.flows.example", "http://localhost.flows.example", "http://127.0.0.1@flows.example", "http://2130706433",
]  # fmt: skip


@pytest.mark.parametrize("endpoint", NOT_LOOPBACK)
def test_plain_http_is_refused_by_the_client_itself(endpoint: str) -> None:
    with pytest.raises(UsageError):
        FlowsApi(endpoint, Key(lambda: KEY), timeout_s=1, connections=1)


def test_plain_http_to_loopback_is_not_refused() -> None:
    for endpoint in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "http://127.8.9.10"):
        FlowsApi(endpoint, Key(lambda: KEY), timeout_s=1, connections=1)


@pytest.mark.parametrize(
    "endpoint", [NOT_LOOPBACK[0], *(pytest.param(endpoint, marks=pytest.mark.long) for endpoint in NOT_LOOPBACK[1:])]
)
def test_plain_http_is_refused_however_it_is_named(tmp_path: Path, endpoint: str) -> None:
    write_batch(tmp_path, 1, 1, LIMITS)
    text = (tmp_path / "m.yaml").read_text()
    (tmp_path / "in.yaml").write_text(f"endpoint: '{endpoint}'\n{text}")
    (tmp_path / "env.yaml").write_text(f"endpoint: ${{WHERE}}\n{text}")
    # One command by each way, and each command by one.
    for words, env in (
        (("run", "in.yaml"), {}),
        (("plan", "env.yaml"), {"WHERE": endpoint}),
        (("clean", "m.yaml", "--endpoint", endpoint), {}),
        (("run", "m.yaml"), {"BATCHER_ENDPOINT": endpoint}),
    ):
        with listening() as proxy:  # it would be asked, if anybody were
            result = batcher(tmp_path, *words, **env, HTTP_PROXY=proxy.url, http_proxy=proxy.url, ALL_PROXY=proxy.url)
            assert proxy.heard == []
        assert result.returncode == 2, (words, result.stderr)
        assert "https" in result.stderr or "user name" in result.stderr
        assert "Traceback" not in result.stderr
        assert_nowhere(result.stdout, result.stderr)


def test_a_proxy_gets_a_tunnel_and_loopback_does_without(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1, LIMITS)
    with listening() as proxy:
        mine = proxy.url.replace("//", "//me:pass-word-9@")
        env = {"HTTPS_PROXY": mine, "HTTP_PROXY": mine, "https_proxy": mine, "http_proxy": mine}
        through = batcher(tmp_path, "run", "m.yaml", "--endpoint", "https://flows.example", "--verbose", **env)
        assert through.returncode == 5, through.stderr
        assert proxy.heard
        assert all(heard.startswith("CONNECT flows.example:443") for heard in proxy.heard)
        assert_nowhere(*proxy.heard, through.stdout, through.stderr)
        assert "pass-word-9" not in through.stdout + through.stderr
        proxy.heard.clear()
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password not-the-key\n")
        (tmp_path / ".netrc").chmod(0o600)
        direct = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, HOME=str(tmp_path), **env)
        assert direct.returncode == 0, direct.stderr
        assert proxy.heard == []


@pytest.mark.parametrize(
    "text", ["line\nbreak", *(pytest.param(text, marks=pytest.mark.long) for text in ("two words", "null\0byte", "schlüssel"))]
)
def test_a_key_that_cannot_stand_in_a_header_is_said_and_not_shown(tmp_path: Path, text: str) -> None:
    write_batch(tmp_path, 1, 1, LIMITS)
    (tmp_path / "key").write_text(text)
    result = batcher(tmp_path, "run", "m.yaml", "--endpoint", "http://127.0.0.1:9", GENERIO_API_KEY_FILE="key")
    assert result.returncode == 2, result.stderr
    assert "GENERIO_API_KEY_FILE" in result.stderr
    assert not any(part in result.stderr for part in text.replace("\0", " ").split())
