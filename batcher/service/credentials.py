"""What must not be shown: the API key in any spelling in which a service, or an error, might say it again.

In: the key. Out: `Mask`, which takes it out of a text. Called by the client on every word of the service and of the
network, and by the command line on what it prints of a bug.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Final
from urllib.parse import quote

SHOWN: Final = "[key]"
LEAST_CHARS: Final = 6  # of a spelling; anything shorter is no secret, and stands in too many words


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


def _spellings(key: str) -> set[str]:
    raw = key.encode()
    found = {key, json.dumps(key)[1:-1], repr(key)[1:-1], quote(key, safe=""), quote(key), raw.hex()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):  # inside a longer text ("Bearer …"), the letters depend on where the key begins
            first, last = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6
            found.add(encode(b"\0" * shift + raw).decode()[first:last])
    return found
