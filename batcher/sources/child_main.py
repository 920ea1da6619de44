"""Runs in a process of its own: answers what it is asked with one of our scripts, until stdin ends.

In: a script's path and its arguments; on stdin frames of `[work, items]`. Out: on stdout a frame with as many results for each.
A frame is eight bytes of length, then a list as `marshal` writes it. The script's `works` takes the arguments and gives a
function for each work. Started by `child`, which uses the frames too. It and the scripts import nothing of batcher, so that
they are quick to start.
"""

from __future__ import annotations

import importlib.machinery
import marshal
import os
import signal
import sys
from collections.abc import Callable
from typing import IO, Any

HEAD_BYTES = 8
FRAME_BYTES = 1 << 28  # far above what one request asks for


def write_frame(file: IO[bytes], items: list[Any]) -> None:
    """Raises BrokenPipeError where nobody reads."""
    content = marshal.dumps(items)
    file.write(len(content).to_bytes(HEAD_BYTES, "big") + content)
    file.flush()


def read_frame(file: IO[bytes]) -> list[Any] | None:
    """None: nobody writes any more, or something that is no frame."""
    length = int.from_bytes(file.read(HEAD_BYTES), "big")
    content = file.read(length) if length <= FRAME_BYTES else b""
    if not content or len(content) < length:
        return None
    items: list[Any] = marshal.loads(content)  # noqa: S302 - from our own process
    return items


def load(script: str, arguments: list[str]) -> dict[str, Callable[[list[Any]], list[Any]]]:
    """What the script can do."""
    names: dict[str, Any] = {"__name__": "worker", "__file__": script}
    code = importlib.machinery.SourceFileLoader("worker", script).get_code("worker")  # kept compiled, beside the script
    assert code is not None
    exec(code, names)  # noqa: S102 - one of our own
    works: dict[str, Callable[[list[Any]], list[Any]]] = names["works"](*arguments)
    return works


def main() -> None:
    """Until stdin ends."""
    for number in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C, a terminal that is closed: for the parent, who closes stdin
        signal.signal(number, signal.SIG_IGN)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    works = load(sys.argv[1], sys.argv[2:])
    while (items := read_frame(source)) is not None:
        work, asked = items
        try:
            write_frame(sink, works[work](asked))
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
