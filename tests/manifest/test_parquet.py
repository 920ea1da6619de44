"""Parquet tables: the same rows as from JSON Lines, a few at a time, and a clear word where pyarrow is missing."""

from __future__ import annotations

import datetime
import json
import os
import resource
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batcher.core.model import Input, Problem, TextSource
from batcher.manifest import parquet

from .conftest import Desk, labels, walk


@pytest.fixture
def pa() -> Any:
    return pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'batcher[parquet]'")


def write(desk: Desk, name: str, table: Any, **options: Any) -> Path:
    import pyarrow.parquet as pq

    pq.write_table(table, desk.folder / name, **options)
    return desk.folder / name


def told(found: list[Input | Problem]) -> list[str]:
    return [str(item) for item in found if isinstance(item, Problem)]


def test_rows_and_types_are_those_of_json_lines(desk: Desk, pa: Any) -> None:
    rows = [
        {"f": "x.png", "n": 1, "big": 2**62, "x": 1.5, "b": True, "none": None, "l": [1, None], "s": {"a": "y", "b": None}},
        {"f": "日 本.png", "n": -7, "big": 0, "x": -0.25, "b": False, "none": None, "l": [], "s": {"a": "", "b": 2}},
    ]
    write(desk, "t.parquet", pa.Table.from_pylist(rows), row_group_size=1)
    desk.write("t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    members = ", ".join(f'{name}: "{{{name}}}"' for name in rows[0])
    entry = f"""[{{table: t.KIND, file: "{{f}}", additional: {{{members}}}}}]"""
    both = [desk.inputs(entry.replace("KIND", kind)) for kind in ("parquet", "jsonl")]
    for one, other, row in zip(*both, rows, strict=True):
        assert isinstance(one, Input)
        assert isinstance(other, Input)
        assert one.additional == other.additional == row
        assert [type(value) for value in one.additional.values()] == [type(value) for value in row.values()]
    assert [str(item.place) for item in both[0] if item.place] == ["t.parquet:1:1", "t.parquet:2:1"]


def test_times_are_iso_texts_and_decimals_numbers_where_these_are_exact(desk: Desk, pa: Any) -> None:
    moment = datetime.datetime.fromisoformat("2024-05-06T07:08:09.123456")
    columns = {
        "date": (pa.array([moment.date()]), "2024-05-06"),
        "time": (pa.array([moment.time()], pa.time64("ns")), "07:08:09.123456"),
        "naive": (pa.array([moment], pa.timestamp("ns")), "2024-05-06T07:08:09.123456"),
        "zoned": (pa.array([moment], pa.timestamp("ms", "UTC")), "2024-05-06T07:08:09.123000+00:00"),
        "span": (pa.array([datetime.timedelta(seconds=90)], pa.duration("ns")), 90.0),
        "price": (pa.array([Decimal("9.99")], pa.decimal128(10, 2)), 9.99),
        "whole": (pa.array([Decimal("12")], pa.decimal128(30, 0)), 12),
        "exact": (pa.array([Decimal("1.2345678901234567890")], pa.decimal128(30, 19)), "1.2345678901234567890"),
        "word": (pa.array(["red"]).dictionary_encode(), "red"),
        "map": (pa.array([[("k", moment)]], pa.map_(pa.string(), pa.timestamp("us"))), {"k": moment.isoformat()}),
        "deep": (pa.array([[{"at": moment}]], pa.list_(pa.struct([("at", pa.timestamp("ns"))]))), [{"at": moment.isoformat()}]),
    }
    write(desk, "t.parquet", pa.table({name: array for name, (array, _) in columns.items()}))
    members = ", ".join(f'{name}: "{{{name}}}"' for name in columns)
    (found,) = desk.inputs(f"""[{{table: t.parquet, text: "a {{word}} chair", additional: {{{members}}}}}]""")
    assert isinstance(found, Input), found
    assert found.source == TextSource("a red chair")
    assert found.additional == {name: value for name, (_, value) in columns.items()}


def test_a_bad_value_does_not_hide_the_other_rows(desk: Desk, pa: Any) -> None:
    numbers = [1.0, float("nan"), 2.0, float("-inf")]
    write(desk, "t.parquet", pa.table({"f": ["a", "b", None, "d"], "x": numbers, "y": [b"1"] * 4}))
    found = desk.inputs("""[{table: t.parquet, file: "{f}", additional: "{x}"}]""")
    assert labels(found) == ["a"]
    assert told(found) == [
        "t.parquet:2:1: this row has NaN, which JSON cannot hold (write null)",
        "t.parquet:3:1: {f} is null in this row (a text takes texts, numbers and booleans only)",
        "t.parquet:4:1: this row has -inf, which JSON cannot hold (write null)",
    ]
    assert "the type binary" in told(desk.inputs("""[{table: t.parquet, file: "{f}", additional: "{y}"}]"""))[0]


def test_an_unknown_column_is_told_with_the_columns_that_there_are(desk: Desk, pa: Any) -> None:
    write(desk, "t.parquet", pa.table({"file": ["a"], "sku": ["S"], "title": ["T"]}))
    assert told(desk.inputs("""[{table: t.parquet, file: "{file}", additional: "{skuu}"}]""")) == [
        "m.yaml:5:59: no {skuu} in t.parquet (did you mean `sku`?)"
    ]
    assert "there are: file, sku, title" in told(desk.inputs("""[{table: t.parquet, file: "{zzzzzz}"}]"""))[0]


def test_each_row_is_a_flow_and_tables_within_see_its_columns(desk: Desk, pa: Any) -> None:
    write(desk, "p.parquet", pa.table({"other": ["o", "o"], "sku": [7, 8], "file": ["a.png", "b.png"]}))
    desk.write("t.csv", "view,other\nfront,1\nback,2\n")
    flows = desk.flows(
        """
        - each: {table: p.parquet}
          name: "product-{sku}"
          template: t
          additional: {sku: "{sku}"}
          inputs: [{table: t.csv, file: "{view}/{file}"}, {table: p.parquet, file: "{other}"}]
        """
    )
    assert [(flow.name, flow.additional) for flow in flows] == [("product-7", {"sku": 7}), ("product-8", {"sku": 8})]
    assert labels(list(flows[1].inputs())) == ["front/b.png", "back/b.png", "o", "o"]


def test_a_table_that_cannot_be_read_is_told(desk: Desk, pa: Any) -> None:
    path = write(desk, "t.parquet", pa.table({"f": [str(number) for number in range(10_000)]}), compression="none")
    entry = """[{table: t.parquet, file: "{f}"}]"""
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert told(desk.inputs(entry))[0].startswith("t.parquet: the table cannot be read as parquet: ")
    path.write_bytes(b"PAR1" + b"\xff" * 3000 + whole[3004:])
    found = desk.inputs(entry)
    assert "cannot be read as parquet" in told(found)[-1]
    path.write_bytes(b"")
    assert told(desk.inputs(entry))
    path.unlink()
    assert told(desk.inputs(entry)) == ['m.yaml:5:20: the table "t.parquet" is missing (create it, or correct the path)']
    write(desk, "t.parquet", pa.table({"f": []}))
    assert 'the table "t.parquet" has no rows' in told(desk.inputs(entry))[0]
    write(desk, "t.parquet", pa.table([["a"], ["b"]], names=["f", "f"]))
    assert told(desk.inputs(entry)) == ['t.parquet: the table has the column "f" twice (rename one of them)']


def test_a_missing_pyarrow_is_told_with_the_line_that_installs_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    desk.write("t.parquet", b"PAR1")
    (problem,) = walk(desk.flow("""- {name: f, template: t, inputs: [{table: t.parquet, file: "{f}"}]}"""))
    assert str(problem) == (
        "m.yaml:3:43: a parquet table needs pyarrow, which is not installed (pip install 'batcher[parquet]')"
    )
    assert problem.kind == "manifest"


def test_a_large_row_group_is_not_held(desk: Desk, pa: Any) -> None:
    """100 MB in one row group, of which the walk may hold a tenth."""
    texts = [os.urandom(500).hex() for _ in range(100_000)]
    write(desk, "t.parquet", pa.table({"f": texts}), row_group_size=100_000, compression="none", use_dictionary=False)
    del texts
    assert (desk.folder / "t.parquet").stat().st_size > 90_000_000
    pool = pa.default_memory_pool()
    most = 0
    _, _, _, rows = parquet.read(str(desk.folder / "t.parquet"), "t.parquet", {"f": None})
    for count, _ in enumerate(rows, 1):
        if count % 1000 == 0:
            most = max(most, pool.bytes_allocated())
    assert count == 100_000
    assert most < 30_000_000, f"{most:,} bytes; resident: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:,} kB"
