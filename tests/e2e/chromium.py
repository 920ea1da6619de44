"""A real Chromium, spoken to through its DevTools protocol over aiohttp's WebSocket: no driver, no further package.

In: pages and what to do with them. Out: values, screenshots, and all that the console said. Called by test_report,
test_gallery and benchmarks/gallery.py.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

WITHOUT = "no Chromium here: apt-get install chromium"
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run", "--mute-audio",
    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--host-resolver-rules=MAP * ~NOTFOUND", "--force-color-profile=srgb", "--lang=en-US",
)  # fmt: skip


def find() -> str | None:
    """Where it is, or None."""
    return next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


class Page:
    """One tab. `said` gathers errors and warnings of the console, exceptions, and what the page's policy refused."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, pid: int) -> None:
        self._socket = socket
        self.pid = pid  # of the browser
        self._last = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session = ""
        self.said: list[str] = []
        self.asked: list[str] = []  # every URL that was requested
        self._loaded = asyncio.Event()

    async def listen(self) -> None:
        async for message in self._socket:
            what = message.json()
            if "id" in what:
                waiting = self._waiting.pop(what["id"])
                if not waiting.done():
                    waiting.set_result(what)
                continue
            values = what.get("params", {})
            match what["method"]:
                case "Runtime.exceptionThrown":
                    self.said.append(str(values["exceptionDetails"].get("exception", {}).get("description")))
                case "Runtime.consoleAPICalled":
                    self.said.append(f"{values['type']}: {values['args']}")
                case "Log.entryAdded":
                    self.said.append(values["entry"]["text"])
                case "Network.requestWillBeSent":
                    self.asked.append(values["request"]["url"])
                case "Page.loadEventFired":
                    self._loaded.set()

    async def call(self, method: str, **values: Any) -> dict[str, Any]:
        self._last += 1
        future = self._waiting[self._last] = asyncio.get_running_loop().create_future()
        message = {"id": self._last, "method": method, "params": values}
        await self._socket.send_json(message | ({"sessionId": self._session} if self._session else {}))
        answer = await future
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    async def begin(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")

    async def open(self, path: Path) -> None:
        await self.visit(path.as_uri())

    async def visit(self, url: str) -> None:
        self._loaded.clear()
        self.said.clear()
        self.asked.clear()
        await self.call("Page.navigate", url=url)
        await self._loaded.wait()
        await self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    async def run(self, script: str) -> Any:
        """The value of an expression; a promise is waited for."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def looks(self, width: int, height: int, *, dark: bool = False, phone: bool = False, medium: str = "") -> None:
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, mobile=phone,
                        deviceScaleFactor=2 if phone else 1)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", media=medium, features=[scheme])

    async def press(self, key: str, code: int = 0, text: str = "") -> None:
        """A key, down and up."""
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            values = {"type": kind, "key": key, "windowsVirtualKeyCode": code}
            await self.call("Input.dispatchKeyEvent", **values, **({"text": text} if text and kind == "keyDown" else {}))

    async def shoot(self, path: Path, *, whole: bool = True) -> None:
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def chromium(folder: Path, *flags: str) -> AsyncIterator[Page]:
    """A browser with one tab; its profile is kept in `folder`. `flags`: further ones."""
    path = find()
    assert path is not None, WITHOUT
    process = await asyncio.create_subprocess_exec(
        path, *FLAGS, *flags, f"--user-data-dir={folder}", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(40):
            while not (line := (await process.stderr.readline()).decode(errors="replace")).startswith("DevTools listening on "):
                assert line, "Chromium ended before it could be spoken to"
        draining = asyncio.ensure_future(process.stderr.read())
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(line.split()[-1], max_msg_size=0) as socket,
        ):
            page = Page(socket, process.pid)
            listening = asyncio.ensure_future(page.listen())
            await page.begin()
            yield page
            listening.cancel()
        draining.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
