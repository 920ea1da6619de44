"""Tables: csv, tsv and jsonl as streams, and each thing that can be wrong with a row told with its line."""

from __future__ import annotations

import csv
import errno
import io
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.model import Input, Problem
from batcher.manifest import tables
from batcher.manifest.findings import Unfit

from .conftest import Desk, labels, walk


def rows(desk: Desk, name: str, content: str | bytes, column: str = "a") -> list[Input | Problem]:
    desk.write(name, content)
    return desk.inputs(f"""[{{table: {name}, file: "{{{column}}}"}}]""")


def told(found: list[Input | Problem]) -> list[str]:
    return [str(item) for item in found if isinstance(item, Problem)]


def test_csv_follows_rfc_4180(desk: Desk) -> None:
    found = rows(desk, "t.csv", 'a,b\r\n"x, ""y""\n.png",1\r\n\r\nz.png,2\r\n')
    assert labels(found) == ['x, "y"\n.png', "z.png"]
    assert [str(item.place) for item in found if item.place] == ["t.csv:2:1", "t.csv:5:1"]


def test_a_byte_order_mark_is_no_part_of_a_column(desk: Desk) -> None:
    assert labels(rows(desk, "t.csv", b"\xef\xbb\xbfa,b\nx,1\n")) == ["x"]
    assert labels(rows(desk, "t.jsonl", b'\xef\xbb\xbf{"a": "x"}\n')) == ["x"]


def test_tsv_and_suffixes_in_capitals(desk: Desk) -> None:
    assert labels(rows(desk, "t.tsv", "a\tb\nx,y\t1\n")) == ["x,y"]
    assert labels(rows(desk, "T.CSV", "a\nx\n")) == ["x"]


def test_jsonl_skips_blank_lines_and_needs_no_last_line_end(desk: Desk) -> None:
    assert labels(rows(desk, "t.jsonl", '\n{"a": "x"}\n  \r\n{"a": "y", "b": [1]}')) == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("t.csv", "", "t.csv:1:1: the table has no header row"),
        ("t.csv", "a,a\n1,2\n", 't.csv:1:1: the header has "a" twice'),
        ("t.csv", "a,,b\n1,2,3\n", "t.csv:1:1: the header's column 2 has no name"),
        ("t.csv", "a\n", 'the table "t.csv" has no rows'),
        ("t.jsonl", "\n", 'the table "t.jsonl" has no rows'),
        ("t.csv", b"a\nx\ncaf\xe9\n", "t.csv:3:4: the table is not UTF-8: the byte 0xe9"),
        ("t.csv", b"a\nx\0y\n", "t.csv:2:2: a NUL character"),
        ("t.jsonl", b'{"a": "\xff"}\n', "t.jsonl:1:8: the table is not UTF-8"),
        ("t.csv", 'a\n"x\ny\n', "t.csv:2:1: a quote that is opened here is not closed"),
        ("t.csv", "a,b\nx,1\n".encode("utf-16"), "t.csv:1:1: the table is UTF-16, not UTF-8"),
        ("t.jsonl", '{"a": 1}'.encode("utf-16"), "t.jsonl:1:1: the table is UTF-16, not UTF-8"),
        ("t.csv", "sep=;\na;;b\n1;2;3\n", "t.csv:2:1: the header's column 2 has no name"),
        ("t.csv", "a,b,,\n1,2,,\n", "t.csv:1:1: the header's column 3 has no name"),
        ("t.csv", 'a\n"x"y\n', "t.csv:2:1: the quotes of this row do not match"),
    ],
)
def test_a_table_that_cannot_be_read_is_told(desk: Desk, name: str, content: str | bytes, problem: str) -> None:
    (found,) = told(rows(desk, name, content))
    assert problem in found


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("a;b;c\nx,1;2;3\ny;;\n", [2, 3]),  # a comma is the decimal one there
        ("a\tb\nx,1\t2\ny\t\n", [2, 3]),
        ('a;"b,c";d,e;f\nx,1;1;2;3\ny;1;2;3\n', [2, 3]),  # four columns by `;`, and two by `,`
        ("sep=;\r\na;b\r\nx,1;2\r\ny;\r\n", [3, 4]),
        ('"sep=;"\r\na;b\r\nx,1;"2\r\n2"\r\ny;\r\n', [3, 5]),
        ("\ufeffSEP=\t\na\tb\nx,1\t2\ny\t\n", [3, 4]),
        ("sep=|\na|b\nx,1|2\ny|\n", [3, 4]),
        ('a,b\r\n"x,1",2\r\n,\r\n,,,,\r\n\r\ny,\r\n,\r\n', [2, 6]),
        ('a\r\n"x,1"\r\n""\r\ny\r\n', [2, 4]),
    ],
)
def test_tables_are_read_as_spreadsheets_save_them(desk: Desk, content: str, lines: list[int]) -> None:
    found = rows(desk, "t.csv", content)
    assert labels(found) == ["x,1", "y"], told(found)
    assert [item.place.line for item in found if item.place] == lines


@pytest.mark.parametrize("header", ["a,b;c,d", "a,b", "a;b,c", '"a;b;c",d', "a"])
def test_a_comma_is_the_separator_where_the_header_does_not_tell(desk: Desk, header: str) -> None:
    desk.write("t.csv", f"{header}\n")
    columns = next(csv.reader([header]))
    assert tables.read(str(desk.folder / "t.csv"), "t.csv", ".csv", {})[0] == tuple(columns)


def test_a_separator_that_was_read_off_the_header_is_named(desk: Desk) -> None:
    (message,) = told(rows(desk, "t.csv", "a;b\n1;2;3\n"))
    assert message == ("t.csv:2:1: this row has 3 fields, the header has 2 (quote a field that holds the separator; "
                       "fields are separated by `;`, as in the header)")  # fmt: skip


def test_a_ragged_row_does_not_hide_the_others(desk: Desk) -> None:
    found = rows(desk, "t.csv", "a,b\n1,2\n3\n4,5,6\n7,8\n")
    assert labels(found) == ["1", "7"]
    assert told(found) == [
        "t.csv:3:1: this row has 1 field, the header has 2 (fill the missing fields or leave them empty)",
        "t.csv:4:1: this row has 3 fields, the header has 2 (quote a field that holds the separator)",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "this row is not JSON"),
        ("[1]", "this row is a list, not an object"),
        ("null", "this row is null, not an object"),
        ('{"a": NaN}', "NaN, which JSON cannot hold"),
        ('{"a": -Infinity}', "-Infinity, which JSON cannot hold"),
        ('{"a": 1e999}', "which JSON cannot hold"),
        ('{"a": 1, "b": 2, "a": 3}', 'has the key "a" twice'),
        ('{"a": {"x": 1, "x": 2}}', 'has the key "x" twice'),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ('{"a": ' + "[" * 200 + "]" * 200 + "}", "too many levels"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "too many levels"),
        ('{"a": ' + "9" * 10_000 + "}", "too many digits"),
        ('{"b": 1}', "no {a} in this row"),
        ('{"a": null}', "{a} is null in this row"),
        ('{"a": ""}', "the path is empty"),
        ('{"a": "x\\u0000"}', "NUL"),
    ],
)
def test_a_bad_row_of_jsonl_does_not_hide_the_others(desk: Desk, line: str, problem: str) -> None:
    found = rows(desk, "t.jsonl", f'{{"a": "x"}}\n{line}\n{{"a": "y"}}\n')
    assert labels(found) == ["x", "y"]
    (message,) = told(found)
    assert message.startswith("t.jsonl:2:1: ")
    assert problem in message


def test_rows_may_nest_and_pair_surrogates_as_json_allows(desk: Desk) -> None:
    text = '{"a": "x", "b": ' + "[" * 90 + "]" * 90 + ', "c": "\\ud83d\\ude00"}\n'
    assert labels(rows(desk, "t.jsonl", text)) == ["x"]


def test_large_fields_are_read_and_endless_ones_refused(desk: Desk) -> None:
    (found,) = rows(desk, "t.csv", "a\n" + "x" * 1_000_000 + "\n")
    assert isinstance(found, Input)
    (message,) = told(rows(desk, "t.csv", "a\ny\n" + "x" * (tables.MAX_FIELD_BYTES + (2 << 20)) + "\n"))
    assert message.startswith("t.csv:3:1: a line has more than 16 MiB")
    many_lines = 'a\n"' + ("x" * 1000 + "\n") * (tables.MAX_FIELD_BYTES // 1000 + 1) + '"\n'
    (message,) = told(rows(desk, "t.csv", many_lines))
    assert "a field has more than 16 MiB" in message


def test_a_missing_or_irregular_table_is_a_source_at_fault(desk: Desk) -> None:
    desk.write("dir.csv/x")
    os.mkfifo(desk.folder / "pipe.csv")
    manifest = desk.flow(
        """
        - {name: a, template: t, inputs: [{table: gone.csv, file: "{a}"}]}
        - {name: b, template: t, inputs: [{table: dir.csv, file: "{a}"}]}
        - {name: c, template: t, inputs: [{table: pipe.csv, file: "{a}"}]}
        - {each: {table: gone.jsonl}, name: "{a}", template: t, inputs: ["{a}"]}
        """
    )
    problems = walk(manifest)
    assert [problem.kind for problem in problems] == ["source"] * 4
    assert [str(problem).split(" (")[0] for problem in problems] == [
        'm.yaml:3:43: the table "gone.csv" is missing',
        'm.yaml:4:43: the table "dir.csv" is a folder',
        'm.yaml:5:43: the table "pipe.csv" is no regular file',
        'm.yaml:6:18: the table "gone.jsonl" is missing',
    ]
    assert [problem.flow for problem in problems] == ["a", "b", "c", None]


def test_an_empty_table_is_an_empty_inbox_for_each(desk: Desk) -> None:
    desk.write("t.csv", "a\n")
    desk.write("t.jsonl", "")
    for name in ("t.csv", "t.jsonl"):
        assert desk.flows(f"""- {{each: {{table: {name}}}, name: "{{a}}", template: t, inputs: ["{{a}}"]}}""") == []


def test_a_table_that_changes_between_the_looks_is_told(desk: Desk) -> None:
    path = desk.write("t.csv", "a,b\n1,2\n")
    _, _, _, found = tables.read(str(path), "t.csv", ".csv", {})
    path.write_text("b,a\n1,2\n")
    (problem,) = found
    assert isinstance(problem, Problem)
    assert "changed while it was read" in problem.message


def test_a_wide_row_with_repeated_keys_is_refused_quickly() -> None:
    pairs = ", ".join(f'"k{n}": 1' for n in range(20_000))
    with pytest.raises(Unfit, match="twice"):
        tables.json_object(f'{{{pairs}, "k19999": 2}}'.encode())


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.lists(TEXT, min_size=2, max_size=2)))
def test_csv_rows_come_out_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, written: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["a", "b"], *written])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(text.getvalue().encode())
    _, _, _, found = tables.read(str(path), "t.csv", ".csv", {})
    assert [list(row[0]) for row in found if not isinstance(row, Problem)] == [row for row in written if any(row)]


@given(st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=3), max_size=5))
def test_json_objects_come_out_as_they_were_written(row: dict[str, object]) -> None:
    assert tables.json_object(json.dumps(row).encode()) == row
    assert tables.json_object(json.dumps(row, ensure_ascii=False).encode()) == row


def test_a_table_that_cannot_be_opened_for_want_of_files_is_a_matter_of_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.write("t.csv", "a\n1\n")

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(tables, "_unreadable", refused)
    monkeypatch.setattr(os, "scandir", refused)
    manifest = desk.flow("- {name: a, template: t, inputs: [{table: t.csv, file: '{a}'}, {glob: '*.png'}]}")
    table, pattern = walk(manifest)
    assert (table.kind, pattern.kind) == ("unavailable", "unavailable")
    assert 'the table "t.csv" cannot be read: Too many open files (raise ulimit -n, or run again later)' in str(table)
