"""The plan is the same whoever looks at the files: the planner itself, or a process that is asked ahead."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batcher import load_manifest
from batcher.core.facts import FlowFacts, PutFlow
from batcher.core.lifecycle import FlowState
from batcher.core.model import Problem
from batcher.core.planning import Action, Options
from batcher.journal.memory import MemoryJournal
from batcher.pipeline import planner as planner_module
from batcher.pipeline.ahead import STEP
from batcher.pipeline.planner import Planner
from batcher.sources.dispatch import AllSources
from batcher.sources.encoder import Encoder

PNG = b"\x89PNG\r\n\x1a\n"
FILES = 3 * STEP + 17
GONE, EMPTY = "0003.png", "1400.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files enough for several steps; flows of one, of a few, and of all of them."""
    (tmp_path / "in").mkdir()
    for number in range(FILES):
        (tmp_path / "in" / f"{number:04}.png").write_bytes(PNG + bytes(number))
    names = "\n".join(f"in/{number:04}.png" for number in range(FILES))
    (tmp_path / "all.csv").write_text(f"file\n{names}\n")
    (tmp_path / "m.yaml").write_text("""
version: 1
defaults: {template: model_generate_fromimage}
flows:
- {each: {glob: "in/*.png"}, name: "one {stem}", inputs: ["{path}"]}
- {name: few, inputs: [in/0001.png, in/0002.png, in/none.png]}
- {name: all, inputs: [{table: all.csv, file: "{file}"}]}
- {name: last, inputs: [in/0000.png]}
""")
    return tmp_path


def plans(folder: Path, sources: AllSources) -> Iterator[object]:
    """What is planned, twice: in the check, and, where it is too much to keep, in the work."""
    manifest = load_manifest(folder / "m.yaml", env={})
    journal = MemoryJournal()
    journal.post(PutFlow(FlowFacts("one 0005", FlowState.STARTED, "id", stat_digest=b"other")))
    options = Options(keep_going=True)
    planner = Planner(manifest, journal, sources, options, lambda: {"model_generate_fromimage": ("image/png",)})
    for walk in (planner.flows(), planner.work()):
        for plan in walk:
            assert not isinstance(plan, Problem)
            yield plan.flow.name, plan.action, plan.stat_digest, plan.tally, plan.problems
            if plan.action is Action.NEW:
                yield [(one.key, one.stat, one.mime) for one in plan.inputs() if not isinstance(one, Problem)]


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_module, "KEEP", 0)


def test_plan_is_the_same_whoever_looks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "in" / EMPTY).write_bytes(b"")
    (folder / "in" / GONE).unlink()
    (folder / "in" / GONE).symlink_to(folder / "nowhere")
    with contextlib.closing(AllSources(0.0, time.time)) as alone:
        alone._encoder_tried = True  # it is never begun
        expected = list(plans(folder, alone))
    asked = 0
    looks = Encoder.looks

    def counted(self: Encoder, those: list[tuple[str, bool]]) -> Callable[[], object]:
        nonlocal asked
        asked += len(those)
        return looks(self, those)

    monkeypatch.setattr(Encoder, "looks", counted)
    with contextlib.closing(AllSources(0.0, time.time)) as helped:
        wait_for(helped)
        found = list(plans(folder, helped))
    assert asked > 2 * FILES
    assert found == expected
    blocked = [plan[0] for plan in expected if isinstance(plan, tuple) and plan[1] is Action.BLOCKED]
    assert blocked == ["one 0003", "one 1400", "few", "all"] * 2


def test_process_that_dies_changes_nothing_of_the_plan(folder: Path) -> None:
    with contextlib.closing(AllSources(0.0, time.time)) as alone:
        alone._encoder_tried = True
        expected = list(plans(folder, alone))
    with contextlib.closing(AllSources(0.0, time.time)) as helped:
        encoder = wait_for(helped)
        walk = plans(folder, helped)
        found = [next(walk) for _ in range(STEP + 3)]
        os.kill(encoder.pid, 9)
        assert found + list(walk) == expected


def wait_for(sources: AllSources) -> Encoder:
    """Its process, up and running."""
    deadline = time.monotonic() + 20
    while (encoder := sources.files._ready_encoder(pays=True)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return encoder


def test_large_flow_is_looked_at_once_before_its_inputs_are_sent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its inputs are too many to keep: they are looked at again one by one when they are sent, the flow as a whole is not."""
    monkeypatch.setattr(planner_module, "KEEP", STEP)
    (folder / "large.yaml").write_text("""
version: 1
defaults: {template: model_generate_fromimage}
flows:
- {name: all, inputs: [{table: all.csv, file: "{file}"}]}
- {name: last, inputs: [in/0000.png]}
""")
    manifest = load_manifest(folder / "large.yaml", env={})
    looked: list[str] = []
    with contextlib.closing(AllSources(0.0, time.time)) as sources:
        look = sources.look
        monkeypatch.setattr(sources, "look", lambda item, seen=None: looked.append(item.label) or look(item, seen))
        planner = Planner(manifest, MemoryJournal(), sources, Options(), lambda: {"model_generate_fromimage": ("image/png",)})
        checked = list(planner.flows())
        assert len(looked) == FILES + 1
        worked = list(planner.work())
        assert len(looked) == FILES + 1
        assert all(was is now for was, now in zip(checked, worked, strict=True))
        assert [len(list(plan.inputs())) for plan in worked if not isinstance(plan, Problem)] == [FILES, 1]
        assert len(looked) == 2 * FILES + 1, "of the small one, they are kept, too"
