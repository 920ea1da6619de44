"""The journal's own time, in which every settling time is given.

In: what the journal kept of it, the machine's clocks, the name of this boot. Out: `now`, and what to keep. While the machine
runs the time goes on with the steady clock, across processes, so that a wall clock that is set neither cuts a settling time
short nor makes it last; after a start of the machine the wall clock is all there is. Called when a journal is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..host.system import boot

BOOT_BYTES: Final = 48  # of the name of a boot: a UUID as text has 36


def boot_name() -> bytes:
    """A name for the time since the machine was started, `BOOT_BYTES` long; b"": not known."""
    name = boot()
    return b"" if name is None else name.ljust(BOOT_BYTES, b"\0")[:BOOT_BYTES]


class JournalClock:
    """Goes on from what was `kept` (None: nothing); `wall_s` is used where that says nothing of now. `boot`: as `boot_name`
    tells it. Raises ValueError where what was kept is no time."""

    def __init__(self, kept: str | None, boot: bytes, wall_s: float, steady: Callable[[], float]) -> None:
        at_boot, at_now, at_steady = kept.split() if kept is not None else ("", "0", "0")
        self._steady = steady
        self._opened_steady = steady()
        passed_s = self._opened_steady - float(at_steady)
        same = bool(boot) and at_boot == boot.hex() and passed_s >= 0
        self._boot = boot
        self.opened_at = float(at_now) + passed_s if same else wall_s
        self.new_boot = kept is not None and bool(boot) and not same  # the machine was started anew since it was last opened

    @property
    def kept(self) -> str:
        """For the next one that opens the journal."""
        return f"{self._boot.hex() or '-'} {self.opened_at!r} {self._opened_steady!r}"

    def now(self) -> float:
        return self.opened_at + self._steady() - self._opened_steady
