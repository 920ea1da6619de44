"""Small pieces of the page. In: a name, a sentence, a time. Out: markup, escaped. Called by `markup` and others."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape


def moment(at: float) -> str:
    """A time; the script turns it into the reader's own, and the title keeps it as it is."""
    stamp = datetime.fromtimestamp(at, UTC)
    iso = stamp.strftime("%Y-%m-%dT%H:%M:%SZ")
    return f'<time datetime="{iso}" title="{iso}">{stamp.strftime("%Y-%m-%d %H:%M:%S")} UTC</time>'


def bdi(text: str) -> str:
    """A name, which may be written from right to left."""
    return f"<bdi>{escape(text)}</bdi>"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return escape(text[:1].upper() + text[1:]) + ("" if text.endswith((".", "?", "!")) else ".") if text else ""
