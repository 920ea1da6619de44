"""The batch that the sweep kills: small, and with everything that takes another way through the program.

In: a folder of sources, made once. Out: a `Scene` for each death: a folder, a manifest, a batch name and a given flow of
its own; `Scene.complete` runs the command until it is done, as its user would; the judge. `STORIES` are what a scene goes
through: a first run, a change before the start, a lost journal, and so on. Called by the sweep.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .harness import PNG, Asset, Judge, Life, Nursery, Service, Tally, asset

RUNS: Final = 6  # of the command, until it must be done
# The first list of this flow's inputs shows a foreign one, so that it is given up, deleted and built anew.
FAULT: Final = "inputs:flow=rebuilt,nth=1,corrupt_list=foreign"
MANIFEST: Final = """\
version: 1
batch: %(batch)s
limits: {concurrency: 3, settle: 1s, timeout: 10s, retries: 4}
defaults: {template: model_generate_fromimage, additional: {campaign: autumn}}
flows:
- name: photos
  inputs: [a.png, {file: b.png, additional: {sku: B}}, big.png]
- name: untagged
  inputs: [{file: a.png, additional: words}, {file: b.png, additional: [1, null]}, {file: a.png, additional: words}]
- name: prompts
  template: model_generate_fromprompt
  inputs: [{text: A modern office chair}, {file: p.txt, additional: {n: 1}}]
- name: rebuilt
  inputs: [a.png, c.png]
- each: {glob: "inbox/*.png"}
  name: "each {stem}"
  inputs: ["{path}"]
"""
PREPARED: Final = """\
- name: prepared
  flow_id: ${FLOW_ID}
  inputs: [c.png, b.png]
"""


class Sources:
    """The files, made once and linked into each scene: their contents are those of all deaths of a sweep."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder = folder
        (folder / "inbox").mkdir(parents=True)
        self.files = {f"{name}.png": PNG + rng.randbytes(700) for name in ("a", "b", "c", "inbox/1", "inbox/2")}
        self.files["big.png"] = PNG + rng.randbytes(1_500_000)  # four chunks
        self.files["p.txt"] = b"A stool\n"
        for name, content in self.files.items():
            (folder / name).write_bytes(content)

    def link(self, folder: Path) -> None:
        (folder / "inbox").mkdir(parents=True)
        for name in self.files:
            os.link(self.folder / name, folder / name)


def meant(files: Mapping[str, bytes]) -> dict[str, Counter[Asset]]:
    """What each flow must hold, with the files' contents as they are given."""
    a, b, c = (files[f"{name}.png"] for name in "abc")
    return {
        "photos": Counter([asset(a), asset(b, {"sku": "B"}), asset(files["big.png"])]),
        "untagged": Counter([asset(a, "words"), asset(a, "words"), asset(b, [1, None])]),
        "prompts": Counter([asset(b"A modern office chair"), asset(files["p.txt"], {"n": 1})]),
        "rebuilt": Counter([asset(a), asset(c)]),
        "each 1": Counter([asset(files["inbox/1.png"])]),
        "each 2": Counter([asset(files["inbox/2.png"])]),
        "prepared": Counter([asset(c), asset(b)]),
    }


@dataclass
class Scene:
    """One batch on its way. The service forgets nothing of the scenes before, so each has a name of its own."""

    folder: Path
    batch: str
    service: Service
    nursery: Nursery
    sources: Sources
    prepared: bool = True  # with a flow that is given by its id
    starts: dict[str, tuple[int, int]] = field(default_factory=dict)  # as in Judge

    def __post_init__(self) -> None:
        self.sources.link(self.folder)
        text = MANIFEST % {"batch": self.batch} + (PREPARED if self.prepared else "")
        (self.folder / "m.yaml").write_text(text)
        self.service.order(FAULT)
        self.external = [self.service.create()]
        self.files = dict(self.sources.files)
        self.meant = {name: [state] for name, state in meant(self.files).items() if self.prepared or name != "prepared"}

    def run(self, *words: str, die: int = 0, form: str = "exit", at: str | None = None) -> Life:
        command = (*(words or ("run",)), "m.yaml", "--endpoint", self.service.url)
        life = self.nursery.run(self.folder, *command, die=die, form=form, at=at, env={"FLOW_ID": self.external[-1]})
        assert life.killed or life.code in (0, 12), f"exit code {life.code}: {life.log}"
        assert "Traceback" not in life.log, life.log
        return life

    def complete(self, *words: str) -> None:
        """Run it again until it is done, and do what its messages ask for: a flow that was given by its id, and whose
        upload was killed on its way, can neither be trusted nor deleted by us (12), so a new one is made and named."""
        for _ in range(RUNS):
            life = self.run(*words)
            if life.code == 0:
                return
            if "on the service yourself" in life.log:  # its start was killed on its way, and may yet be done
                self.service.start(self.external[-1])
                continue
            assert "make a new flow" in life.log, life.log
            self.external.append(self.service.create())
        raise AssertionError(f"not done after {RUNS} runs: {life.log}")

    def change(self, *names: str, started: bool = False) -> None:
        """Give the files another content. Flows that were `started` stay as they are, and may be started once more."""
        for name in names:
            self.files[name] = PNG + os.urandom(len(self.files[name]) - len(PNG))
            (self.folder / name).unlink()  # the other scenes keep theirs
            (self.folder / name).write_bytes(self.files[name])
        for name, state in meant(self.files).items():
            if name in self.meant and state != self.meant[name][-1]:
                self.meant[name] = [*self.meant[name], state] if started else [state]

    def lose_journal(self) -> None:
        time.sleep(0.2)  # what was killed on its way is committed, or lost
        for path in (self.folder / ".batcher").iterdir():
            path.unlink()

    def judge(self) -> Tally:
        given = {"prepared": self.external} if self.prepared else {}
        return Judge(self.batch, self.meant, given, self.starts)(self.service.record())


@dataclass(frozen=True)
class Story:
    """What comes before the command that dies; its words; those that are said until they succeed; and then `run`."""

    before: Callable[[Scene, random.Random], None]
    dies: tuple[str, ...] = ("run",)
    again: tuple[str, ...] = ("run",)
    prepared: bool = True


def _nothing(scene: Scene, rng: random.Random) -> None:
    pass


def _changed(scene: Scene, rng: random.Random) -> None:
    scene.complete("run", "--no-start")
    scene.change("c.png", "inbox/1.png")


def _adopt(scene: Scene, rng: random.Random) -> None:
    scene.run(die=rng.randint(30, 230))
    scene.lose_journal()


def _clean(scene: Scene, rng: random.Random) -> None:
    scene.complete("run", "--no-start")


def _resubmit(scene: Scene, rng: random.Random) -> None:
    scene.complete()
    scene.change("b.png", "inbox/1.png", started=True)
    scene.starts |= dict.fromkeys(("photos", "untagged", "each 1"), (2, 2))


def _redo(scene: Scene, rng: random.Random) -> None:
    scene.complete()
    # At most once more. None at all where it died before the wish was durable: the plain run after it asks for nothing.
    scene.starts |= dict.fromkeys(("photos", "each 1", "each 2"), (1, 2))


STORIES: Final = {
    "first": Story(_nothing),
    "changed": Story(_changed),
    "adopt": Story(_adopt, ("run", "--adopt"), ("run", "--adopt"), prepared=False),
    "clean": Story(_clean, ("clean", "--yes"), ("clean", "--yes")),
    "resubmit": Story(_resubmit, ("run", "--resubmit-changed"), ("run", "--resubmit-changed")),
    "redo": Story(_redo, ("run", "--redo", "photos", "--redo", "each *")),
}
