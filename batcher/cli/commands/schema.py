"""`batcher schema`: out: the manifest's JSON Schema on stdout."""

from __future__ import annotations

import json

import click

from ...manifest import schema
from .. import output


@click.command("schema", short_help="print the manifest's JSON Schema")
def command() -> None:
    """Print the manifest's JSON Schema. Editors find it by a first line that says yaml-language-server: $schema=FILE."""
    output.out(json.dumps(schema(), indent=2, ensure_ascii=False))
