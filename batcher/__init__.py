"""Push large batches of files into a generative service, once each, and sleep well.

    manifest = batcher.load_manifest("manifest.yaml")
    report = await batcher.run(manifest, batcher.Settings(key=lambda: os.environ["GENERIO_API_KEY"]))

Names are imported when they are first used, so that `import batcher` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .api import MemoryJournal, Survey, collect, plan, run
    from .core.errors import BatcherError, JournalError, Locked, ManifestError, Stop, UsageError
    from .core.model import Limits, Manifest, Problem
    from .core.planning import Options
    from .core.report import Report
    from .settings import Settings, load_manifest

__all__ = [
    "BatcherError",
    "JournalError",
    "Limits",
    "Locked",
    "Manifest",
    "ManifestError",
    "MemoryJournal",
    "Options",
    "Problem",
    "Report",
    "Settings",
    "Stop",
    "Survey",
    "UsageError",
    "__version__",
    "collect",
    "load_manifest",
    "plan",
    "run",
]  # fmt: skip

_HOMES = {
    **dict.fromkeys(("BatcherError", "JournalError", "Locked", "ManifestError", "Stop", "UsageError"), "core.errors"),
    **dict.fromkeys(("Limits", "Manifest", "Problem"), "core.model"),
    "Options": "core.planning",
    "Report": "core.report",
    **dict.fromkeys(("Settings", "load_manifest"), "settings"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'api')}"), name)
