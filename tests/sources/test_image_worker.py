"""What the process finds in an image, found here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from batcher.sources import image_worker


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As the process would, one image after the other: path, format, whether to decode, most pixels."""
    pil = pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install 'batcher[images]'")
    monkeypatch.setattr(pil, "MAX_IMAGE_PIXELS", pil.MAX_IMAGE_PIXELS)  # `works` sets it, for the process
    png = pytest.importorskip("PIL.PngImagePlugin")
    for name in ("MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY"):
        monkeypatch.setattr(png, name, getattr(png, name))
    with tempfile.TemporaryFile() as turnstile:
        yield image_worker.works(str(turnstile.fileno()))["look"]


@pytest.mark.parametrize("large_from", [0, 16_000_000])
def test_each_image_gets_its_verdict(look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large_from: int) -> None:
    from PIL import Image

    monkeypatch.setattr(image_worker, "LARGE_PIXELS", large_from)
    for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
        path = tmp_path / f"a.{kind}"
        Image.effect_noise((40, 30), 80).convert("RGB").save(path, kind)
        cut = tmp_path / f"cut.{kind}"
        cut.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        whole, broken, large, of_another = look([
            (bytes(path), kind, True, 1200), (bytes(cut), kind, True, 1200), (bytes(path), kind, True, 1199),
            (bytes(path), "PNG" if kind == "WEBP" else "WEBP", True, 1200),
        ])  # fmt: skip
        assert whole is None
        assert broken[0] == "broken"
        assert large == ["pixels", "40 × 30"]
        assert of_another == ["broken", f"it is no {'PNG' if kind == 'WEBP' else 'WEBP'}"]
        assert look([(bytes(path), kind, False, 1200)]) == [None]


def test_a_file_that_is_not_there_is_broken_in_the_systems_words(look: Any, tmp_path: Path) -> None:
    ((kind, text),) = look([(bytes(tmp_path / "none.png"), "PNG", True, 1)])
    assert kind == "broken"
    assert "No such file" in text
