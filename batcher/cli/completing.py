"""What stands for a manifest or a flow's name when a shell completes a word.

In: the words so far, as click has read them. Out: suggestions. No network; bounded in names and in time. Called by click.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

import click
from click.shell_completion import CompletionItem

from ..core.errors import UsageError

if TYPE_CHECKING:
    from ..journal.open import State

NAMES_MAX: Final = 3000
NAMES_S: Final = 1.0
Items: TypeAlias = "list[CompletionItem[str]]"  # a text: before click 8.2 it takes no parameter when it runs


def manifests(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The shell looks for YAML files, with its own ways to spell a path."""
    return [CompletionItem(incomplete, type="yaml")]


def folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    return [CompletionItem(incomplete, type="dir")]


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    return [CompletionItem(incomplete, type="file")]


def flows(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Names from the journals beside the manifest, and from the manifest itself as far as there is time."""
    manifest = ctx.params.get("manifest") or next(iter(ctx.args), None)  # click reads no further than the flag without a value
    if not manifest:
        return []
    found: dict[str, None] = {}

    def gather() -> None:
        with contextlib.suppress(Exception):  # a manifest that is wrong is `plan`'s affair
            for name in _names(os.path.expanduser(str(manifest)), ctx.params.get("state")):
                if name.startswith(incomplete):
                    found[name] = None
                    if len(found) >= NAMES_MAX:
                        return

    thread = threading.Thread(target=gather, daemon=True)
    thread.start()
    thread.join(NAMES_S)
    given = ctx.params.get(str(param.name)) or ()
    return [CompletionItem(name) for name in list(found) if name not in given]


def _names(manifest: str, state: State | None) -> Iterator[str]:
    from ..journal.open import known_names

    yield from known_names(manifest, state)
    from ..api import MemoryJournal, load_manifest
    from ..core.model import Flow

    for flow in load_manifest(manifest, env=os.environ).knowing(MemoryJournal(), _no_network).flows():
        if isinstance(flow, Flow):
            yield flow.name


def _no_network() -> None:
    """What a pattern over an object store ends with."""
    raise UsageError("nothing is asked for while a word is completed", "type the name")
