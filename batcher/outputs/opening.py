"""Where outputs go: a folder, or a prefix in an object store. In: what `--to` names. Out: what the collecting writes to.
Called by the public API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import UsageError
from ..core.objects import STORES, is_address
from .folder import OutputFolder

if TYPE_CHECKING:
    from .objects import ObjectFolder


def open_outputs(to: str | os.PathLike[str]) -> OutputFolder | ObjectFolder:
    """Raises UsageError where it cannot be written. Close it."""
    if is_address(os.fspath(to)):
        from .objects import ObjectFolder  # only where it is asked for

        return ObjectFolder(os.fspath(to))
    scheme, colon, rest = os.fspath(to).partition(":/")
    if colon and scheme in STORES:
        raise UsageError(f"{to} is a folder by its name, and meant as an address?", f"write {scheme}://{rest.lstrip('/')}")
    return OutputFolder(Path(to))
