"""`status`: it fits the terminal, says what is urgent first, and draws over itself without flicker."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.cli.columns import fit, width
from batcher.cli.readable import shown, span
from batcher.journal.open import journal_path
from batcher.journal.sqlite import SqliteJournal
from tests.e2e.conftest import batcher, environment

from . import books

SGR = re.compile(r"\x1b\[[0-9;]*m")


def test_table_fits_eighty_columns_and_says_what_is_urgent_first(tmp_path: Path) -> None:
    hostile = ["\u202egnp.exe", "名前" * 40, "a" * 200, "plain"]
    books.write(tmp_path, hostile + books.names(96))
    result = batcher(tmp_path, "status", "m.yaml", COLUMNS="80")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(map(width, lines)) <= 80
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    states = [line.split()[0] for line in lines if line.startswith(("problem", "uploading", "started"))]
    assert states == sorted(states, key=["problem", "uploading", "started"].index)
    assert states[0] == "problem"
    assert "  ↳ a.png was refused: 422: no. 3" in lines
    assert any(re.match(r"flows:   \d+ of 100 started, 14 with a problem, ", line) for line in lines)
    assert "do:      change what the service objects to, then run again" in lines
    assert [line for line in lines if line.startswith("… ") and "--all" in line]
    everything = batcher(tmp_path, "status", "m.yaml", "--all").stdout
    assert "--all" not in everything
    assert everything.count("\nstarted ") > states.count("started")


@pytest.mark.parametrize("columns", [40, 50, 60, 79, 120])
def test_table_fits_any_terminal(tmp_path: Path, columns: int) -> None:
    books.write(tmp_path, books.names(30), ended=False)
    lines = batcher(tmp_path, "status", "m.yaml", COLUMNS=str(columns)).stdout.splitlines()
    assert max(map(width, lines)) <= columns, max(lines, key=width)
    assert any("armchair" in line for line in lines)


def test_thousands_of_flows_are_summed_up(tmp_path: Path) -> None:
    books.write(tmp_path, books.names(3000), inputs=1, stop=True)
    lines = batcher(tmp_path, "status", "m.yaml").stdout.splitlines()
    assert len(lines) < 120
    assert "  ↳ the credit is exhausted" in lines
    assert any("ended with 7" in line for line in lines)
    document = json.loads(batcher(tmp_path, "status", "m.yaml", "--json").stdout)
    assert document["flows"]["total"] == 3000
    assert document["last_run"]["exit_code"] == 7
    assert sum(document["flows"][what] for what in ("started", "pending", "failed")) == 3000


def test_without_a_journal_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("version: 1\nflows: []\n")
    result = batcher(tmp_path, "status", "m.yaml")
    assert (result.returncode, " ".join(result.stdout.split())) == (
        0, "nothing was run yet at https://flows.generio.ai (--endpoint and --state are those of the run)"
    )  # fmt: skip


def test_watch_is_refused_where_nobody_can_watch(tmp_path: Path) -> None:
    books.write(tmp_path, ["a"])
    result = batcher(tmp_path, "status", "m.yaml", "--watch")
    assert result.returncode == 2
    assert "--watch draws on a terminal" in result.stderr


def watch(folder: Path, frames: int, number: int, columns: int = 80, **env: str) -> tuple[int, str]:
    """Watch on a terminal of so many columns until so many pictures were drawn, then signal; exit code and all that was
    written."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-m", "batcher", "status", "m.yaml", "--watch", "--interval", "200ms"]
    plain = {name: value for name, value in environment(**env).items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(command, cwd=folder, env=plain, stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        written = b""
        while written.count(b"\x1b[J") < frames:
            written += os.read(leader, 65536)
        process.send_signal(number)
        code = process.wait(20)
        end = time.monotonic() + 10
        while b"\x1b[?25h" not in written and time.monotonic() < end:
            try:
                written += os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
    os.close(leader)
    return code, written.decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_watch_draws_over_itself_and_gives_the_cursor_back(tmp_path: Path, number: int, code: int) -> None:
    manifest = books.write(tmp_path, books.names(200), ended=False)
    with closing(SqliteJournal(journal_path(manifest, None), manifest.batch, 15)):  # as a run that is under way
        ended, written = watch(tmp_path, 3, number, TERM="xterm", NO_COLOR="")
    assert ended == code, written
    assert written.startswith("\x1b[?25l")
    assert "\x1b[?25h" in written
    first, second, *_ = written.removeprefix("\x1b[?25l").split("\x1b[J")
    assert first.count("\n") <= 23, "it would scroll"
    assert f"\x1b[{first.count(chr(10))}F" in second, "the next one begins where this one did"
    assert SGR.search(first), "no colour on a terminal"
    assert max(width(SGR.sub("", line).replace("\x1b[K", "").strip("\r")) for line in first.split("\n")) < 80
    assert "under way since" in first
    assert "Traceback" not in written


@pytest.mark.parametrize("columns", [40, 200])
def test_watch_takes_the_width_of_its_terminal(tmp_path: Path, columns: int) -> None:
    books.write(tmp_path, [f"{name} {'long ' * 30}" for name in books.names(40)])
    _, written = watch(tmp_path, 1, signal.SIGINT, columns, TERM="xterm", NO_COLOR="1")
    picture = written.removeprefix("\x1b[?25l").split("\x1b[J")[0]
    widest = max(width(line.replace("\x1b[K", "").strip("\r")) for line in picture.split("\n"))
    assert columns - 8 < widest < columns


def test_no_color_is_respected(tmp_path: Path) -> None:
    books.write(tmp_path, books.names(20))
    _, written = watch(tmp_path, 1, signal.SIGINT, TERM="xterm", NO_COLOR="1")
    assert "problem" in written
    assert not SGR.search(written)


@given(st.text(max_size=90), st.integers(2, 60))
def test_names_are_cut_to_so_many_columns(name: str, columns: int) -> None:
    text = shown(name)
    assert width(fit(text, columns, pad=True)) == columns
    assert width(text) > columns or fit(text, columns) == text


@given(st.text(st.characters(codec=None)))
def test_harmless_names_can_be_written_and_turn_nothing(name: str) -> None:
    text = shown(name)
    text.encode()
    assert shown(text) == text
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]", text)


def test_durations_read_well() -> None:
    said = [span(s) for s in (0, 0.34, 0.9999, 12.54, 59.96, 245, 3599.6, 12_000, 187_000)]
    assert said == ["0 ms", "340 ms", "1.0 s", "12.5 s", "1 min 00 s", "4 min 05 s", "1 h 00 min", "3 h 20 min", "2 d 3 h"]
