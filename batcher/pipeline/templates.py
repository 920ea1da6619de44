"""The service's templates, asked for once, when the first flow that is not done needs them.

In: requests. Out: each template's name and the types that it takes. Made once for each operation; called by the planner.
"""

from __future__ import annotations

import asyncio

from ..core.errors import Reason, Stop
from ..core.remote import Template
from ..core.retry import Call, Kind, Verdict
from .planner import TemplateTypes
from .requests import Requests
from .shutdown import Shutdown


class Templates:
    """`loop`: where requests are sent from. It is called in the planner's thread."""

    def __init__(self, requests: Requests, shutdown: Shutdown, loop: asyncio.AbstractEventLoop) -> None:
        self._requests = requests
        self._shutdown = shutdown
        self._loop = loop
        self._known: list[TemplateTypes | None] = []

    def __call__(self) -> TemplateTypes | None:
        """None: they cannot be had. Raises Stop."""
        if not self._known:
            self._known.append(asyncio.run_coroutine_threadsafe(self._ask(), self._loop).result())
        return self._known[0]

    async def _ask(self) -> TemplateTypes | None:
        asked = self._requests.ask_list(
            Call.TEMPLATES, list[Template], lambda client, found: client.templates(found.append)
        )
        listed = await self._shutdown.in_time(asked)
        if isinstance(listed, Verdict) and listed.kind in (Kind.UNAVAILABLE, Kind.THROTTLED):
            raise Stop(Reason.UNAVAILABLE, f"the service is unavailable: {listed.message}", "run again later", listed.status)
        if isinstance(listed, Verdict) or not listed[1].whole:
            return None  # no list to be had, or a part: the service itself will refuse what it does not know
        found, _ = listed
        return {name: template.types for template in found for name in (template.name, *template.other_names)} or None
