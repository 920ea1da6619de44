"""Outputs are valid GLB 2.0, made from their inputs."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from batcher.sandbox.blocks import Blob
from batcher.sandbox.glb import make_glb

from .api import IMAGE, OPTIMIZE, PNG, PROMPT, data_uri
from .conftest import Serve

SIZES = {5126: 4, 5123: 2}
PARTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}


def parse_glb(glb: bytes) -> tuple[dict[str, Any], bytes]:
    """The document and the binary of a GLB, after every check of the container and its accessors."""
    magic, version, length = struct.unpack_from("<4sII", glb)
    assert (magic, version, length) == (b"glTF", 2, len(glb))
    json_length, json_type = struct.unpack_from("<I4s", glb, 12)
    assert (json_length % 4, json_type) == (0, b"JSON")
    document = json.loads(glb[20 : 20 + json_length])
    bin_length, bin_type = struct.unpack_from("<I4s", glb, 20 + json_length)
    assert (bin_length % 4, bin_type) == (0, b"BIN\0")
    binary = glb[28 + json_length :]
    assert len(binary) == bin_length
    (buffer,) = document["buffers"]
    assert 0 <= bin_length - buffer["byteLength"] <= 3
    assert binary[buffer["byteLength"] :].strip(b"\0") == b""
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0
        assert view["byteOffset"] + view["byteLength"] <= buffer["byteLength"]
    for accessor in document["accessors"]:
        size = accessor["count"] * PARTS[accessor["type"]] * SIZES[accessor["componentType"]]
        assert size == document["bufferViews"][accessor["bufferView"]]["byteLength"]
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    assert {"min", "max"} <= document["accessors"][attributes["POSITION"]].keys()
    return document, binary


def made(content: bytes, mime: str) -> bytes:
    glb = make_glb(Blob(content), mime)
    whole = b"".join(glb.blocks())
    assert len(whole) == glb.size_bytes
    return whole


@pytest.mark.parametrize("length", range(4))
@pytest.mark.parametrize(("mime", "start"), [("image/png", PNG), ("image/jpg", b"\xff\xd8\xff\xe0")])
def test_an_image_becomes_the_texture_of_a_quad(mime: str, start: bytes, length: int) -> None:
    image = start + b"x" * length
    document, binary = parse_glb(made(image, mime))
    (texture,) = document["images"]
    view = document["bufferViews"][texture["bufferView"]]
    assert binary[view["byteOffset"] :][: view["byteLength"]] == image
    assert texture["mimeType"] == mime.replace("jpg", "jpeg")


@pytest.mark.parametrize("mime", ["image/webp", "image/tiff", "image/png", "model/gltf-binary"])
def test_what_cannot_be_a_texture_becomes_a_bare_quad(mime: str) -> None:
    document, _ = parse_glb(made(b"something else", mime))
    assert "images" not in document


def test_a_prompt_is_kept_in_extras() -> None:
    document, _ = parse_glb(made("Ein schöner Stuhl ☃".encode(), "text/plain"))
    assert document["nodes"][0]["extras"] == {"prompt": "Ein schöner Stuhl ☃"}


def test_the_quad_faces_the_viewer() -> None:
    document, binary = parse_glb(made(b"a chair", "text/plain"))
    views = [binary[view["byteOffset"] :][: view["byteLength"]] for view in document["bufferViews"]]
    points = [struct.unpack_from("<3f", views[0], 12 * index) for index in range(4)]
    for corners in (struct.unpack("<6H", views[3])[:3], struct.unpack("<6H", views[3])[3:]):
        (ax, ay, _), (bx, by, _), (cx, cy, _) = (points[corner] for corner in corners)
        assert (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) > 0  # counter-clockwise, as glTF wants a front


@pytest.mark.anyio
@pytest.mark.parametrize("download", ["json", "raw"])
@pytest.mark.parametrize(
    ("template", "data", "content"),
    [
        (IMAGE, data_uri(PNG + bytes(300_001)), PNG),
        (PROMPT, "a chair", None),
        (OPTIMIZE, data_uri(made(PNG, "image/png"), "model/gltf-binary"), made(PNG, "image/png")),
    ],
)
async def test_outputs_are_downloaded_as_json_or_raw(
    serve: Serve, download: str, template: str, data: str, content: bytes | None
) -> None:
    async with serve(readings=f"download={download}") as api:
        flow_id = await api.started(template, {"data": data, "additional": "mine"})
        await api.until(flow_id, "completed")
        (item,) = await api.outputs(flow_id)
        reply = await api.ok("GET", f"/flows/{flow_id}/outputs/{item['id']}")
        (with_data,) = await api.outputs(flow_id, "?include_data=true")
        prefix = "data:model/gltf-binary;base64,"
        assert with_data["data"].startswith(prefix)
        glb = base64.b64decode(with_data["data"].removeprefix(prefix), validate=True)
        parse_glb(glb)
        assert content is None or content in glb
        if download == "raw":
            assert reply == glb
        else:
            assert reply == {**item, "data": with_data["data"]}
        assert (await api.call("GET", f"/flows/{flow_id}/outputs/{item['id'][::-1]}"))[0] == 404
