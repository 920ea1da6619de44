"""One line of JSON Lines, as strictly as a manifest is read. In: a line. Out: its object, or what is wrong with it. Called by
`tables`.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from batcher.manifest.document import MAX_DEPTH
from batcher.manifest.findings import Unfit, quoted


def json_object(line: bytes) -> dict[str, Any]:
    """One line of JSON Lines. Raises Unfit for anything but an object of plain JSON without repeated keys."""
    try:
        row = _DECODER.decode(line.decode())
        if rb"\ud" in line or rb"\uD" in line:  # an escaped half of a character can stand alone
            json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise Unfit(f"this row is not JSON: {error.msg} at column {error.colno}", "one object in each line") from None
    except UnicodeEncodeError:
        raise Unfit("this row has half a surrogate pair", "write the character itself") from None
    except (ValueError, RecursionError) as error:  # Python's own: digits without end, nesting without end
        if isinstance(error, RecursionError):
            raise Unfit("this row has too many levels", "flatten it") from None
        raise Unfit("this row has a number of too many digits", "write it as a text, in quotes") from None
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(row) > MAX_DEPTH:
        raise Unfit("this row has too many levels", "flatten it")
    if not isinstance(row, dict):
        raise Unfit(f"this row is {quoted(row)}, not an object", 'write {"column": value, …}')
    return row


def _depth(value: object) -> int:
    """Levels of nesting, counted without recursion."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
        depth += 1
    return depth


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        left = [key for key, _ in pairs]
        for key in made:
            left.remove(key)  # what remains stands twice
        twice = left[0]
        raise Unfit(f"this row has the key {quoted(twice)} twice", "keep one of them")
    return made


def _refuse_constant(text: str) -> Any:
    raise Unfit(f"this row has {text}, which JSON cannot hold", "leave it out, or write null")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(quoted(text))


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite)
