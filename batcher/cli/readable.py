"""Values as people read them, in a terminal and on the report's page: names, numbers, sizes, times.

In: values. Out: text that is safe to print: a name may be hostile, and a terminal or a page obeys control characters.
"""

from __future__ import annotations

from ..core.text import shown

__all__ = ["count", "counted", "left_open", "shown", "span"]


def count(number: float) -> str:
    """Thousands set apart by a narrow blank, which every language can read."""
    return f"{number:,.0f}".replace(",", "\u202f")


def counted(number: int, what: str, plural: str = "") -> str:
    """`1 input`, `2,000 inputs`; `plural` where an s is not enough: `1 retry`, `2 retries`."""
    return f"{number:,} {what if number == 1 else plural or what + 's'}"


def left_open(uploads: int, others: int, settle_s: float) -> str:
    """What no reply was seen of, and what follows; "" where nothing is open. `others`: creates and starts."""
    what = [counted(uploads, "upload")] if uploads else []
    what += [counted(others, "create or start", "creates or starts")] if others else []
    if not what:
        return ""
    return (f"no reply was seen to {' and '.join(what)}; a run asks the service first. A flow in which such an upload does not "
            f"show up within {span(settle_s)} is deleted and built anew, at no cost: it was not started")  # fmt: skip


def span(seconds: float) -> str:
    """A duration: 340 ms, 12.5 s, 4 min 05 s, 3 h 20 min, 2 d 4 h."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
