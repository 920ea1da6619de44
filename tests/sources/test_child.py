"""A process is asked and answers; it dies alone, at once, and with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher.sources.child import Child

SCRIPT = """
import os, sys, time

def works(*arguments):
    return {"echo": lambda items: items, "arguments": lambda items: [list(arguments)],
            "environment": lambda items: [dict(os.environ)],
            "print": lambda items: [print("noise", flush=True), os.write(1, b"noise")][:1],
            "few": lambda items: items[1:], "crash": lambda items: os.abort(), "raise": lambda items: 1 / 0,
            "file": lambda items: [os.read(int(arguments[0]), 9)]}
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return str(path)


@pytest.fixture
def child(script: str) -> Iterator[Child]:
    made = Child(script, "one", "two")
    yield made
    made.close()


def test_it_answers_what_it_is_asked_in_order(child: Child) -> None:
    values = [None, True, 7, "ü\udcff", b"\0\xff", [1, [2]], ("a", 1), 2**40]
    for items in (values, [], [b"x" * (1 << 20)]):
        assert child.ask("echo", items)
        assert child.answer(len(items)) == items
    assert child.ask("arguments", [None])
    assert child.answer(1) == [["one", "two"]]
    assert not child.closed


def test_it_is_told_no_key_and_what_a_library_prints_is_no_answer(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERIO_API_KEY", "sesame")
    child = Child(script)
    try:
        assert child.ask("print", [None])
        assert child.answer(1) == [None]
        assert child.ask("environment", [None])
        found = child.answer(1)
        assert found is not None
        assert "GENERIO_API_KEY" not in found[0]
    finally:
        child.close()


def test_it_keeps_the_files_that_it_is_handed(script: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"turnstile")
    with (tmp_path / "f").open("rb") as file:
        child = Child(script, str(file.fileno()), pass_fds=(file.fileno(),))
        try:
            assert child.ask("file", [None])
            assert child.answer(1) == [b"turnstile"]
        finally:
            child.close()


@pytest.mark.parametrize("work", ["crash", "raise", "few", "unheard of"])
def test_one_that_cannot_answer_is_dead_and_closed(child: Child, work: str) -> None:
    assert child.ask(work, [1, 2])
    assert child.answer(2) is None
    assert child.closed
    assert not child.has_answer
    assert not child.ask("echo", [1])
    assert child.answer(1) is None


def test_whether_there_is_an_answer_is_known_without_waiting_for_it(child: Child) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    assert child.ask("echo", [1])
    assert not child.has_answer
    os.kill(child.pid, signal.SIGCONT)
    deadline = time.monotonic() + 20
    while not child.has_answer:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert child.answer(1) == [1]


def test_whoever_waits_for_one_that_is_killed_gets_no_answer(child: Child) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    assert child.ask("echo", [1])
    threading.Timer(0.2, child.kill).start()
    began = time.monotonic()
    assert child.answer(1) is None
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_of_the_terminal_is_for_the_parent(child: Child, number: int) -> None:
    assert child.ask("echo", [1])
    assert child.answer(1) == [1], "it is up"
    os.kill(child.pid, number)
    assert child.ask("echo", [2])
    assert child.answer(1) == [2]


def test_process_ends_with_its_parent_however_that_dies(script: str) -> None:
    code = """if True:
        import sys, time
        from batcher.sources.child import Child
        child = Child(sys.argv[1])
        child.ask("echo", [])
        child.answer(0)
        print(child.pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", code, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    deadline = time.monotonic() + 10
    while _lives(pid):
        assert time.monotonic() < deadline, "it outlives its parent"
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    """A zombie is dead; whether somebody collects it is the machine's affair."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
