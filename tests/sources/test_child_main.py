"""What the process reads and writes: frames, and nothing that is none."""

from __future__ import annotations

import io
import marshal

from batcher.sources.child_main import FRAME_BYTES, load, read_frame, write_frame


def framed(items: list[object]) -> bytes:
    file = io.BytesIO()
    write_frame(file, items)
    return file.getvalue()


def test_a_frame_comes_back_as_it_went_one_after_the_other() -> None:
    file = io.BytesIO(framed(["look", [(b"a", True)]]) + framed([]))
    assert [read_frame(file) for _ in range(3)] == [["look", [(b"a", True)]], [], None]


def test_a_frame_is_eight_bytes_of_length_and_a_list() -> None:
    frame = framed([1])
    assert (frame[:8], marshal.loads(frame[8:])) == ((len(frame) - 8).to_bytes(8, "big"), [1])


def test_what_is_cut_or_no_frame_is_none() -> None:
    whole = framed([b"x" * 100])
    for cut in (b"", whole[:3], whole[:8], whole[:-1], bytes(8), (FRAME_BYTES + 1).to_bytes(8, "big") + b"x"):
        assert read_frame(io.BytesIO(cut)) is None


def test_a_script_is_loaded_by_its_path_with_its_arguments(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text("def works(*arguments):\n    return {'say': lambda items: [*items, __file__, *arguments]}\n")
    assert load(str(script), ["a", "b"])["say"]([1]) == [1, str(script), "a", "b"]
