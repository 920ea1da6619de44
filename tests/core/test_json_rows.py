"""JSON lines that somebody may have spoilt are read as far as they are rows."""

from __future__ import annotations

import io

from batcher.core.json_rows import LINE_BYTES, lines, rows


def test_what_is_no_object_is_passed_over() -> None:
    spoilt = [b'{"a": 1}\n', b"[1]\n", b"\n", b"{\n", b"\xff\n", b"[" * 100_000 + b"\n", b'{"a": 2}']
    assert list(rows(spoilt)) == [{"a": 1}, {"a": 2}]


def test_long_line_comes_in_parts() -> None:
    found = list(lines(io.BytesIO(b"x" * (LINE_BYTES + 1) + b"\n{}\n").readline))
    assert [len(line) for line in found] == [LINE_BYTES, 2, 3]
