"""The API key, and what must not be shown of it: in no spelling in which a service, or an error, might say it again.

In: whoever reads the key. Out: the header of a request; `Mask`, which takes secrets out of a text; `shown`, which makes a word
of the service or of the network fit to be printed. Called by the client on each of them, and by the command line on what it
prints of a bug.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from ..core.errors import BatcherError
from ..core.text import harmless

SHOWN: Final = "[key]"
LEAST_CHARS: Final = 6  # of a spelling; anything shorter is no secret, and stands in too many words
DETAIL_CHARS: Final = 301  # of a text of others that are shown: 300, and the sign that something was left out
CREDENTIALS: Final = re.compile(r"//[^/\s]*@")  # of a proxy's address, which aiohttp's errors say as it is


class Key:
    """The API key, asked for when it is needed and read anew on request; it prints as nothing."""

    def __init__(self, read: Callable[[], str | None]) -> None:
        self._read = read
        self.mask = Mask()
        self._know(read())

    def _know(self, value: str | None) -> None:
        self._value = value
        self.headers = {"Authorization": f"Bearer {value}"} if value else {}
        self.mask.add(value)

    def read_again(self) -> bool:
        """Read it again; whether it is another one."""
        try:
            found = self._read()
        except BatcherError:
            return False  # it cannot be read now: the one that was refused is all there is
        if not found or found == self._value:
            return False  # an empty file is one that is being written
        self._know(found)
        return True

    def __repr__(self) -> str:
        return "Key(…)"


class Mask:
    """Takes keys out of texts. It remembers every key that it was given: a service may say an old one."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, key: str | None) -> None:
        """This is a key. None: there is none."""
        found = {spelling for spelling in _spellings(key or "") if len(spelling) >= LEAST_CHARS} - self._known
        if found:
            self._known |= found
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)

    def __call__(self, text: str) -> str:
        return self._pattern.sub(SHOWN, text) if self._pattern is not None else text

    def __repr__(self) -> str:
        return "Mask(…)"


def shown(text: str, mask: Mask) -> str:
    """A text of others as it may be shown: without the key and without passwords of addresses, short, on one line. They are
    taken out before anything is cut off, for half a key is one, too."""
    return harmless(mask(CREDENTIALS.sub("//", text)), DETAIL_CHARS)


def _spellings(key: str) -> set[str]:
    raw = key.encode()
    found = {key, json.dumps(key)[1:-1], repr(key)[1:-1], quote(key, safe=""), quote(key), raw.hex()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):  # inside a longer text ("Bearer …"), the letters depend on where the key begins
            first, last = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6
            found.add(encode(b"\0" * shift + raw).decode()[first:last])
    return found
