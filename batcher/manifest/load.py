"""Loads a manifest: the file, the text, the shape, the plans; everything that is wrong is reported in one go.

In: the path as the user spelled it, and the environment. Out: a `Manifest`, or `ManifestError`. Called by the command
line and by the public API.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from batcher.core.errors import ManifestError
from batcher.core.facts import CollectedView
from batcher.core.model import DEFAULT_ENDPOINT, Limits, Manifest, Notify, Place, Sifted
from batcher.manifest import document, environment, files, flow_entries, include, sound, values
from batcher.manifest.findings import Findings, Unfit
from batcher.manifest.flows import Expansion, Plan
from batcher.manifest.sieve import Sieve


def load(path: str | os.PathLike[str], env: Mapping[str, str], *, endpoint: str | None = None) -> Manifest:
    """Reads and checks the manifest at `path`. `env` answers `${NAME}`; `endpoint` overrides the manifest's.

    Raises ManifestError with every problem that the text shows; those that only an expansion shows (a pattern that
    matches nothing, an unknown column) stand in the streams `flows()` and `inputs()`.
    """
    name = os.fspath(path)
    findings = Findings(name)
    try:
        text = files.text_of(files.read_bytes(name), findings)
    except Unfit as unfit:
        raise ManifestError([unfit.at(Place(name))]) from unfit
    if text is None:
        raise findings.error()
    absolute = os.path.abspath(name)
    folder = os.path.dirname(absolute)
    with _no_collection():
        settings, plans = _read(text, env, folder, findings, name)
    batch = _batch(settings, absolute, findings)
    address = _endpoint(settings, endpoint, findings)
    if settings is None or findings:
        raise findings.error()
    limits, notify = settings.limits or Limits(), settings.notify or Notify()
    metrics = os.path.join(folder, settings.metrics) if settings.metrics else None
    flows, notes = _sifted(plans, None)
    sifted = partial(_sifted, plans)
    return Manifest(name, absolute, folder, batch, address, limits, flows, notify, metrics, notes=notes, sifted=sifted,
                    digest=findings.digest.hexdigest())  # fmt: skip


def _sifted(plans: list[Plan], journal: CollectedView | None, go_on: Callable[[], None] = lambda: None) -> Sifted:
    """The manifest's flows and notes, whose patterns leave out the results that the journal knows of."""
    expansion = Expansion(plans, Sieve(journal, go_on))
    return expansion.flows, expansion.notes


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


def _read(
    text: str, env: Mapping[str, str], folder: str, findings: Findings, name: str
) -> tuple[sound.BatchSettings | None, list[Plan]]:
    """The settings and the plans in the text and in what it includes. Raises ManifestError where nothing can be read."""
    resolve = partial(_resolve, env=env, findings=findings)
    tree = sound.mapping(document.read(text, resolve, findings), findings)
    if tree is None:
        raise findings.error()
    settings = sound.check(tree, findings)
    return settings, flow_entries.plans(include.collect(tree, name, folder, resolve, findings), findings)


def _resolve(text: str, env: Mapping[str, str], findings: Findings) -> str:
    resolved = environment.resolve(text, env)
    if resolved != text:
        findings.digest.update(resolved.encode(errors="surrogateescape") + b"\0")
    return resolved


def _batch(settings: sound.BatchSettings | None, path: str, findings: Findings) -> str:
    if settings is None:
        return ""
    if settings.batch is not None:
        return settings.batch
    try:
        return values.check_batch(os.path.splitext(os.path.basename(path))[0])
    except ValueError as error:
        findings.add(None, f"the file's name gives no name to the batch: {error}", "add `batch:`")
        return ""


def _endpoint(settings: sound.BatchSettings | None, override: str | None, findings: Findings) -> str:
    if override is None:
        return (settings and settings.endpoint) or DEFAULT_ENDPOINT
    try:
        return values.parse_endpoint(override)
    except ValueError as error:
        findings.add(None, str(error), "correct the endpoint that overrides the manifest's")
        return ""
