"""Parquet tables as streams of rows, with the values that a JSON Lines file of the same content would give.

In: a path and the names that are asked for; only their columns are read. Out: as `tables`. Called by `tables`.
pyarrow is an extra (`batcher[parquet]`), imported when the first such table is opened: it costs 0.2 s and 100 MB of disk.
A place's line is the row's number, from 1.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

from batcher.core.model import Place, Problem
from batcher.manifest.findings import Unfit, harmless, quoted
from batcher.manifest.template import Row

BUFFER_BYTES: Final = 1 << 20  # per column: a row group is read page by page, not whole
BATCH_BYTES: Final = 4 << 20  # of rows held at once, by the file's own average
BATCH_ROWS: Final = (16, 4096)
EXACT_DIGITS: Final = 15  # a decimal of so many digits is a JSON number that every reader gets back as it was

_Convert: TypeAlias = Callable[[Any], Any]  # may raise Unfit
_Rows: TypeAlias = Iterator[tuple[Row, Place | None] | Problem]


def read(path: str, name: str, wanted: Mapping[str, object]) -> tuple[tuple[str, ...], bool, str, _Rows]:
    """As `tables.read`. Raises Unfit where pyarrow is missing, OSError where the file cannot be opened."""
    pa, pq = _pyarrow()
    try:
        with _open(pq, path) as file:
            names: list[str] = file.schema_arrow.names
    except (pa.ArrowException, ValueError) as error:
        return tuple(wanted), False, name, iter((_unreadable(error, Place(name)),))
    twice = next((one for index, one in enumerate(names) if names.index(one) < index), None)
    if twice is not None:
        problem = Problem("manifest", f"the table has the column {quoted(twice)} twice", "rename one of them", Place(name))
        return tuple(wanted), False, name, iter((problem,))
    asked = [one for one in names if one in wanted]
    others = [one for one in names if one not in wanted]
    return (*asked, *others), False, name, _rows(pa, pq, path, name, asked, (None,) * len(others))


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise Unfit("a parquet table needs pyarrow, which is not installed", "pip install 'batcher[parquet]'") from None


def _open(pq: Any, path: str) -> Any:
    return pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)


def _rows(pa: Any, pq: Any, path: str, name: str, asked: list[str], pad: tuple[None, ...]) -> _Rows:
    """Rows with the asked columns first; in the place of the others, which nobody looks at, stands nothing."""
    number = 0
    try:
        with _open(pq, path) as file:
            schema = file.schema_arrow
            if not set(asked) <= set(schema.names):
                yield Problem("source", "the table changed while it was read", "run again when it is complete", Place(name))
                return
            fields = [schema.field(one) for one in asked]
            plain = [_plain(pa, field.type) for field in fields]
            converts = [_convert(pa, field.type) for field in fields]
            wait = any(convert is not None for convert in converts)
            for batch in file.iter_batches(batch_size=_batch_rows(file), columns=asked, use_threads=False):
                columns = []
                for one, wanted in zip(asked, plain, strict=True):
                    column = batch.column(one)
                    columns.append((column if column.type == wanted else column.cast(wanted, safe=False)).to_pylist())
                for row in zip(*columns, strict=True) if columns else ((),) * batch.num_rows:
                    number += 1
                    place = Place(name, number, 1)
                    if wait:
                        try:
                            row = tuple(_one(convert, value) for value, convert in zip(row, converts, strict=True))
                        except Unfit as unfit:
                            yield unfit.at(place)
                            continue
                    yield row + pad, place
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        yield _unreadable(error, Place(name, number + 1, 1))


def _unreadable(error: Exception, place: Place) -> Problem:
    said = harmless(str(error).partition("\n")[0].rstrip("."))
    return Problem("manifest", f"the table cannot be read as parquet: {said}", "write it again", place)


def _batch_rows(file: Any) -> int:
    """Rows per batch, so that a batch of average rows holds BATCH_BYTES."""
    meta = file.metadata
    total: int = sum(meta.row_group(index).total_byte_size for index in range(meta.num_row_groups))
    rows: int = meta.num_rows
    least, most = BATCH_ROWS
    return max(least, min(most, BATCH_BYTES * rows // max(1, total)))


def _plain(pa: Any, kind: Any) -> Any:
    """The type to read a column as: nanoseconds become microseconds, which Python's times can hold."""
    types = pa.types
    if types.is_dictionary(kind):
        return _plain(pa, kind.value_type)
    if types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if types.is_struct(kind):
        return pa.struct([(field.name, _plain(pa, field.type)) for field in kind])
    if types.is_list(kind):
        return pa.list_(_plain(pa, kind.value_type))
    if types.is_large_list(kind):
        return pa.large_list(_plain(pa, kind.value_type))
    return kind


def _convert(pa: Any, kind: Any) -> _Convert | None:
    """The function from a value of this type to what JSON holds of it; None: it is that already."""
    types = pa.types
    if types.is_dictionary(kind):
        return _convert(pa, kind.value_type)
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_null(kind):
        return None
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return None
    if types.is_floating(kind):
        return _finite
    if types.is_decimal(kind):
        return _number(kind)
    if types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind):
        return lambda value: value.isoformat()
    if types.is_duration(kind):
        return lambda value: value.total_seconds()
    if types.is_map(kind) and types.is_string(kind.key_type):
        item = _convert(pa, kind.item_type)
        return lambda pairs: {key: _one(item, value) for key, value in pairs}
    if types.is_struct(kind):
        members = [(field.name, _convert(pa, field.type)) for field in kind]
        return lambda value: {key: _one(convert, value[key]) for key, convert in members}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = _convert(pa, kind.value_type)
        return lambda values: [_one(item, value) for value in values]
    return _refusal(str(kind))


def _one(convert: _Convert | None, value: Any) -> Any:
    return value if convert is None or value is None else convert(value)


def _finite(value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise Unfit(f"this row has {'NaN' if math.isnan(number) else quoted(number)}, which JSON cannot hold", "write null")
    return number


def _number(kind: Any) -> _Convert:
    if kind.scale <= 0:
        return int
    if kind.precision <= EXACT_DIGITS:
        return float
    return lambda value: format(Decimal(value), "f")


def _refusal(kind: str) -> _Convert:
    def refuse(value: Any) -> Any:
        raise Unfit(f"this row has a value of the type {harmless(kind, 40)}, which JSON cannot hold", "write it as text")

    return refuse
