"""Which names were seen already, for a million of them, and which are alike.

In: names, one after the other, or hashes of them. Out: whether one is a repetition, or looks like another. Called by the
manifest (repeated flows and keys), the look at images, the names of outputs, and whoever names the file that was meant.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterator


def folded(name: str) -> str:
    """The same for two names that a file system may take for one: by capitals or Unicode forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def alike(name: str) -> str:
    """The same for two names that people hardly tell apart: by capitals, Unicode forms, or blanks around them."""
    return folded(name).strip()


class Names:
    """A set that can be asked and added to: 16 to 32 bytes per name, where a set of strings takes about 120.

    It keeps 64-bit hashes in an open-addressed table. Two names share a hash once in 40 million manifests of a million
    flows; so a hit is a suspicion, and whoever asks must compare the names themselves.
    """

    def __init__(self) -> None:
        self._bits = 10
        self._slots = array("q", bytes(8 << self._bits))
        self._left = 1 << (self._bits - 1)  # until it is half full

    def __iter__(self) -> Iterator[int]:
        """The hashes, in no order."""
        return filter(None, self._slots)

    def suspected(self, name: str) -> bool:
        """Adds `name`; whether it may have been there."""
        return self.add(hash(name) or 1)

    def add(self, value: int) -> bool:
        """Adds a hash (64 bits, signed, not 0); whether it was there."""
        at = self._find(value)
        if self._slots[at]:
            return True
        self._slots[at] = value
        self._left -= 1
        if not self._left:
            self._grow()
        return False

    def __contains__(self, value: int) -> bool:
        return self._slots[self._find(value)] != 0

    def _find(self, value: int) -> int:
        """The slot that holds `value`, or the free one where it belongs."""
        slots = self._slots
        mask = len(slots) - 1
        at = value & mask
        while (held := slots[at]) and held != value:
            at = (at + 1) & mask
        return at

    def _grow(self) -> None:
        old = self._slots
        self._bits += 1
        self._left = len(old) >> 1
        self._slots = array("q", bytes(8 << self._bits))
        for value in filter(None, old):
            self._slots[self._find(value)] = value
