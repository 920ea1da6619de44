"""`batcher gallery`: in: a manifest, its journal, the folder of collected outputs; out: a page there. No network, no lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...core.aborting import Phase, phase
from ...core.errors import BatcherError, UsageError
from ...core.model import Manifest
from ...core.text import size
from ...journal.open import State, read_journal
from .. import flags, output, setup
from ..flow_status import FlowStatus, StatusLine, lines
from ..readable import count

if TYPE_CHECKING:
    from ...gallery.cards import CardState
    from ...gallery.making import Made



@flags.command("gallery", "a page of inputs and the models that came of them",
               idle=(*flags.NO_NETWORK, *flags.NO_EVENTS, *flags.NO_PROGRESS))  # fmt: skip
@click.option("--to", type=flags.WHERE, metavar="DIR", help="where collect brought the outputs")
@click.option("--copy-inputs", is_flag=True, help="lay copies of the inputs beside the page, so that DIR can be sent whole")
@click.option("--served", is_flag=True, help="for a web server only: without the models as scripts, a third of DIR's size less")
def command(given: flags.CommonFlags, to: Path | str | None, copy_inputs: bool, served: bool) -> None:
    """Write DIR/gallery.html: each input of MANIFEST and, next to it, the model that came of it, to be turned with the mouse.

    It is opened as a file, without a network, or from a web server. Accept and reject marks are kept by the browser, and
    exported as a list for `run --redo-from`. Run it again after each collect, or let `collect --gallery` do it.
    """
    if to is None:
        flags.missing_folder(given, "gallery", "where collect brought the outputs")
    try:
        if isinstance(to, str):
            raise UsageError("a gallery is written into a folder, not into an object store", "collect into a folder")
        manifest = setup.load(given)
        made = write(manifest, given.state, to, served=served, copy_inputs=copy_inputs)
    except BatcherError as error:
        output.exit_for(error, given.manifest, given.as_json)
    if given.as_json:
        about = {"manifest": manifest.name, "endpoint": manifest.endpoint, "exit_code": 0}
        output.out(output.document(about | made.json()))
    elif not given.quiet:
        output.out(told(made))


def write(manifest: Manifest, state: State | None, to: Path, *, served: bool = False, copy_inputs: bool = False) -> Made:
    """Make the gallery from the journal and the folder. Raises UsageError, JournalError."""
    from ...gallery.making import GalleryOptions, make  # only now

    journal = read_journal(manifest, state)
    if journal is None:
        raise UsageError("nothing was run yet, so there is nothing to see", f"begin with: batcher run {manifest.name}")
    with closing(journal):
        def card_states(wanted: Callable[[str], bool]) -> Mapping[str, CardState]:
            return {line.facts.name: _card_state(line) for line in lines(journal) if wanted(line.facts.name)}

        return make(manifest.knowing(journal), card_states, to, GalleryOptions(served, copy_inputs), time.time())


def _card_state(line: StatusLine) -> CardState:
    from ...gallery.cards import CardState, State

    said = line.problem.message if line.problem is not None else ""
    flow_id = line.facts.flow_id or ""
    if line.end is not None and line.status in (FlowStatus.FAILED, FlowStatus.ABORTED):
        state = State.ABORTED if phase(line.end.state) is Phase.ABORTED else State.FAILED
        return CardState(state, flow_id, line.end.reason)
    match line.status:
        case FlowStatus.PROBLEM if not line.started:
            return CardState(State.PROBLEM, flow_id, said)
        case FlowStatus.COMPLETED if not line.collected:
            return CardState(State.MISSING, flow_id, "it is completed, and not collected yet")
        case _ if line.started:
            return CardState(State.RUNNING, flow_id)
        case _:
            return CardState(State.PENDING, flow_id)


def told(made: Made) -> str:
    """What came of it, for people: a line."""
    parts = [f"{count(number)} {state.word}" for state, number in made.sums.states.items() if number] or ["nothing yet"]
    parts += [f"{count(made.sums.left_out)} left out"] if made.sums.left_out else []
    wrote = f"{size(made.page_bytes)}, and {size(made.bytes)} beside it"
    return f"{made.path}: {', '.join(parts)}; {wrote}".replace("\u202f", " ")
