"""`--redo-from FILE`: in: a list of flows, as the gallery exports it; out: the names to pay for again, with their lines.

Called by `setup`, for `run` and `plan`. A list may say which attempt it is about, by the flow's id: one that was made again
since is left alone, so that the same list, given twice, is paid for once.
"""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Final

from ..core.chosen import listed, plain
from ..core.errors import UsageError
from ..core.facts import FlowFacts
from ..core.model import Manifest, Place
from ..journal.open import State, at_primary, read_journal
from .output import say
from .readable import count

MOST_BYTES: Final = 64 << 20  # of a list; one of a million names has some 40 MB


def wanted(manifest: Manifest, state: State | None, path: str) -> tuple[dict[str, Place], dict[str, str]]:
    """Names or patterns, and where each stands; by name, the attempt that the list says. Raises UsageError where it cannot be
    read."""
    found: dict[str, Place] = {}
    attempts: dict[str, str] = {}
    for number, name, attempt in listed(_read(path)):
        found.setdefault(name, Place("stdin" if path == "-" else path, number, 1))
        if attempt is not None:
            attempts[name] = attempt
    again = _made_again(manifest, state, attempts)
    for name in again:
        del found[name]
    if again:
        what = "flow of the list was" if len(again) == 1 else "flows of the list were"
        say(f"batcher: {count(len(again))} {what} made again since, and left alone".replace("\u202f", ","))
    return found, {plain(name): attempt for name, attempt in attempts.items()}


def _read(path: str) -> str:
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with open(path, "rb") as file:
                raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"--redo-from {path} cannot be read: {error.strerror}", "name a list of flows") from error
    if len(raw) > MOST_BYTES:
        raise UsageError(f"--redo-from {path} has more than {MOST_BYTES >> 20} MiB", "name a list of flows, one per line")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: --redo-from: the line is not UTF-8", "name a list of flows, one per line") from error


def _made_again(manifest: Manifest, state: State | None, attempts: dict[str, str]) -> list[str]:
    """The names whose flow is another one by now than the list is about."""
    journal = read_journal(manifest, at_primary(state)) if attempts else None
    if journal is None:
        return []
    with closing(journal):
        return [name for name, attempt in attempts.items() if _differs(journal.flow(plain(name)), attempt)]


def _differs(facts: FlowFacts | None, attempt: str) -> bool:
    return facts is not None and facts.flow_id != attempt
