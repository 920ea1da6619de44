"""Loads a manifest: the file, the text, the shape, the plans; everything that is wrong is told in one go.

In: the path as the user spelled it, and the environment. Out: a `Manifest`, or `ManifestError`. Called by the command
line and by the public API.
"""

from __future__ import annotations

import gc
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

from batcher.core.errors import ManifestError
from batcher.core.model import DEFAULT_ENDPOINT, Limits, Manifest, Place, Problem
from batcher.manifest import document, environment, model, planning, shape, values
from batcher.manifest.document import BROKEN, Map, Seq
from batcher.manifest.errors import Findings, mark_of, quoted
from batcher.manifest.flows import Expansion, Plan

MAX_MANIFEST_BYTES: Final = 100_000_000  # 1,000,000 inputs written out; more belongs into a table
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
# What YAML allows to stand unescaped (YAML 1.2.2, 5.1), turned round.
_FORBIDDEN: Final = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def load(path: str | os.PathLike[str], env: Mapping[str, str], *, endpoint: str | None = None) -> Manifest:
    """Reads and checks the manifest at `path`. `env` answers `${NAME}`; `endpoint` overrides the manifest's.

    Raises ManifestError with every problem that the text shows; those that only an expansion shows (a pattern that
    matches nothing, an unknown column) stand in the streams `flows()` and `inputs()`.
    """
    name = os.fspath(path)
    findings = Findings(name)
    text = _text(name, findings)
    absolute = os.path.abspath(name)
    folder = os.path.dirname(absolute)
    with _no_collection():
        settings, plans = _read(text, env, folder, findings)
    batch = _batch(settings, absolute, findings)
    address = _endpoint(settings, endpoint, findings)
    if settings is None or findings:
        raise findings.error()
    limits = settings.limits.limits() if settings.limits else Limits()
    return Manifest(name, absolute, folder, batch, address, limits, Expansion(plans).flows)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keeps the garbage collector from looking a growing tree through again and again: a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(text: str, env: Mapping[str, str], folder: str, findings: Findings) -> tuple[model.ManifestShape | None, list[Plan]]:
    """The settings and the plans in the text. Raises ManifestError where nothing can be told."""
    tree = document.read(text, partial(environment.resolve, env=env), findings)
    if tree is not BROKEN and not isinstance(tree, Map):
        mark = tree.marks[0] if isinstance(tree, Seq) else 0
        findings.add(mark, f"a manifest is a mapping, not {quoted(tree)}", "begin with `version: 1` and `flows:`")
    if not isinstance(tree, Map):
        raise findings.error()
    settings = shape.check(tree, findings)
    return settings, planning.plans(tree, folder, findings)


def _batch(settings: model.ManifestShape | None, path: str, findings: Findings) -> str:
    if settings is None:
        return ""
    if settings.batch is not None:
        return settings.batch
    try:
        return values.check_batch(os.path.splitext(os.path.basename(path))[0])
    except ValueError as error:
        findings.add(None, f"the file's name gives no name to the batch: {error}", "add `batch:`")
        return ""


def _endpoint(settings: model.ManifestShape | None, override: str | None, findings: Findings) -> str:
    if override is None:
        return (settings and settings.endpoint) or DEFAULT_ENDPOINT
    try:
        return values.parse_endpoint(override)
    except ValueError as error:
        findings.add(None, str(error), "correct the endpoint that overrides the manifest's")
        return ""


def _text(name: str, findings: Findings) -> str:
    """The manifest's text. Raises ManifestError where there is none."""
    raw = _bytes(name)
    if raw[:2] in _UTF16:
        raise _unreadable(name, "the manifest is UTF-16, not UTF-8", "save it as UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Offsets are counted in the file, byte order mark included.
        offset = error.start + (3 if raw.startswith(b"\xef\xbb\xbf") else 0)
        before = raw[:offset].decode("utf-8-sig")
        findings.add(
            _mark_at(before), f"the manifest is not UTF-8: the byte 0x{raw[offset]:02x} at offset {offset}", "save it as UTF-8"
        )
        raise findings.error() from None
    bad = _FORBIDDEN.search(text)
    if bad:
        findings.add(
            _mark_at(text[: bad.start()]),
            f"the character U+{ord(bad[0]):04X} may not stand in a manifest",
            "remove it, or write an escape like \\x1b in double quotes",
        )
        raise findings.error()
    return text


def _mark_at(before: str) -> int:
    return mark_of(before.count("\n"), len(before) - (before.rfind("\n") + 1))


def _bytes(name: str) -> bytes:
    if not name or "\0" in name:
        raise _unreadable(name, "the manifest's path is empty" if not name else "the path holds a NUL", "name a file")
    try:
        # Looked at before it is opened: opening a FIFO waits for a writer.
        found = os.stat(name)
        if stat.S_ISDIR(found.st_mode):
            raise _unreadable(name, "this is a folder, not a manifest", "name the file, like manifest.yaml")
        if not stat.S_ISREG(found.st_mode):
            raise _unreadable(name, "this is no regular file", "name a manifest that can be read again")
        if found.st_size > MAX_MANIFEST_BYTES:
            raise _unreadable(name, f"the manifest has {found.st_size:,} bytes", "put its inputs into a `table`")
        with open(name, "rb") as file:
            return file.read(MAX_MANIFEST_BYTES)
    except FileNotFoundError as error:
        raise _unreadable(name, "there is no such manifest", "check the path") from error
    except OSError as error:
        raise _unreadable(name, f"the manifest cannot be read: {error.strerror}", "check its permissions") from error


def _unreadable(name: str, message: str, hint: str) -> ManifestError:
    return ManifestError([Problem("manifest", message, hint, Place(name))])
