"""Readings of the API that the sandbox does not play: several outputs of one input, other types, odd ids, states that lag."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web

from batcher.api import MemoryJournal, Settings, collect
from batcher.core import collecting
from batcher.core.facts import FlowFacts, PutFlow
from batcher.core.lifecycle import FlowState
from batcher.core.model import ABSENT, JSON, FileSource, Flow, Input, Manifest, Problem
from batcher.core.report import Report
from batcher.core.tags import InputKeys

from .batch import HERE, PNG
from .batch import LIMITS as SOME

pytestmark = pytest.mark.anyio

LIMITS = replace(SOME, retries=1)
LABELS = ["a.png", "a-2.png", "b.png"]
GLB = b"glTF" + (2).to_bytes(4, "little") + (20).to_bytes(4, "little") + bytes(8)


def inputs() -> Iterator[Input | Problem]:
    for label in LABELS:
        yield Input(label, FileSource(f"/{label}"), None, ABSENT, HERE)


@dataclass
class Service:
    """One flow that answers as it is told to, and counts. `outputs`: id → (input's label, reply)."""

    states: list[str] = field(default_factory=lambda: ["completed"])  # one after the other; the last again and again
    statuses: list[str] = field(default_factory=lambda: ["ready"])  # of all outputs, likewise
    outputs: dict[str, tuple[str, web.Response]] = field(default_factory=dict)
    deleted: int = 0
    finished_at: str | None = None

    def _next(self, words: list[str]) -> str:
        return words.pop(0) if len(words) > 1 else words[0]

    async def flow(self, request: web.Request) -> web.Response:
        document = {"flow_id": "f-1", "state": self._next(self.states), "progress": 0.5, "finished_at": self.finished_at}
        return web.json_response(document)

    async def listing(self, request: web.Request) -> web.Response:
        keys = InputKeys("m", "flow")
        tags = {label: {"key": keys.next(item).hex(), "sha256": "0" * 64}
                for label, item in zip(LABELS, inputs(), strict=True) if isinstance(item, Input)}  # fmt: skip
        status = self._next(self.statuses)
        if status == "nonsense":
            return web.json_response({"detail": "not for failed flows"})
        items: list[JSON] = [
            {"asset_id": asset_id, "status": status, "additional": {"batcher": tags[label]} if label in tags else None}
            for asset_id, (label, _) in self.outputs.items()
        ]
        return web.json_response({"flow_id": "f-1", "outputs": items})

    async def output(self, request: web.Request) -> web.Response:
        made = self.outputs[request.match_info["asset"]][1]
        headers = {"Location": made.headers["Location"]} if "Location" in made.headers else None
        return web.Response(body=made.body, content_type=made.content_type, status=made.status, headers=headers)

    async def delete(self, request: web.Request) -> web.Response:
        self.deleted += 1
        return web.Response(status=204)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.add_routes([
            web.get("/flows/f-1", self.flow), web.get("/flows/f-1/outputs", self.listing),
            web.get("/flows/f-1/outputs/{asset:.*}", self.output), web.delete("/flows/f-1", self.delete),
        ])  # fmt: skip
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()


async def collected(
    service: Service, folder: Path, journal: MemoryJournal | None = None, **more: object
) -> tuple[Report, set[str]]:
    """The report, and what lies in the folder then."""
    flow = Flow("flow", "t", None, {}, None, HERE, inputs)
    journal = journal or MemoryJournal()
    await journal.record(PutFlow(FlowFacts("flow", FlowState.STARTED, "f-1", inputs=len(service.outputs))))
    async with service.served() as url:
        manifest = Manifest("m.yaml", str(folder / "m.yaml"), str(folder), "m", url, LIMITS, lambda: iter([flow]))
        report = await collect(manifest, folder / "out", journal=journal, **more)  # type: ignore[arg-type]
    out = folder / "out"
    return report, {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and not p.name.startswith("results.")}


def raw(content: bytes, mime: str = "application/octet-stream") -> web.Response:
    return web.Response(body=content, content_type=mime)


def uri(content: bytes, mime: str) -> web.Response:
    return web.json_response({"data": f"data:{mime};base64,{base64.b64encode(content).decode()}"})


async def test_several_outputs_of_an_input_and_some_of_none_have_names_of_their_own(tmp_path: Path) -> None:
    labels = {"x3": "a.png", "x1": "a.png", "x2": "a.png", "y": "a-2.png", "z": "b.png", "foreign": "", "../../up": ""}
    service = Service(outputs={asset: (label, raw(GLB)) for asset, label in labels.items()})
    report, found = await collected(service, tmp_path)
    key = InputKeys("m", "flow").next(next(iter(inputs()))).hex()[:8]  # type: ignore[arg-type]
    assert report.exit_code == 0, report.problems
    assert found == {"flow/a.glb", f"flow/a-2-{key}.glb", "flow/a-3.glb", "flow/a-2.glb", "flow/b.glb", "flow/foreign.glb",
                     "flow/_._.._up.glb"}  # fmt: skip
    assert report.outputs.without_source == 2
    assert {p.name for p in tmp_path.iterdir()} == {"out"}


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


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "POLL_S", (0.01,))
    monkeypatch.setattr("batcher.pipeline.collect.output_list.RELIST_S", (0.01,) * 6)


async def test_unknown_states_and_outputs_in_the_making_are_waited_for(tmp_path: Path, quick_polls: None) -> None:
    service = Service(["starting", "created", "running", "post-processing", "", "completed"], ["processing", "ready"])
    service.outputs = {"1": ("a.png", raw(GLB))}
    report, found = await collected(service, tmp_path, delete_remote=True)
    assert (report.exit_code, found, service.deleted) == (0, {"flow/a.glb"}, 1)


async def test_output_that_was_shown_in_error_is_asked_for_again_by_the_next_collect(tmp_path: Path) -> None:
    service = Service(statuses=["error", "ready"], outputs={"1": ("a.png", raw(GLB)), "2": ("b.png", raw(GLB))})
    journal = MemoryJournal()
    assert (await collected(service, tmp_path, journal))[0].exit_code == 3
    report, found = await collected(service, tmp_path, journal)
    assert (report.exit_code, found) == (0, {"flow/a.glb", "flow/b.glb"})


@pytest.mark.parametrize(
    ("service", "code", "words"),
    [
        (Service(["created"]), 12, "that the flow f-1 is `created`"),
        (Service(["completed"]), 12, "lists no outputs"),
        (Service(["aborted"]), 13, "was aborted"),
        (Service(["failed"], ["nonsense"]), 13, "failed on the service"),
        (Service(statuses=["error"], outputs={"1": ("a.png", raw(GLB))}), 3, "in error"),
        (Service(outputs={"1": ("a.png", uri(GLB[:-1], "model/gltf-binary"))}), 12, "declares 20 bytes, and 19 came"),
        (Service(outputs={"1": ("a.png", web.json_response({"data": "no asset yet"}))}), 12, "it is a text: no asset yet"),
        (Service(outputs={"1": ("a.png", raw(b"no asset yet", "text/plain"))}), 12, "no file of a kind that is known"),
        (Service(outputs={"1": ("a.png", web.json_response({"url": "http://10.0.0.1/x?s=1"}))}), 12, "it is not https"),
        (Service(outputs={"1": ("a.png", web.Response(status=302, headers={"Location": "ftp://x.example/?s=1"}))}), 12,
         "it is not https"),
    ],
)
async def test_what_the_service_shows_wrongly_is_said_and_nothing_is_deleted(
    tmp_path: Path, quick_polls: None, service: Service, code: int, words: str
) -> None:
    report, found = await collected(service, tmp_path, delete_remote=True)
    assert (report.exit_code, found, service.deleted) == (code, set(), 0)
    assert words in report.problems[0].message


async def test_unknown_state_with_an_end_is_said_by_name_and_not_waited_for(
    tmp_path: Path, quick_polls: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "STILL_S", 0.1)
    service = Service(["running", "archived"], outputs={"1": ("a.png", raw(GLB))}, finished_at="2026-01-01T00:00:00Z")
    journal = MemoryJournal()
    report, found = await collected(service, tmp_path, journal)
    assert (report.exit_code, found) == (12, set())
    assert report.ends is not None
    assert (report.ends.unknown, report.ends.running) == (1, 0)
    assert "has been “archived” for" in report.problems[0].message
    assert '"state": "archived"' in (tmp_path / "out" / "results.jsonl").read_text("utf-8")
    service.states = ["completed"]
    report, found = await collected(service, tmp_path, journal)
    assert (report.exit_code, found) == (0, {"flow/a.glb"})


@dataclass
class Store:
    """Another server, where outputs lie: it knows no key, and refuses whoever shows one, as object stores do."""

    answers: dict[str, web.Response]
    heard: list[str] = field(default_factory=list)
    url: str = ""

    async def _answer(self, request: web.Request) -> web.Response:
        self.heard.append(f"{request.path_qs} {dict(request.headers)}")
        made = self.answers.get(request.path)
        if made is None or "Authorization" in request.headers or "sig=s%2F1" not in request.raw_path:
            return web.Response(status=403, text="SignatureDoesNotMatch")
        place = {"Location": made.headers["Location"]} if "Location" in made.headers else None
        return web.Response(body=made.body, content_type=made.content_type, status=made.status, headers=place)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()


def moved(address: str, status: int = 302) -> web.Response:
    return web.Response(status=status, headers={"Location": address})


SIGNATURE = "?sig=s%2F1"


class Log:
    """Every event as text."""

    enabled = True

    def __init__(self) -> None:
        self.text = ""

    def emit(self, event: str, level: str, fields: Mapping[str, JSON]) -> None:
        self.text += f"{event} {fields}\n"


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
