"""One of our scripts in a process of its own: asked, answered, killed.

In: a script (see `child_main`) and questions. Out: answers, or the word that the process is dead. Called by `encoder` and
`images`. One question at a time: what is asked is answered before anything else is asked, or both pipes could fill up.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final

from ..host.system import readable
from . import child_main

ENVIRONMENT: Final = ("PYTHON", "LD_", "DYLD_")  # what Python needs to start; never the key


class Child:
    """The process. Raises OSError where none is to be had. Close it."""

    def __init__(self, script: str, *arguments: str, pass_fds: Sequence[int] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-X", "utf8", child_main.__file__, script, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=pass_fds,
            env={name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT)},
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Readable once there is an answer, or the process is dead: for a selector."""
        return self._out.fileno()

    @property
    def closed(self) -> bool:
        return self._process.returncode is not None

    @property
    def has_answer(self) -> bool:
        """Whether `answer` would not wait, for long at least."""
        return not self.closed and readable(self._out)

    def ask(self, work: str, items: Sequence[Any]) -> bool:
        """False: it is dead, and closed now."""
        with contextlib.suppress(OSError, ValueError):
            child_main.write_frame(self._in, [work, items])
            return True
        self.close()
        return False

    def answer(self, count: int) -> list[Any] | None:
        """The results for as many items, waited for. None: it is dead, or has lost its wits, and is closed now."""
        found = None
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            found = child_main.read_frame(self._out)
        if isinstance(found, list) and len(found) == count:
            return found
        self.close()
        return None

    def kill(self) -> None:
        """Whoever waits for its answer gets none. From any thread."""
        self._process.kill()

    def close(self) -> None:
        """At once: whatever it does is of no use any more."""
        self._process.kill()
        with contextlib.suppress(OSError, ValueError):
            self._process.communicate()
