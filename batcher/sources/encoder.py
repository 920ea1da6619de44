"""The process that looks at many small files and encodes them, and whoever waits for it.

In: paths with their planned file stats; or paths alone. Out: what `encode_worker` makes of them. Called by `local`, in the
threads of the planner and the producer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from . import encode_worker
from .child import Child
from .encode_worker import Asked, Seen, ToLookAt


class Encoder:
    """Each thread gets the answer to what it asked. Raises OSError where no process is to be had."""

    def __init__(self) -> None:
        self._child = Child(encode_worker.__file__)
        self._child.ask("look", [])  # answered as soon as it has started
        self._up = False
        self._turn = threading.RLock()  # an answer is for the thread that asked
        self._pending: Callable[[], object] = lambda: None  # takes the answer that is still to come

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def ready(self) -> bool:
        """Whether it has started, and lives."""
        if not self._up:
            with self._turn:
                if not self._up and self._child.has_answer:
                    self._up = self._child.answer(0) is not None
        return self._up and not self._child.closed

    def looks(self, asked: list[ToLookAt]) -> Callable[[], Sequence[Seen | None]]:
        """As `encode_worker.look_all`, while the caller goes on; the function waits for it. None for all: it is dead."""
        found: list[Seen | None] = [None] * len(asked)

        def take() -> None:
            self._pending = lambda: None
            found[:] = self._child.answer(len(asked)) or found

        def taken() -> Sequence[Seen | None]:
            with self._turn:
                if self._pending is take:
                    take()
            return found

        with self._turn:
            if self._ask("look", asked):
                self._pending = take
        return taken

    def encode(self, asked: list[Asked]) -> list[tuple[bytes, bytes] | None] | None:
        """As `encode_worker.encode_all`; None: it is dead."""
        with self._turn:
            return self._child.answer(len(asked)) if self._ask("encode", asked) else None

    def _ask(self, work: str, asked: Sequence[Any]) -> bool:
        """One thing at a time: what was asked before is answered first."""
        self._pending()
        return self._child.ask(work, asked)

    def kill(self) -> None:
        """Whoever waits for its answer gets none. From any thread."""
        self._child.kill()

    def close(self) -> None:
        """Whatever it does is of no use any more."""
        self._child.close()
