"""What the YAML parser says of a text that it cannot read, with what usually helps. In: its error. Out: a problem with a place.
Called by `document`.
"""

from __future__ import annotations

from typing import Final

import yaml

from batcher.manifest.findings import Findings, harmless, mark_of

# What the parser says, and what usually helps; the first fragment found counts.
_ADVICE: Final = (
    ("cannot start any token", "indent with spaces, not tabs, and quote a value that begins with @, ` or %"),
    ("tab", "indent with spaces, not tabs"),
    ("mapping values are not allowed", "check the indentation, and quote a value that contains `: `"),
    ("could not find expected ':'", "a key needs a colon and a space after it; check the indentation"),
    ("did not find expected", "check the indentation, brackets and quotes above this place"),
    ("unexpected end of stream", "a quote is not closed"),
    ("undefined tag handle", "leave the tag out"),
    ("escape", "write a backslash as \\\\, or use single quotes"),
)


def whole(file: int) -> int | None:
    return mark_of(0, 0, file) if file else None


def syntax_error(error: yaml.YAMLError, findings: Findings, file: int) -> None:
    said, at = "it cannot be read", None
    if isinstance(error, yaml.MarkedYAMLError):
        said = error.problem or error.context or said
        at = error.problem_mark or error.context_mark
    hint = next((advice for fragment, advice in _ADVICE if fragment in said), "check the indentation and the quotes")
    findings.add(mark_of(at.line, at.column, file) if at else whole(file), f"this is not YAML: {harmless(said)}", hint)
