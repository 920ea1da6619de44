"""Whether another journal knows a manifest's files as sent, while its own knows nothing: then it would be paid for again.

In: a manifest, where journals lie. Out: a Problem that keeps a run from beginning, or a note. Synchronous, for a thread of its
own; called by the public API before anything is written.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from pathlib import Path

from .core.model import Manifest, Problem
from .journal.open import State, other_journals, read_sibling
from .journal.siblings import Sibling
from .pipeline.renamed import SentBefore, sent_before
from .sources.dispatch import AllSources


def known_elsewhere(manifest: Manifest, state: State | None) -> Problem | None:
    """The first problem of another journal, else a note of one; None: there is neither. A note where that is the journal of
    another batch in the same folder, which this one may well be a copy of."""
    note = None
    for other in other_journals(manifest, state):
        same = other.is_manifest(manifest.path)
        of_its_own = not other.gone and other.batch != manifest.batch and not same
        if of_its_own and (note is not None or not isinstance(other.path, Path)):
            continue  # a database may have hundreds
        with closing(read_sibling(other)) as journal, closing(AllSources(0.0, time.time)) as sources:
            flow = sent_before(manifest, journal, sources, paid_for=of_its_own)
            paid = journal.count_starts() > 0
        if flow is None:
            continue
        if not of_its_own:
            return _problem(manifest, other, flow, same=same, paid=paid or flow.maybe_paid)
        note = _note(manifest, other, flow)
    return note


def _note(manifest: Manifest, other: Sibling, flow: SentBefore) -> Problem:
    message = f"the batch “{other.batch}” of {_name(other)} has paid for the flow “{flow.name}”, from the same files"
    return Problem("note", message, f"the batch “{manifest.batch}” is another one, and pays for its own flows")


def _problem(manifest: Manifest, other: Sibling, flow: SentBefore, *, same: bool, paid: bool) -> Problem:
    """`same`: both are one file; `paid`: something of the other journal is paid for."""
    was = _name(other)
    knows = f"its journal knows the flow “{flow.name}” as {'started' if flow.maybe_paid else 'begun'}, from the same files"
    if same:
        message, hint = f"this manifest is {was}, under another name", f"run {was}"
    elif not other.gone:
        message, hint = f"the batch “{manifest.batch}” is that of {was}", "give this one another `batch`"
    else:
        message, hint = f"this manifest was {was}, which is gone", f"name it {was} again"
        if other.here and (other.self_described or manifest.batch == Path(manifest.path).stem):
            batch = json.dumps(other.batch, ensure_ascii=False)
            hint = f"write `batch: {batch}` into it to go on with that journal, or {hint}"
    anew = "pay for all of it again" if paid else "begin all of it anew"
    return Problem("unsettled", f"{message}: {knows}", f"{hint}; to {anew}, {other.put_away}")


def _name(other: Sibling) -> str:
    return os.path.basename(other.manifest) if other.here else other.manifest
