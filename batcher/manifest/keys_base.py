"""What all keys of a manifest have in common: a strict shape, and tags by which pydantic tells one kind of entry from another.

In: nothing. Out: the base of every shape, and a key that several shapes share. Called by the other `keys` modules and `shape`.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, WithJsonSchema

PATH, FILE, GLOB, TEXT, TABLE = "\0path", "\0file", "\0glob", "\0text", "\0table"  # tags; the NUL tells them from keys
INPUT_KINDS: Final = {"glob": GLOB, "table": TABLE, "text": TEXT, "file": FILE}  # a table comes with a file or a text
ONE, MANY = "\0one", "\0many"
EACH_KINDS: Final = {"glob": GLOB, "table": TABLE}


class Shape(BaseModel):
    """Strict: a text is no number, true is not 1, and an unknown member is an error."""

    model_config = ConfigDict(strict=True, extra="forbid", title=None)


Exclude = Annotated[
    Annotated[str, Tag(ONE)] | Annotated[list[str], Tag(MANY)],
    Discriminator(lambda value: MANY if isinstance(value, list) else ONE),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "Patterns of files to leave out, in the same language and counted from the same folder: "
            "**/*_draft.png leaves them out everywhere.",
            "examples": ["**/*_draft.png", ["photos/old/**", "**/thumb-*"]],
        }
    ),
]
