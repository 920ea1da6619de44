"""The proof by kills: the command dies at its N-th boundary, for every N, and the next run completes the batch.

As SQLite, etcd and kopia do it: fail at the N-th operation, go on, judge. The judge is the service's own record: no
input lost, twice or foreign, no flow started early or twice, nothing left behind. A bounded part runs by default, all of
it with `-m long`; `PROOF_SEED` repeats a part.
"""

from __future__ import annotations

import itertools
import queue
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from batcher.host.failpoint import POINTS

from .harness import Nursery, Service, Tally
from .scene import STORIES, Scene, Sources

WORKERS: Final = 2
SCENES: Final = 50  # for one service; then a new one, whose record is short again
# What one uninterrupted run of the scene reaches at least. Whoever makes the program pass fewer boundaries says so here;
# the commits vary with what gathers for one of them: the least are those that wait for each other.
LEAST: Final = {
    "in migration": 22,
    "in recovery": 1,
    "before request": 47,
    "between chunks": 5,
    "leaving": 47,
    "after reply": 47,
    "before commit": 12,
    "after commit": 12,
    "before sync": 10,
    "after sent marks": 12,
}
Say = Callable[[str], None]
pytestmark = pytest.mark.timeout(240)  # seconds, on a machine that is busy with other things; alone it takes a tenth


@dataclass(frozen=True)
class Order:
    """Die at boundary `die` (of the kind `at`, if one is named), and so on in the runs that resume: `then`."""

    die: int
    form: str
    at: str | None = None
    then: tuple[int, ...] = ()
    story: str = "first"


@dataclass
class Sweep:
    """What came of the orders."""

    scenes: int = 0
    kills: int = 0
    outlived: int = 0  # orders beyond the last boundary
    at: Counter[str] = field(default_factory=Counter)  # where they died
    tally: Tally = field(default_factory=Tally)
    wrong: list[str] = field(default_factory=list)

    def add(self, order: Order, died: list[str], tally: Tally) -> None:
        self.scenes += 1
        self.kills += len(died)
        self.outlived += 1 + len(order.then) - len(died)
        self.at.update(died)
        self.tally += tally
        if tally.wrong:
            self.wrong.append(f"{order}, died {died}: {tally}")

    def __str__(self) -> str:
        points = ", ".join(f"{self.at[point]} {point}" for point in POINTS)
        return f"{self.kills} kills in {self.scenes} batches ({points}): {self.tally}"


def _live_through(scene: Scene, order: Order) -> list[str]:
    """Where it died; afterwards the batch is complete."""
    story = STORIES[order.story]
    story.before(scene, random.Random(f"{order}"))
    died = [scene.run(*story.dies, die=order.die, form=order.form, at=order.at).died]
    died += [scene.run(*story.again, die=die, form=order.form).died for die in order.then]
    scene.complete(*story.again)
    scene.complete()
    return [point for point in died if point is not None]


def _work(
    folder: Path, orders: queue.SimpleQueue[tuple[int, Order]], sources: Sources, sweep: Sweep, lock: threading.Lock
) -> None:
    with Nursery() as nursery:
        for turn in itertools.count():
            if orders.empty():
                return
            with Service(folder / f"store-{turn}") as service:
                for _ in range(SCENES):
                    try:
                        number, order = orders.get_nowait()
                    except queue.Empty:
                        return
                    prepared = STORIES[order.story].prepared
                    scene = Scene(folder / f"scene-{number}", f"b{number}", service, nursery, sources, prepared)
                    try:
                        died = _live_through(scene, order)
                        with lock:
                            sweep.add(order, died, scene.judge())
                    except Exception as error:  # the others go on: one finding must not hide the rest
                        sweep.wrong.append(f"{order}: {type(error).__name__}: {error}")
                    shutil.rmtree(scene.folder)
            shutil.rmtree(folder / f"store-{turn}")


def run_sweep(folder: Path, sources: Sources, orders: Iterable[Order]) -> Sweep:
    waiting: queue.SimpleQueue[tuple[int, Order]] = queue.SimpleQueue()
    for entry in enumerate(orders):
        waiting.put(entry)
    sweep, lock = Sweep(), threading.Lock()
    threads = [
        threading.Thread(target=_work, args=(folder / f"worker-{n}", waiting, sources, sweep, lock)) for n in range(WORKERS)
    ]
    for n, thread in enumerate(threads):
        (folder / f"worker-{n}").mkdir()
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:  # also when it is interrupted: then the threads end after the scene they are at
        while not waiting.empty():
            waiting.get()
    return sweep


def _uninterrupted(folder: Path, sources: Sources, times: int) -> Iterator[Counter[str]]:
    """The counts of runs that nothing stops; judged, too."""
    with Service(folder / "store-0") as service, Nursery() as nursery:
        for number in range(times):
            scene = Scene(folder / f"scene-{number}", f"whole-{number}", service, nursery, sources)
            life = scene.run()
            assert life.code == 0, life.log
            tally = scene.judge()
            assert (tally.wrong, tally.started) == (0, 7), tally
            yield life.counts


def _second_deaths(rng: random.Random, boundaries: int, count: int) -> list[Order]:
    """A death with requests on their way, one at the first boundaries of the next run (its recovery) or anywhere in it,
    and sometimes one more."""
    orders = []
    for number in range(count):
        second = number % 6 + 1 if number % 2 else rng.randint(1, boundaries)
        then = (second, rng.randint(1, boundaries))[: 1 + (number % 3 == 0)]
        at = rng.choice(("leaving", "after reply", "between chunks"))
        first = rng.randint(1, LEAST[at])
        orders.append(Order(first, rng.choice(("exit", "kill")), at, then))
    return orders


@pytest.fixture
def sources(tmp_path: Path, seed: int) -> Sources:
    return Sources(tmp_path / "sources", random.Random(seed))


def test_uninterrupted_run_reaches_every_kind_of_boundary_as_often_as_before(
    tmp_path: Path, sources: Sources, say: Say
) -> None:
    assert set(LEAST) == set(POINTS), "LEAST must name the kinds of boundary.POINTS"
    least = Counter(LEAST)
    for counts in _uninterrupted(tmp_path, sources, 2):
        say(f"boundaries of an uninterrupted run: {counts.total()} ({', '.join(f'{counts[p]} {p}' for p in POINTS)})")
        assert not least - counts, f"reached less often than LEAST says: {least - counts}"


def test_run_that_dies_with_requests_on_their_way_is_recovered_row_by_row(tmp_path: Path, sources: Sources) -> None:
    with Service(tmp_path / "store") as service, Nursery() as nursery:
        scene = Scene(tmp_path / "scene", "recovered", service, nursery, sources)
        assert scene.run(die=20, form="kill", at="leaving").died == "leaving"
        life = scene.run()
        assert life.counts["in recovery"] > 1, "no row was on its way"
        scene.complete()
        tally = scene.judge()
        assert (tally.wrong, tally.started) == (0, 7), tally


def test_death_at_some_boundaries_is_repaired_by_the_next_run(tmp_path: Path, sources: Sources, seed: int, say: Say) -> None:
    rng = random.Random(seed)
    boundaries = sum(LEAST.values())
    step = boundaries // 10
    forms = itertools.cycle(("exit", "kill"))
    orders = [Order(die, next(forms)) for die in range(rng.randint(1, step), boundaries, step)]
    orders += [Order(rng.randint(1, 90), next(forms), story=story) for story in STORIES if story != "first"]
    sweep = run_sweep(tmp_path, sources, orders + _second_deaths(rng, 60, 4))
    say(f"part of the sweep: {sweep}")
    assert not sweep.wrong, "\n".join(sweep.wrong)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_death_at_every_boundary_is_repaired_by_the_next_run(tmp_path: Path, sources: Sources, seed: int, say: Say) -> None:
    (tmp_path / "whole").mkdir()
    last = max(counts.total() for counts in _uninterrupted(tmp_path / "whole", sources, 5))
    orders = [Order(die, form) for die in range(1, last + 1) for form in ("exit", "kill")]
    sweep = run_sweep(tmp_path, sources, orders + _second_deaths(random.Random(seed), last, 150))
    say(f"sweep of {last} boundaries, both forms, and deaths of the runs that resume: {sweep}")
    assert not sweep.wrong, "\n".join(sweep.wrong)
    assert sweep.kills >= 500
    assert all(sweep.at[point] for point in POINTS), sweep.at


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("story", [story for story in STORIES if story != "first"])
def test_death_at_every_boundary_of_other_commands_is_repaired(
    tmp_path: Path, sources: Sources, seed: int, say: Say, story: str
) -> None:
    forms = itertools.cycle(("exit", "kill"))
    last = _last_of(tmp_path / "whole", sources, story, random.Random(seed))
    sweep = run_sweep(tmp_path, sources, [Order(die, next(forms), story=story) for die in range(1, last + 1)])
    say(f"sweep of {last} boundaries of {' '.join(STORIES[story].dies)} ({story}): {sweep}")
    assert not sweep.wrong, "\n".join(sweep.wrong)
    assert sweep.kills >= last / 2  # what comes before differs, and with it how much there is to do


def _last_of(folder: Path, sources: Sources, story: str, rng: random.Random) -> int:
    """The boundaries of the story's command when nothing stops it."""
    folder.mkdir()
    with Service(folder / "store") as service, Nursery() as nursery:
        scene = Scene(folder / "scene", f"whole-{story}", service, nursery, sources, STORIES[story].prepared)
        STORIES[story].before(scene, rng)
        return scene.run(*STORIES[story].dies).counts.total()
