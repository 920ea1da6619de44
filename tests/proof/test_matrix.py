"""Every call with every fault, twice: the run or the collecting that meets it, and the one after it. The service's record
is the judge, and for collectings the folder, too.

The cells are generated, so that none can be forgotten: the product of scenes and rows in `cells`, less what `why_not`
names with a reason; and what the clients really saw in them must cover the verdicts' table and every kind of fault. An eighth
of them is played by default, every row and every scene among them; all with `-m long`, as CI does.
"""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from batcher.core.retry import BY_CALL, STATUS, Call, FaultKind

from .cells import CELLS, NEVER_SEEN, ROWS, SCENES, Outcome, key_of, must_be_seen, play, why_not

pytestmark = pytest.mark.timeout(600)  # the first test waits for all cells

PROCESSES = 2
MEMORY = Path("/dev/shm")  # durability is proved elsewhere; here, hundreds of databases would wait for one disk
MEMORY_BYTES = 500 << 20
PART = 8


def _part() -> list[str]:
    """Every eighth cell, and one of each scene and row that has none among them."""
    chosen = {name for number, name in enumerate(CELLS) if number % PART == 0}
    for name, (scene, row) in CELLS.items():
        if not any(CELLS[other][0] is scene for other in chosen) or not any(CELLS[other][1] is row for other in chosen):
            chosen.add(name)
    return [name for name in CELLS if name in chosen]


SOME = _part()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES:
        with tempfile.TemporaryDirectory(dir=MEMORY) as made:
            yield Path(made)
    else:
        yield tmp_path_factory.mktemp("matrix")


def _play(names: list[str], folder: Path) -> dict[str, Outcome]:
    """These cells by name, and the scenes without a fault by theirs."""
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        parts = [pool.submit(play, names[number::PROCESSES], str(folder)) for number in range(PROCESSES)]
        return {outcome.cell: outcome for part in parts for outcome in part.result()}


@pytest.fixture(scope="module")
def some(folder: Path) -> dict[str, Outcome]:
    return _play(SOME, folder)


@pytest.fixture(scope="module")
def played(folder: Path) -> dict[str, Outcome]:
    return _play(list(CELLS), folder)


def _judge(outcome: Outcome) -> None:
    assert not outcome.missed, outcome
    assert not outcome.wrong, outcome


@pytest.mark.parametrize("name", SOME)
def test_cell_of_a_part(some: dict[str, Outcome], name: str) -> None:
    _judge(some[name])


@pytest.mark.long
@pytest.mark.parametrize("name", list(CELLS))
def test_cell(played: dict[str, Outcome], name: str) -> None:
    _judge(played[name])


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_scene_without_a_fault_is_complete(some: dict[str, Outcome], scene: object) -> None:
    outcome = some[scene.name]  # type: ignore[attr-defined]
    assert (outcome.codes, outcome.missed, outcome.wrong) == ([0], [], []), outcome


def test_the_part_has_every_scene_and_every_row() -> None:
    assert {CELLS[name][0].name for name in SOME} == {scene.name for scene, _ in CELLS.values()}
    assert {CELLS[name][1].name for name in SOME} == {row.name for _, row in CELLS.values()}


def test_no_cell_is_forgotten() -> None:
    assert {scene.call for scene in SCENES} == set(Call)
    statuses = {row.status for row in ROWS if row.status and not row.late_s}
    assert statuses >= set(STATUS) | {status for _, status in BY_CALL}
    left_out = {key_of(s, r): why for s in SCENES for r in ROWS if (why := why_not(s, r))}
    assert set(CELLS) | set(left_out) == {key_of(s, r) for s in SCENES for r in ROWS}
    assert not set(CELLS) & set(left_out)
    for call in Call:  # every call meets a row of each kind of fault: only its own body, or a commit, may be missing
        rows = {row.name for scene, row in CELLS.values() if scene.call is call}
        missing = {row.name for row in ROWS} - rows
        assert all("body" in name or "commit" in name for name in missing), (call, missing)


@pytest.mark.long
def test_what_the_clients_saw_covers_the_table_and_every_kind_of_fault(played: dict[str, Outcome]) -> None:
    seen = set().union(*(outcome.seen for outcome in played.values()))
    missing = must_be_seen() - seen
    assert not missing, missing
    after_all = seen & set(NEVER_SEEN)
    assert not after_all, f"seen after all, to be taken off the list: {after_all}"
    assert {kind for _, kind in NEVER_SEEN} == {FaultKind.NOT_SENT, FaultKind.NO_WAY, FaultKind.NO_LIST}


@pytest.mark.long
def test_sums_of_the_matrix(played: dict[str, Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    """Prints what docs/guarantees.md says of it. A run that meets one fault sends little more than one that meets none."""
    cells = [played[name] for name in CELLS]
    ratios = [outcome.sent / outcome.needed for outcome in cells]
    wrong = sum(len(outcome.wrong) for outcome in cells)
    codes = {code: sum(outcome.codes[0] == code for outcome in cells) for code in sorted({o.codes[0] for o in cells})}
    with capsys.disabled():
        print(
            f"\nmatrix: {len(cells)} cells ({len(SCENES)} scenes of {len(Call)} calls × {len(ROWS)} rows), "
            f"{2 * len(cells)} runs and collectings; wrong, missing, foreign, repeated or twice started: {wrong}; exit codes "
            f"of the first {codes}, of the second {sorted({outcome.codes[-1] for outcome in cells})}; requests sent / needed: "
            f"mean {sum(ratios) / len(ratios):.2f}, most {max(ratios):.2f}",
            file=sys.stderr,
        )
    assert wrong == 0
    assert sum(ratios) / len(ratios) <= 1.5, "both runs of a cell together send half as much again as needed, at most"
