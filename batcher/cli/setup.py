"""What a command needs before it begins: the API key, the log, the manifest, the settings.

In: flags, the environment. Out: a `Manifest` with the flags' limits, `Settings`, `Events`. Called by the commands.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import click

from ..core.chosen import Chosen
from ..core.errors import ManifestError, UsageError
from ..core.events import SILENT, Events
from ..core.exit_codes import ExitCode
from ..core.model import Limits, Manifest, Place
from ..core.planning import Options
from ..core.report import Report
from ..host import system
from ..service.credentials import Mask
from ..settings import LEASE_S, Settings, load_manifest
from .flags import CommonFlags
from .output import finish, harmless, say

KEY_WAIT_S: Final = 10.0  # a new key may be written a moment after the old one has ended


def read_key(mask: Mask | None = None) -> str | None:
    """The key from GENERIO_API_KEY_FILE or GENERIO_API_KEY; asked again after a 401. `mask` gets to know it."""
    key = _read_key()
    if mask is not None:
        mask.add(key)
    return key


def _read_key() -> str | None:
    path = os.environ.get("GENERIO_API_KEY_FILE")
    if path:
        try:
            return _key("GENERIO_API_KEY_FILE", Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            what = getattr(error, "strerror", None) or "it is not text"
            raise UsageError(f"GENERIO_API_KEY_FILE: {path} cannot be read: {what}", "name a file that holds the key") from None
    return _key("GENERIO_API_KEY", os.environ.get("GENERIO_API_KEY", ""))


def _key(where: str, text: str) -> str | None:
    """The key without the white space around it. Raises UsageError where it cannot stand in a header."""
    key = text.strip()
    if not key.isprintable() or not key.isascii() or " " in key:
        raise UsageError(f"{where} holds no key: there is white space, or another odd character, in it", "give the key alone")
    return key or None


def open_log(given: CommonFlags, mask: Mask) -> Events:
    """Events go to a file where one is named, as JSON lines, else to stderr, as text, if --verbose asks for it. Exits with 2
    where the file cannot be opened."""
    if given.log_file is None and not given.verbose:
        return SILENT
    from ..reporting.log import open_log

    form: Literal["text", "json"] = "json" if (given.log_format or ("json" if given.log_file else "text")) == "json" else "text"
    try:
        return open_log(given.log_file, form, lambda line: harmless(mask(line)), lambda words: say(f"batcher: {mask(words)}"))
    except OSError as error:
        say(f"batcher: --log-file {given.log_file} cannot be written: {error.strerror} (name another file)")
        sys.exit(ExitCode.USAGE)


def settings(
    given: CommonFlags, options: Mapping[str, Any] = {}, mask: Mask | None = None, manifest: Manifest | None = None
) -> Settings:
    """Flags as a value; a command that has no flag for an option leaves it as it is. `mask` gets to know the key; `manifest` is
    needed by the commands that take a list of flows. Raises UsageError where that cannot be read."""
    redo, only = options.get("redo", ()), options.get("only", ())
    listed: dict[str, Place] = {}
    attempts: dict[str, str] = {}
    if manifest is not None and options.get("redo_from") is not None:
        from .redo import wanted

        listed, attempts = wanted(manifest, given.state, options["redo_from"])
        redo = (*redo, *listed)
    chosen = Options(
        resubmit_changed=options.get("resubmit_changed", False),
        redo=Chosen("--redo", redo, listed, attempts) if redo else lambda name: False,
        only=Chosen("--only", only) if only else lambda name: True,
        redo_failed=options.get("redo_failed", False),
        checksum=options.get("checksum", False),
        keep_going=options.get("keep_going", False),
        start=not options.get("no_start", False),
        adopt=options.get("adopt", False),
    )
    wait_s = KEY_WAIT_S if os.environ.get("GENERIO_API_KEY_FILE") else 0.0  # a variable of ours cannot change
    return Settings(chosen, partial(read_key, mask), given.state, given.ca_file, options.get("max_duration"), wait_s,
                    options.get("lease_s", LEASE_S))  # fmt: skip


def load(given: CommonFlags, options: Mapping[str, Any] = {}) -> Manifest:
    """The manifest with the flags' limits; exits with 2 and a list where it is wrong. Raises UsageError on Windows."""
    system.check()
    try:
        manifest = load_manifest(given.manifest, env=os.environ, endpoint=given.endpoint)
    except ManifestError as error:
        report = Report(given.manifest, given.endpoint or "")
        for problem in error.problems:
            report.add(problem)
        finish(report, given.as_json)
    click.get_current_context().obj = manifest.endpoint  # for the document of an error
    gc.freeze()  # what is there by now stays: never looked through again
    named = {field.name for field in fields(Limits)}
    limits = {name: value for name, value in options.items() if name in named and value is not None}
    return replace(manifest, limits=replace(manifest.limits, **limits))
