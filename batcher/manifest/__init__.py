"""The manifest: a YAML file in, a frozen `Manifest` out, whose flows are expanded lazily.

    text ──document──▶ tree ──sound──▶ checked tree ──flow_entries──▶ plans ──flows(), inputs()──▶ Flow, Input | Problem

In: a path and the environment. Out: what `batcher.core.model` describes. Called by the command line and the public API.
"""

from typing import Any

from batcher.core.errors import ManifestError
from batcher.manifest.load import load
from batcher.manifest.units import parse_bandwidth, parse_duration, parse_rate, parse_size
from batcher.manifest.values import parse_endpoint

__all__ = [
    "ManifestError",
    "load",
    "parse_bandwidth",
    "parse_duration",
    "parse_endpoint",
    "parse_rate",
    "parse_size",
    "schema",
]


def schema() -> dict[str, Any]:
    """The manifest's JSON Schema, with descriptions, for editors."""
    from batcher.manifest import keys  # pydantic, which a manifest that is right does without

    return keys.schema()
