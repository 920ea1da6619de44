"""The text of a manifest file: read whole, as UTF-8, and nothing that YAML forbids.

In: a path. Out: the text, or nothing where a problem was noted. Called by `load` and `include`.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from itertools import islice
from typing import Final

from batcher.core.names import alike
from batcher.core.suggestion import closest
from batcher.manifest.findings import Findings, Unfit, harmless, mark_of
from batcher.manifest.folders import is_folder

MAX_MANIFEST_BYTES: Final = 100_000_000  # 1,000,000 inputs written out; more belongs into a table
LOOKED_AT: Final = 10_000  # names in a folder, for a suggestion
LIKENESS: Final = 0.5  # of a manifest's name: there are few of them in a folder, so a wilder guess helps
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
# What YAML allows to stand unescaped (YAML 1.2.2, 5.1), turned round.
_FORBIDDEN: Final = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_bytes(path: str, includer: str = "") -> bytes:
    """The file's content. `includer`: the real path of the one that includes it. Raises Unfit where it cannot be had."""
    if not path or "\0" in path:
        raise Unfit("the manifest's path is empty" if not path else "the path holds a NUL", "name a file")
    try:
        # Looked at before it is opened: opening a FIFO waits for a writer.
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise Unfit("this is a folder, not a manifest", _inside(path))
        if not stat.S_ISREG(found.st_mode):
            raise Unfit("this is no regular file", "name a manifest that can be read again")
        if found.st_size > MAX_MANIFEST_BYTES:
            raise Unfit(f"the manifest has {found.st_size:,} bytes", "put its inputs into a `table`")
        with open(path, "rb") as file:
            raw = file.read(MAX_MANIFEST_BYTES)
    except FileNotFoundError as error:
        raise Unfit("there is no such manifest", _beside(path, includer)) from error
    except OSError as error:
        raise Unfit(f"the manifest cannot be read: {error.strerror}", "check its permissions") from error
    if raw[:2] in _UTF16:
        raise Unfit("the manifest is UTF-16, not UTF-8", "save it as UTF-8")
    return raw


def _inside(folder: str) -> str:
    """What may have been meant by a folder."""
    there = _manifests(folder)
    if there:
        return f"did you mean {harmless(os.path.join(folder, there[0]))}?"
    return f"name a YAML file; `batcher init {harmless(shlex.quote(folder))}` writes one"


def _beside(path: str, includer: str) -> str:
    """What may have been meant by the path of nothing."""
    folder, name = os.path.split(path)
    if os.path.islink(path):
        return f"it is a link to {harmless(os.readlink(path))}, which is not there"
    others = [there for there in _manifests(folder or ".") if os.path.realpath(os.path.join(folder, there)) != includer]
    near = closest(name, others, LIKENESS)
    if near is not None:
        return f"did you mean {harmless(os.path.join(folder, near))}?"
    return "check the path; `batcher init FOLDER` writes a first one"


def _manifests(folder: str) -> list[str]:
    """YAML files in a folder, batcher's own choice of a name first."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, LOOKED_AT) if entry.name.endswith((".yaml", ".yml"))]
    except OSError:
        return []
    return sorted(names, key=lambda name: (name != "batcher.yaml", name))


def folder_like(folder: str, name: str) -> str:
    """The name of a folder in `folder` that `name` may have been meant for; empty for none."""
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in islice(entries, LOOKED_AT) if is_folder(entry) and entry.name[0] != "."]
    except OSError:
        return ""
    same = [there for there in names if alike(there) == alike(name)]
    return same[0] if same else closest(name, names) or ""


def text_of(raw: bytes, findings: Findings, file: int = 0) -> str | None:
    """The text in `raw`. `file` is the file's number in `findings`; None: a problem was noted there."""
    findings.digest.update(b"%d\0" % len(raw))
    findings.digest.update(raw)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Offsets are counted in the file, byte order mark included.
        offset = error.start + (3 if raw.startswith(b"\xef\xbb\xbf") else 0)
        before = raw[:offset].decode("utf-8-sig")
        message = f"the manifest is not UTF-8: the byte 0x{raw[offset]:02x} at offset {offset}"
        findings.add(_mark_at(before, file), message, "save it as UTF-8")
        return None
    bad = _FORBIDDEN.search(text)
    if bad:
        findings.add(
            _mark_at(text[: bad.start()], file),
            f"the character U+{ord(bad[0]):04X} may not stand in a manifest",
            "remove it, or write an escape like \\x1b in double quotes",
        )
        return None
    return text


def _mark_at(before: str, file: int) -> int:
    return mark_of(before.count("\n"), len(before) - (before.rfind("\n") + 1), file)
