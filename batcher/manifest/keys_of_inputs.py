"""The keys of a flow's inputs: which kinds of input there are, and what each takes.

In: the tree under `inputs`. Out: pydantic's errors and their part of the JSON Schema. Called by `keys` and `shape`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag

from batcher.core.model import TAG
from batcher.manifest.keys_base import FILE, GLOB, INPUT_KINDS, PATH, TABLE, TEXT, Exclude, Shape

InputAdditional = Annotated[
    Any,
    Field(
        description="Any JSON value; it is attached to the input and copied to the outputs made from it. "
        f"In an object, the member `{TAG}` is batcher's own.",
        examples=[{"sku": "CH-2"}],
    ),
]
Mime = Annotated[
    str,
    Field(description="The file's type, only where it is detected wrongly.", examples=["image/png"]),
]
InputKey = Annotated[
    str,
    Field(
        description="The input's identity, instead of its path or text: under the same key and with the same content it is "
        "the same input wherever its file lies. Unique in the flow; with `glob` or `table` it needs a {placeholder}.",
        examples=["{sku}"],
    ),
]


class FileInput(Shape):
    """One file."""

    file: str = Field(
        description="A path, relative to the manifest's folder; never a pattern.", examples=["photos/chair-1.png"]
    )
    mime: Mime | None = None
    key: InputKey | None = None
    additional: InputAdditional = None


class TextInput(Shape):
    """One prompt."""

    text: str = Field(description="The prompt itself.", examples=["A modern office chair"])
    key: InputKey | None = None
    additional: InputAdditional = None


class GlobInput(Shape):
    """One input per file that matches, sorted by path.

    {path} {name} {stem} {suffix} {parent} {index} can be used in the members beside it ({{ is a brace).
    """

    glob: str = Field(
        description="A pattern: * ? [a-z] within a name, ** for any folders. What ${...} brings is not a pattern.",
        examples=["photos/**/*.webp"],
    )
    exclude: Exclude | None = None
    mime: Mime | None = None
    key: InputKey | None = None
    additional: InputAdditional = None


class TableInput(Shape):
    """One input per row; the columns can be used as {column} in the members beside it ({{ is a brace)."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["file"]}, {"required": ["text"]}]})

    table: str = Field(
        description="A .csv, .tsv, .jsonl or .parquet file; the first row of a csv or tsv names the columns. "
        "A csv is separated by commas, semicolons or tabs, as its first row shows; empty rows are skipped. "
        "Parquet needs batcher[parquet].",
        examples=["details.csv"],
    )
    file: str | None = Field(default=None, description="The row's file.", examples=["photos/{file}"])
    text: str | None = Field(default=None, description="The row's prompt.", examples=["A {colour} chair"])
    mime: Mime | None = None
    key: InputKey | None = None
    additional: InputAdditional = None


def _input_kind(value: object) -> str | None:
    if isinstance(value, str):
        return PATH
    return next((tag for key, tag in INPUT_KINDS.items() if key in value), None) if isinstance(value, dict) else None


Input = Annotated[
    Annotated[str, Field(description="A path, relative to the manifest's folder; never a pattern."), Tag(PATH)]
    | Annotated[FileInput, Tag(FILE)]
    | Annotated[TextInput, Tag(TEXT)]
    | Annotated[GlobInput, Tag(GLOB)]
    | Annotated[TableInput, Tag(TABLE)],
    Discriminator(_input_kind),
]
