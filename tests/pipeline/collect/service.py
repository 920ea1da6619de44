"""A service that answers as it is told to, where the sandbox has no such reading: several outputs of one input, other types,
odd ids, states that lag; and a store that downloads lead to."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiohttp import web

from batcher.api import MemoryJournal, collect
from batcher.core.facts import FlowFacts, PutFlow
from batcher.core.lifecycle import FlowState
from batcher.core.model import ABSENT, JSON, FileSource, Flow, Input, Manifest, Problem
from batcher.core.report import Report
from batcher.core.tags import InputKeys

from ..batch import HERE
from ..batch import LIMITS as SOME

LIMITS = replace(SOME, retries=1)
LABELS = ["a.png", "a-2.png", "b.png"]
SIGNATURE = "?sig=s%2F1"
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


def moved(address: str, status: int = 302) -> web.Response:
    return web.Response(status=status, headers={"Location": address})


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


class Log:
    """Every event as text."""

    enabled = True

    def __init__(self) -> None:
        self.text = ""

    def emit(self, event: str, level: str, fields: Mapping[str, JSON]) -> None:
        self.text += f"{event} {fields}\n"
