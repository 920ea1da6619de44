"""Outputs: valid GLB 2.0 files made from the inputs, lazily, when they are asked for.

In: the content of an input and its type. Out: a `Content`, so that an image of any size is wrapped without being held.
An image becomes a quad with the image as its texture, a prompt a quad that carries it in `extras`, a GLB itself.
Called by `listings` and `calls`. Source: the glTF 2.0 specification, GLB File Format.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from .blocks import Blob, Content, Joined
from .templates import GLB, JPEG, TEXT, canonical_mime

_MAGIC = b"glTF"
_JSON_CHUNK = 0x4E4F534A
_BIN_CHUNK = 0x004E4942
_FLOAT, _USHORT = 5126, 5123
_VERTICES, _INDICES = 34962, 34963  # ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER

# glTF knows these two image types without an extension; what only claims to be one gets no texture.
_TEXTURES = {"image/png": b"\x89PNG\r\n\x1a\n", JPEG: b"\xff\xd8\xff"}

# The lengths in a GLB are 32 bits wide. With the quad and the JSON, this much image fits for certain.
_IMAGE_MAX_BYTES = 2**32 - 2**20
PROMPT_MAX_CHARS = 4096

_POSITIONS = struct.pack("<12f", -0.5, -0.5, 0, 0.5, -0.5, 0, 0.5, 0.5, 0, -0.5, 0.5, 0)
_NORMALS = struct.pack("<12f", *(0, 0, 1) * 4)
_TEXTURE_COORDINATES = struct.pack("<8f", 0, 1, 1, 1, 1, 0, 0, 0)  # the image's first row is up
_CORNERS = struct.pack("<6H", 0, 1, 2, 0, 2, 3)
_QUAD = _POSITIONS + _NORMALS + _TEXTURE_COORDINATES + _CORNERS


def make_glb(content: Content, mime: str) -> Content:
    """The GLB for an input with this content."""
    mime = canonical_mime(mime)
    start = next(content.blocks(), b"")
    if mime == GLB and start.startswith(_MAGIC):
        return content
    if mime in _TEXTURES and start.startswith(_TEXTURES[mime]) and content.size_bytes <= _IMAGE_MAX_BYTES:
        return _textured_quad(content, mime)
    document = _quad(len(_QUAD))
    if mime == TEXT:
        document["nodes"][0]["extras"] = {"prompt": start.decode("utf-8", "ignore")[:PROMPT_MAX_CHARS]}
    return _pack(document, Blob(_QUAD))


def _textured_quad(image: Content, mime: str) -> Content:
    document = _quad(len(_QUAD) + image.size_bytes)
    document["bufferViews"].append({"buffer": 0, "byteOffset": len(_QUAD), "byteLength": image.size_bytes})
    document["images"] = [{"bufferView": len(document["bufferViews"]) - 1, "mimeType": mime}]
    document["textures"] = [{"source": 0}]
    document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
    return _pack(document, Joined([Blob(_QUAD), image]))


def _quad(buffer_bytes: int) -> dict[str, Any]:
    """A unit square that faces +Z, on the first bytes of the buffer."""
    views = []
    offset = 0
    for part, target in (
        (_POSITIONS, _VERTICES),
        (_NORMALS, _VERTICES),
        (_TEXTURE_COORDINATES, _VERTICES),
        (_CORNERS, _INDICES),
    ):
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(part), "target": target})
        offset += len(part)
    bounds = {"min": [-0.5, -0.5, 0.0], "max": [0.5, 0.5, 0.0]}
    return {
        "asset": {"version": "2.0", "generator": "batcher sandbox"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2}, "indices": 3, "material": 0}]}
        ],
        "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0.0}, "doubleSided": True}],
        "accessors": [
            {"bufferView": 0, "componentType": _FLOAT, "count": 4, "type": "VEC3", **bounds},
            {"bufferView": 1, "componentType": _FLOAT, "count": 4, "type": "VEC3"},
            {"bufferView": 2, "componentType": _FLOAT, "count": 4, "type": "VEC2"},
            {"bufferView": 3, "componentType": _USHORT, "count": 6, "type": "SCALAR"},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": buffer_bytes}],
    }


def _pack(document: dict[str, Any], binary: Content) -> Content:
    """Header, JSON chunk padded with spaces, BIN chunk padded with zeros, each to 4 bytes."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    padding = b"\0" * (-binary.size_bytes % 4)
    binary_bytes = binary.size_bytes + len(padding)
    total_bytes = 12 + 8 + len(text) + 8 + binary_bytes
    head = struct.pack("<4sII", _MAGIC, 2, total_bytes) + struct.pack("<II", len(text), _JSON_CHUNK) + text
    head += struct.pack("<II", binary_bytes, _BIN_CHUNK)
    return Joined([Blob(head), binary, Blob(padding)])
