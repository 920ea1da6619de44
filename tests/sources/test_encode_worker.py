"""What the process computes, computed here."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from batcher.core.facts import FileStat
from batcher.host.system import stat_of
from batcher.sources import encode_worker


def test_every_integer_of_a_file_fits_into_the_journal() -> None:
    found = os.stat_result((stat.S_IFREG, 2**64 - 1, 0, 1, 0, 0, 2**63 - 1, 0, 0, 0), {"st_mtime_ns": -(2**70)})
    assert all(-(2**63) <= value < 2**63 for value in encode_worker.stat_fields(found))
    for nearby in (found, os.stat(__file__)):
        assert FileStat(*encode_worker.stat_fields(nearby)) == stat_of(nearby), "the process and this one see the same"


def planned(path: Path) -> tuple[int, int, int]:
    return encode_worker.stat_fields(path.stat())


def test_file_is_encoded_as_it_was_planned_and_in_no_other_state(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"content")
    asked = (bytes(path), "image/png", planned(path), {"n": 1}, ("batcher", "00"))
    found = encode_worker.encode(asked)
    assert found is not None
    sha256 = hashlib.sha256(b"content")
    assert found[1] == sha256.digest()
    assert json.loads(found[0]) == {
        "data": f"data:image/png;base64,{base64.b64encode(b'content').decode()}",
        "additional": {"n": 1, "batcher": {"key": "00", "sha256": sha256.hexdigest()}},
    }
    os.utime(path, ns=(1, 1))
    assert encode_worker.encode(asked) is None
    assert encode_worker.encode_all([asked, (b"", *asked[1:])]) == [None, None]


def test_bytes_of_a_body_stay_what_they_are() -> None:
    """As every version has sent them: what was announced with a digest must come out the same."""
    sent = encode_worker.body(b'"data:image/png;base64,AAAA"', {"sku": "é"}, ("batcher", "6b"), "00ff")
    assert sent == (b'{"data":"data:image/png;base64,AAAA","additional":'
                    b'{"sku": "\\u00e9", "batcher": {"key": "6b", "sha256": "00ff"}}}')  # fmt: skip
    assert encode_worker.body(b'"a chair"', [1, None], None, "00ff") == b'{"data":"a chair","additional":[1, null]}'


@pytest.mark.parametrize("cold", [False, True])
def test_looks_come_back_in_order_however_slow_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cold: bool
) -> None:
    monkeypatch.setattr(encode_worker, "COLD_S", 0.0 if cold else 3600.0)
    paths = [tmp_path / str(number) for number in range(3 * encode_worker.TRIED + 5)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%d" % number * 40)
    (tmp_path / "empty").touch()
    asked = [(bytes(path), True) for path in paths]
    odd = [(bytes(tmp_path / "empty"), True), (bytes(tmp_path), True), (b"", False), (b"a\0", False)]
    found = encode_worker.works()["look"](odd + asked + asked[:1])
    assert found[: len(odd)] == [None] * len(odd)
    heads = [(*planned(path), path.read_bytes()[: encode_worker.MAGIC_BYTES]) for path in paths]
    assert found[len(odd) :] == heads + heads[:1]
