"""Which names were seen already, for a million flows. In: names, one after the other. Out: whether one is a repetition.
Called by `flows`.
"""

from __future__ import annotations

from array import array


class Names:
    """A set that can be asked and added to: 16 to 32 bytes per name, where a set of strings takes about 120.

    It keeps 64-bit hashes in an open-addressed table. Two names share a hash once in 40 million manifests of a million
    flows; so a hit is a suspicion, and whoever asks must compare the names themselves.
    """

    def __init__(self) -> None:
        self._bits = 10
        self._slots = array("q", bytes(8 << self._bits))
        self._left = 1 << (self._bits - 1)  # until it is half full

    def suspected(self, name: str) -> bool:
        """Adds `name`; whether it may have been there."""
        value = hash(name) or 1
        slots = self._slots
        mask = len(slots) - 1
        at = value & mask
        while held := slots[at]:
            if held == value:
                return True
            at = (at + 1) & mask
        slots[at] = value
        self._left -= 1
        if not self._left:
            self._grow()
        return False

    def _grow(self) -> None:
        old = self._slots
        self._bits += 1
        self._left = len(old) >> 1
        slots = array("q", bytes(8 << self._bits))
        mask = len(slots) - 1
        for value in filter(None, old):
            at = value & mask
            while slots[at]:
                at = (at + 1) & mask
            slots[at] = value
        self._slots = slots
