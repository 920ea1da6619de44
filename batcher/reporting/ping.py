"""Pings of a run, in the style of healthchecks: an address is asked when a run begins and when it has ended.

In: the address, and how the run went. Out: requests, each bounded in time; a sentence for people where the service could not be
told. Called by `notify`, where the manifest names one. No ping carries the API key.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from yarl import URL

from ..core.exit_codes import Outcome
from ..host.proxies import proxy_for

PING_S: Final = 10.0  # for one attempt, from the name's look-up to the reply
PING_PAUSES_S: Final = (1.0, 3.0)  # before the second and the third attempt
PING_BYTES: Final = 10_000  # of a ping's body; healthchecks keeps the first 100 kB
PATHS: Final[dict[Outcome, str]] = {"success": "", "problem": "/log", "failure": "/fail"}

Complain = Callable[[str], None]


def ping_url(url: str, path: str) -> str:
    """`path` after the address's own, before its query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path))


class Ping:
    """The pings of one run. `complain` is called with what failed, without the address, which is a secret of a kind."""

    def __init__(self, url: str, ca_file: str | None, complain: Complain) -> None:
        self._url = url
        self._ca_file = ca_file
        self._complain = complain
        self._beginning: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The run begins; it does not wait for this."""
        self._beginning = asyncio.ensure_future(self._ping("/start", ""))

    async def end(self, outcome: Outcome, text: str) -> None:
        """The run has ended; `text` says how."""
        if self._beginning is not None:
            await self._beginning  # or it might be taken for the beginning of another run
        await self._ping(PATHS[outcome], text)

    async def _ping(self, path: str, text: str) -> None:
        why = ""
        for pause_s in (*PING_PAUSES_S, None):
            try:
                why, again = await self._once(path, text)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                why, again = ("no answer in time" if isinstance(error, TimeoutError) else _words(error)), True
            if not why:
                return
            if not again or pause_s is None:
                break
            await asyncio.sleep(pause_s)
        host = urlsplit(self._url).hostname
        self._complain(f"notify.ping: {host} could not be told{f' ({path})' if path else ''}: {why}")

    async def _once(self, path: str, text: str) -> tuple[str, bool]:
        """Why it failed ("" for a success), and whether it may be tried again."""
        context: ssl.SSLContext | bool = True
        if self._url.startswith("https"):
            context = ssl.create_default_context(cafile=self._ca_file)
        timeout = aiohttp.ClientTimeout(total=PING_S)
        url = URL(ping_url(self._url, path), encoded=True)
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            # No redirect is followed: what is said of the batch is for the one that the manifest names.
            session.post(url, data=text.encode()[:PING_BYTES], headers={"Content-Type": "text/plain; charset=utf-8"},
                         allow_redirects=False, proxy=proxy_for(self._url), ssl=context) as reply,
        ):  # fmt: skip
            if 200 <= reply.status < 300:
                return "", False
            if 300 <= reply.status < 400:
                return f"it answers with {reply.status}, and no redirect is followed (write where it leads to)", False
            return f"it answers with {reply.status}", reply.status >= 500 or reply.status in (408, 429)


def _words(error: BaseException) -> str:
    os_error = getattr(error, "os_error", None)
    if isinstance(os_error, OSError) and os_error.strerror:
        return os_error.strerror
    return type(error).__name__  # its text may hold the address, or a proxy's password
