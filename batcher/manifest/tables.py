"""Tables: csv, tsv, jsonl and parquet files as streams of rows.

In: a path. Out: the columns, and rows with their places; a Problem stands where a row is ragged or cannot be read.
Called by `row_sources`. Sources: RFC 4180 for csv; JSON Lines for jsonl.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, TextIO, TypeAlias

from batcher.core.model import Place, Problem
from batcher.manifest import parquet
from batcher.manifest.findings import Unfit, quoted
from batcher.manifest.json_lines import json_object
from batcher.manifest.template import Missing, Row

MAX_FIELD_BYTES: Final = 16 << 20  # one field, or one line: far above any prompt, far below the machine's memory
_CHUNK_BYTES: Final = 1 << 20
_SEPARATORS: Final = {".csv": ",;\t", ".tsv": "\t"}  # the header tells which; the first one where it does not
_SAYS_SEPARATOR: Final = re.compile(r'"?sep=([^\w\s"]|\t)"?[\r\n]*', re.IGNORECASE)  # a first line, for Excel
_BOM: Final = b"\xef\xbb\xbf"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")

Rows: TypeAlias = Iterator[tuple[Row, Place | None] | Problem]
Read: TypeAlias = tuple[tuple[str, ...], bool, str, Rows]  # columns, all of them texts?, what they are of, the rows


class NoTable(Exception):
    """The table's file is missing, no regular file, or may not be read; the text continues "the table x …"."""

    def __init__(self, what: str, hint: str = "create it, or correct the path") -> None:
        super().__init__(what)
        self.hint = hint


def kind_of(path: str) -> str:
    """`.csv`, `.tsv`, `.jsonl` or `.parquet`. Raises Unfit for anything else."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (*_SEPARATORS, ".jsonl", ".parquet"):
        raise Unfit(f"the table {quoted(path)} is of no known kind", "a table is a .csv, .tsv, .jsonl or .parquet file")
    return suffix


def read(path: str, name: str, kind: str, wanted: Mapping[str, object]) -> Read:
    """The table at `path`, called `name` in places; it is opened again by whoever takes rows. Raises NoTable.

    Raises Unfit for parquet where pyarrow is missing. For jsonl the columns are the `wanted` ones, with what stands for
    them in rows that lack them: rows need not be alike.
    """
    try:
        # Looked at before it is opened: opening a FIFO waits for a writer.
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise NoTable("is a folder" if stat.S_ISDIR(mode) else "is no regular file")
        if kind == ".parquet":
            return parquet.read(path, name, wanted)
        problem = _unreadable(path, name)
        if problem:
            return tuple(wanted), False, name, iter((problem,))
        if kind == ".jsonl":
            return tuple(wanted), False, name, _json_rows(path, name, wanted)
        separator = _separator(path, _SEPARATORS[kind])
        header = _header(path, name, separator)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise NoTable("is missing") from error
        raise NoTable(f"cannot be read: {error.strerror}", "check its permissions, and the disk that it lies on") from error
    if isinstance(header, Problem):
        return tuple(wanted), False, name, iter((header,))
    return tuple(header), True, name, _csv_rows(path, name, separator, header)


def _unreadable(path: str, name: str) -> Problem | None:
    """Looks the file through once (1 GB/s), so that the rows need no such checks: UTF-8, no NUL, no endless line."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line_bytes = 0
    with open(path, "rb", buffering=0) as file:
        while True:
            chunk = file.read(_CHUNK_BYTES)
            if chunk[:2] in _UTF16 and file.tell() == len(chunk):
                return Problem("manifest", "the table is UTF-16, not UTF-8", "save it as UTF-8", Place(name, 1, 1))
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError:
                return _first_bad_line(path, name)
            if not chunk:
                return None
            end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
            line_bytes = len(chunk) - end - 1 + (line_bytes if end < 0 else 0)
            if line_bytes > MAX_FIELD_BYTES or b"\0" in chunk:
                return _first_bad_line(path, name)


def _first_bad_line(path: str, name: str) -> Problem:
    with open(path, "rb") as file:
        for number in range(1, sys.maxsize):
            line = file.readline(MAX_FIELD_BYTES + 2)
            if len(line) > MAX_FIELD_BYTES + 1 or not line:
                break
            nul = line.find(b"\0")
            if nul >= 0:
                place = Place(name, number, len(line[:nul].decode("utf-8", "replace")) + 1)
                return Problem("manifest", "a NUL character stands in the table", "save it as UTF-8 text", place)
            try:
                line.decode()
            except UnicodeDecodeError as error:
                place = Place(name, number, len(line[: error.start].decode()) + 1)
                bad = f"the byte 0x{line[error.start]:02x}"
                return Problem("manifest", f"the table is not UTF-8: {bad}", "save it as UTF-8", place)
    hint = "is a quote or a line end missing?"
    return Problem("manifest", f"a line has more than {MAX_FIELD_BYTES >> 20} MiB", hint, Place(name, number, 1))


def _open(path: str) -> TextIO:
    # utf-8-sig: a byte order mark is no part of the first column's name. newline="": csv keeps line ends in fields.
    return open(path, encoding="utf-8-sig", newline="")


class _CsvRows:
    """Rows with the lines that they begin in, from the header on."""

    def __init__(self, file: TextIO, separator: str) -> None:
        # The limit is the process's: it is only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_BYTES))
        said = _SAYS_SEPARATOR.fullmatch(file.readline(MAX_FIELD_BYTES))
        self._above = 1 if said else 0
        if not said:
            file.seek(0)
        self._rows = csv.reader(file, delimiter=said[1] if said else separator, strict=True)

    @property
    def line(self) -> int:
        """Where the next row begins."""
        return self._above + self._rows.line_num + 1

    def __iter__(self) -> Iterator[list[str]]:
        return self._rows


def _separator(path: str, separators: str) -> str:
    """The separator that gives the header the most columns, the earlier one of equals. The header alone is asked: what stands
    in the rows must not change what the table is."""

    def columns(separator: str) -> int:
        with _open(path) as file, contextlib.suppress(csv.Error):
            return len(next(iter(_CsvRows(file, separator)), []))
        return 0

    return max(separators, key=columns)


def _header(path: str, name: str, separator: str) -> list[str] | Problem:
    with _open(path) as file:
        reader = _CsvRows(file, separator)
        line = reader.line
        try:
            header: list[str] = next(iter(reader), [])
        except csv.Error as error:
            return _csv_error(error, name, line)
    place = Place(name, line, 1)
    if not header:
        return Problem("manifest", "the table has no header row", "its first line names the columns", place)
    seen: set[str] = set()
    for number, column in enumerate(header, 1):
        if not column.strip():
            return Problem("manifest", f"the header's column {number} has no name", "name or remove it", place)
        if column in seen:
            return Problem("manifest", f"the header has {quoted(column)} twice", "rename one of them", place)
        seen.add(column)
    return header


def _csv_rows(path: str, name: str, separator: str, header: list[str]) -> Rows:
    width = len(header)
    line = 1
    try:
        with _open(path) as file:
            reader = _CsvRows(file, separator)
            if next(iter(reader), None) != header:
                yield _changed(name)
                return
            line = reader.line
            for row in reader:
                if len(row) == width and any(row):
                    yield row, Place(name, line, 1)
                elif any(row):  # an empty line is no row, nor is one of empty fields only, as spreadsheets leave them
                    yield _ragged(len(row), width, separator, Place(name, line, 1))
                line = reader.line
    except csv.Error as error:
        yield _csv_error(error, name, line)
    except (OSError, UnicodeDecodeError):
        yield _changed(name)


def _ragged(fields: int, width: int, separator: str, place: Place) -> Problem:
    message = f"this row has {fields} {'field' if fields == 1 else 'fields'}, the header has {width}"
    hint = "quote a field that holds the separator" if fields > width else "fill the missing fields or leave them empty"
    if separator == ";":  # it was read off the header, and may be meant otherwise
        hint += "; fields are separated by `;`, as in the header"
    return Problem("manifest", message, hint, place)


def _csv_error(error: csv.Error, name: str, line: int) -> Problem:
    said = str(error)
    if "field larger" in said:
        message, hint = f"a field has more than {MAX_FIELD_BYTES >> 20} MiB", "is a closing quote missing?"
    elif "unexpected end" in said:
        message, hint = "a quote that is opened here is not closed", "close it, or double a quote that is meant"
    else:
        message, hint = "the quotes of this row do not match", "double each quote inside a quoted field"
    return Problem("manifest", message, hint, Place(name, line, 1))


def _changed(name: str) -> Problem:
    return Problem("source", "the table changed while it was read", "run again when it is complete", Place(name))


def _json_rows(path: str, name: str, wanted: Mapping[str, object]) -> Rows:
    names = list(wanted.items())
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    line = line.removeprefix(_BOM)
                if line.isspace() or not line:
                    continue
                place = Place(name, number, 1)
                try:
                    row = json_object(line)
                except Unfit as unfit:
                    yield unfit.at(place)
                    continue
                yield [row[key] if key in row else _absent(default, row) for key, default in names], place
    except OSError:
        yield _changed(name)


def _absent(default: object, row: dict[str, Any]) -> object:
    return Missing(tuple(row)) if type(default) is Missing else default
