"""The manifest: a YAML file in, a frozen `Manifest` out, whose flows are expanded lazily.

    text ──document──▶ tree ──shape──▶ checked tree ──flow_entries──▶ plans ──flows(), inputs()──▶ Flow, Input | Problem

In: a path and the environment. Out: what `batcher.core.model` describes. Called by the command line and the public API.
"""

from batcher.core.errors import ManifestError
from batcher.manifest.keys import schema
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
