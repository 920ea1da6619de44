"""The command with a death ordered at one of its boundaries: `python tests/proof/mortal.py --die 17 run m.yaml`.

In: an order (which boundary, in which form, where to note it) and the words of the command. Out: the command's own exit
code, or its death: status 86 by `os._exit`, or SIGKILL. What has been reached is noted in a file, by point.
Called by people who look into one death, and by the proofs as `mortal.py nursery`: one order a line on stdin, one
answer a line on stdout. There each command is forked from a process that has imported everything, which spares the
0.5 s of imports and nothing else: it is a process of its own, with its own threads and descriptors, and really dies.
An order with `fresh` is executed anew all the same, without a hook; one with `after` is killed so many seconds later.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from typing import Final, NoReturn

from batcher.cli import main
from batcher.host import failpoint as boundary

DIED: Final = 86  # the status of a process that ended itself with os._exit
ALARM_S: Final = 45  # a command that has not ended by then hangs, and is ended


class Death:
    """A `boundary.hook` for any thread. Dies at the `die`-th boundary (0: never), or the `die`-th of the kind `at`."""

    def __init__(self, die: int = 0, form: str = "exit", at: str | None = None, note: str | None = None) -> None:
        self._die = die
        self._form = form
        self._at = at
        self._note = note
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    def __call__(self, point: str) -> None:
        assert point in boundary.POINTS, f"{point!r} is not among the POINTS"
        with self._lock:  # held while it dies, so that no thread gets past a boundary meanwhile
            self.counts[point] += 1
            reached = self.counts.total() if self._at is None else self.counts[self._at]
            if reached == self._die and self._at in (None, point):
                self.note(point)
                self._end()

    def _end(self) -> NoReturn:
        if self._form == "exit":
            os._exit(DIED)
        os.kill(os.getpid(), signal.SIGKILL)
        while True:  # the kernel may take a moment
            time.sleep(1)

    def note(self, died_at: str | None = None) -> None:
        if self._note is not None:
            with open(self._note, "w", encoding="utf-8") as file:
                json.dump({"died": died_at, "counts": self.counts}, file)


def live(death: Death, words: list[str]) -> NoReturn:
    """Run the command until it ends or dies."""
    boundary.hook = death
    sys.argv = ["batcher", *words]
    try:
        main()
    finally:
        death.note()
    sys.exit(0)


def _child(order: dict) -> NoReturn:
    signal.alarm(ALARM_S)
    null, log = os.open(os.devnull, os.O_RDONLY), os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, fd in enumerate((null, log, log)):
        os.dup2(fd, number)
    os.closerange(3, 256)
    os.chdir(order["folder"])
    os.environ.update(order["env"])
    if order["fresh"]:
        os.execv(sys.executable, [sys.executable, "-m", "batcher", *order["words"]])
    live(Death(order["die"], order["form"], order["at"], order["note"]), order["words"])


def nursery() -> None:
    """Answers each order with the exit code of its command, negative for a signal."""
    import batcher.cli.commands.run
    import batcher.manifest  # noqa: F401  # imported before the first fork, so that no child has to

    while line := sys.stdin.readline():
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(order)
        if order["after"] is not None:
            time.sleep(order["after"])
            os.kill(pid, signal.SIGKILL)  # of one that has ended meanwhile, it does nothing: it has not been waited for
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["nursery"]:
        nursery()
        sys.exit(0)
    parser = argparse.ArgumentParser(description="Run batcher and die at a boundary.")
    parser.add_argument("--die", type=int, default=0, help="at which boundary, from 1; 0: never")
    parser.add_argument("--at", choices=boundary.POINTS, help="count boundaries of this kind only")
    parser.add_argument("--form", choices=("exit", "kill"), default="kill")
    parser.add_argument("--note", help="a file for what has been reached")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="of the command, as run m.yaml")
    given = parser.parse_args()
    live(Death(given.die, given.form, given.at, given.note), given.words)
