"""A download is kept where it is whole, and an output."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from batcher.api import Settings, collect
from batcher.core.model import ABSENT, FileSource, Flow, Input, Problem

from ..batch import HERE, LIMITS, PNG, Batch, files, order_faults, read_record
from .folder import assert_complete, downloads, outputs, sandbox_of, started
from .service import GLB, SIGNATURE, Log, Service, Store, collected, moved, raw, uri

pytestmark = pytest.mark.anyio


async def test_glb_of_another_length_is_never_renamed_into_place(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.glb", tmp_path / "bad.glb"
    good.write_bytes(b"glTF" + (2).to_bytes(4, "little") + (40).to_bytes(4, "little") + bytes(28))
    bad.write_bytes(b"glTF" + (2).to_bytes(4, "little") + (41).to_bytes(4, "little") + bytes(28))

    def inputs() -> Iterator[Input | Problem]:
        for path in (good, bad):
            yield Input(path.name, FileSource(str(path)), None, ABSENT, HERE)

    def flows() -> Iterator[Flow | Problem]:
        yield Flow("flow 0", "model_optimize", None, {}, None, HERE, inputs)

    batch = Batch(tmp_path, [good, bad], flows=1, limits=replace(LIMITS, retries=1))
    batch._flows = flows  # type: ignore[method-assign]
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
        assert await downloads(sandbox.url) == 3
    assert report.exit_code == 12
    assert set(outputs(tmp_path / "out")) == {"flow 0/good.glb"}
    (problem,) = report.problems
    assert (problem.input, problem.kind) == ("bad.glb", "unsettled")
    assert "declares 41 bytes, and 40 came" in problem.message


@pytest.mark.parametrize("fault", ["garbage=text", "garbage=plain", "address=http://127.0.0.1:9", "address=http://10.0.0.1"])
async def test_what_is_no_output_is_not_to_be_had_and_its_flow_stays(tmp_path: Path, fault: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1, limits=replace(LIMITS, retries=1))
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await order_faults(sandbox.url, f"output:{fault}")
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert (report.exit_code, outputs(out)) == (12, {})
        assert {problem.kind for problem in report.problems} == {"unsettled"}
        assert "Signature" not in str(report.problems)
        assert not (await read_record(sandbox.url))["flows"][0]["deleted"]
        await order_faults(sandbox.url)
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert_complete(batch, out, report)
        assert (await read_record(sandbox.url))["flows"][0]["deleted"]


async def test_bytes_after_a_glb_are_kept_and_noted(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    async with sandbox_of(tmp_path, readings="trailing=4") as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
    assert report.exit_code == 0, report.problems
    assert report.outputs is not None
    assert report.outputs.longer == 2
    for path in (tmp_path / "out" / "flow 0").iterdir():
        content = path.read_bytes()
        assert int.from_bytes(content[8:12], "little") == len(content) - 4


async def test_type_is_told_by_content_and_names_the_suffix(tmp_path: Path) -> None:
    service = Service(outputs={
        "1": ("a.png", uri(PNG + bytes(20), "image/png")),
        "2": ("a-2.png", raw(b"solid cube", "model/stl")),
        "3": ("b.png", uri("a text ü".encode(), "text/plain")),
    })  # fmt: skip
    report, found = await collected(service, tmp_path)
    assert report.exit_code == 0, report.problems
    assert found == {"flow/a.png", "flow/a-2.stl", "flow/b.txt"}
    assert (tmp_path / "out" / "flow" / "b.txt").read_text("utf-8") == "a text ü"
    assert hashlib.sha256((tmp_path / "out" / "flow" / "a.png").read_bytes()).digest()


async def test_address_is_followed_without_the_key_and_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = Log()
    store = Store({"/a": raw(GLB, "binary/octet-stream"), "/once": moved(f"/a{SIGNATURE}"), "/gone": web.Response(status=410),
                   "/json": uri(GLB, "model/gltf-binary"), "/html": web.Response(text="<html>", content_type="text/html"),
                   "/loop": moved(f"/loop{SIGNATURE}")})  # fmt: skip
    async with store.served() as at:
        replies = {
            "1": web.json_response({"data": f"{at}/a{SIGNATURE}"}), "2": web.json_response({"url": f"{at}/json{SIGNATURE}"}),
            "3": moved(f"{at}/once{SIGNATURE}", 307), "4": web.json_response({"data": f"{at}/html{SIGNATURE}"}),
            "5": moved(f"{at}/loop{SIGNATURE}"), "6": web.json_response({"data": f"{at}/gone{SIGNATURE}"}),
            "7": web.json_response({"data": f"{at}/other?sig=wrong"}), "8": moved(f"http://user:word@{at[7:]}/gone{SIGNATURE}"),
        }  # fmt: skip
        service = Service(outputs={name: ("a.png", reply) for name, reply in replies.items()})
        settings = Settings(key=lambda: "secret-key-7")
        report, found = await collected(service, tmp_path, settings=settings, delete_remote=True, events=log)
    assert (report.exit_code, len(found), service.deleted) == (12, 3, 0)
    assert all((tmp_path / "out" / name).read_bytes() == GLB for name in found)
    words = {problem.message.rpartition(": ")[2] for problem in report.problems}
    assert "it is 5 addresses away, 2 times" in words
    assert all("collected" in problem.message and problem.kind == "unsettled" for problem in report.problems)
    assert any(f"answers {status}" in word for word in words for status in (403, 410))
    assert not any("secret-key-7" in heard for heard in store.heard)
    assert len([heard for heard in store.heard if heard.startswith("/loop")]) == 10
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()).decode(errors="replace")
    for text in (str(report.json()), log.text, written, caplog.text):
        for secret in ("sig=", "s%2F1", "user:word", "secret-key-7"):
            assert secret not in text
