"""What cron, systemd and launchd are told, run as it is printed; and the mail that cron would send: all that a job prints."""

from __future__ import annotations

import json
import os
import plistlib
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from batcher.cli.commands.cron import command

from .conftest import PNG, Service, begin, service, write_batch

pytestmark = pytest.mark.slow

__all__ = ["service"]

VERIFY = shutil.which("systemd-analyze")


def cron_command(line: str) -> str:
    """What cron hands to /bin/sh of a crontab's line: as its do_command.c reads it, byte by byte."""
    assert "\n" not in line
    minute_to_weekday, command = line.split("  ", 1)
    assert len(minute_to_weekday.split()) == 5
    found = ""
    escaped = False
    for c in command:
        if escaped:
            found = found[:-1] + c if c == "%" else found + c
            escaped = False
        elif c == "%":
            break  # the rest would be its standard input
        else:
            found += c
            escaped = c == "\\"
    return found


def unit_words(text: str) -> list[str]:
    """The words of a unit's value: quotes, C-style escapes of quote and backslash, then %% (systemd.service(5))."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    return [re.sub(r"\\(.)", r"\1", word).replace("%%", "%") for word in words]


def bare(folder: Path) -> dict[str, str]:
    """The environment that cron gives; PYTHONPATH only where the tests themselves need it."""
    given = {"HOME": str(folder), "LOGNAME": "me", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    return given | {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}


def mail(command: str, home: Path) -> tuple[int, str]:
    """Run a job as cron does; its code, and what it would mail."""
    job = subprocess.run(["/bin/sh", "-c", command], cwd=home, env=bare(home), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50, check=False)  # fmt: skip
    return job.returncode, job.stdout


Cron = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cron(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cron:
    """`batcher cron m.yaml` in a folder, in this process: its exit code, stdout and stderr. (What it prints is run outside.)"""
    for name in ("BATCHER_ENDPOINT", "GENERIO_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GENERIO_API_KEY", "secret-key-7")

    def call(folder: Path, *words: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        code = 0
        try:
            command.main(["m.yaml", *words], standalone_mode=False)
        except SystemExit as end:
            code = int(str(end.code))
        said = capsys.readouterr()
        assert "secret-key-7" not in said.out + said.err
        return code, said.out, said.err

    return call


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key file"
    path.write_text("secret-key-7\n")
    path.chmod(0o600)
    return str(path)


def test_the_five_mails_of_the_printed_line(service: Service, tmp_path: Path, key: str, cron: Cron) -> None:
    write_batch(tmp_path, 2, 3)
    code, page, advice = cron(tmp_path, "--endpoint", service.url, "--key-file", key)
    assert (code, advice) == (0, "")
    line = page.splitlines()[1]
    assert line.startswith("30 2 * * *  GENERIO_API_KEY_FILE=")
    job = cron_command(line)
    home = tmp_path / "home"
    home.mkdir()
    where = f"{tmp_path}/m.yaml"

    service.order("upload:nth=2,status=422")  # partial
    code, said = mail(job, home)
    assert code == 3, said
    refused, closing = said.splitlines()
    assert re.fullmatch(
        re.escape(where)
        + r":\d+:\d+: \d/\d\.png was refused: 422.* \(change what the service objects to, then run again\) \[f\d\]",
        refused,
    )
    assert closing == f"batcher: {where}: 1 of 2 flows started, 1 failed (exit code 3)"

    service.order("*:status=401")  # fatal
    code, said = mail(job, home)
    assert code == 7
    refused, closing = said.splitlines()
    assert re.fullmatch(
        r"batcher: the service refuses the key: 401.* \(check GENERIO_API_KEY \(keys expire\), then run again\)", refused
    )
    assert closing == f"batcher: {where}: it ended early (exit code 7)", "nothing was known yet when the key was refused"

    service.order("*:latency=1500ms")  # overlapping
    other = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--log-file", "log")
    deadline = time.monotonic() + 30
    while not (tmp_path / "log").exists() or "run_begun" not in (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert mail(job, home) == (11, "")
    service.order()
    _, errors = other.communicate(timeout=50)
    assert other.returncode in (0, 3), errors

    (tmp_path / "0" / "new.png").write_bytes(PNG + b"new")  # changed after its start: nothing that a mail is worth
    assert mail(job, home) == (0, ""), "all well"
    assert mail(job, home) == (0, ""), "nothing to do"
    assert all(flow["starts"] <= 1 for flow in service.record()["flows"])


ODD = "100%\\%d \"it's\" $HOME `x` ü;&"


@pytest.mark.parametrize("manager", ["--user", "--system"])
def test_timer_and_line_run_as_printed_from_a_folder_with_an_odd_name(
    service: Service, tmp_path: Path, key: str, cron: Cron, manager: str
) -> None:
    folder = tmp_path / ODD
    folder.mkdir()
    write_batch(folder, 1, 2)
    os.rename(key, folder / "k%y")
    more = ["--system"] if manager == "--system" else []
    code, page, advice = cron(
        folder, "--json", "--endpoint", service.url, "--key-file", "k%y", "--every", "6h", "--log-file", "log.jsonl", *more,
        "--max-duration", "4h", "--write", "units",
    )  # fmt: skip
    assert (code, advice) == (0, "")
    found = json.loads(page)
    service_text, timer_text = found["units"]["batcher-m.service"], found["units"]["batcher-m.timer"]
    assert found["crontab"].startswith("0 */6 * * *  ")
    assert "OnCalendar=0/6:00" in timer_text
    assert (folder / "units" / "batcher-m.service").read_text() == service_text

    (start,) = re.findall(r"^ExecStart=:(.*)$", service_text, re.MULTILINE)
    words = unit_words(start)
    assert words[-2:] == ["--max-duration", "4h"]
    if more:
        assert f"LoadCredential=key:{folder}/k%y".replace("%", "%%") in service_text
        env = {"GENERIO_API_KEY_FILE": f"{folder}/k%y"}  # what %d/key comes to
    else:
        (given,) = unit_words(re.findall(r"^Environment=(.*)$", service_text, re.MULTILINE)[0])
        env = dict([given.split("=", 1)])
    assert env["GENERIO_API_KEY_FILE"] == f"{folder}/k%y"
    service.order("*:latency=1ms")
    result = subprocess.run(words, cwd="/", env=bare(tmp_path) | env, capture_output=True, text=True, timeout=50, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert mail(cron_command(found["crontab"]), tmp_path) == (0, "")
    assert len(service.record()["flows"]) == 1
    events = [json.loads(line)["event"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert events.count("run_ended") == 2
    if VERIFY is None:
        pytest.skip("the units are not verified: no systemd-analyze here (apt-get install systemd)")
    units = [str(folder / "units" / name) for name in found["units"]]
    shutil.copytree(folder / "units", tmp_path / "units")  # systemd itself reads no unit from a folder of that name
    units = [str(tmp_path / "units" / name) for name in found["units"]]
    judged = subprocess.run([VERIFY, manager, "verify", *units], capture_output=True, text=True, timeout=50, check=False,
                            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})  # fmt: skip
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")
    (tmp_path / "units" / "batcher-m.timer").write_text(timer_text.replace("0/6:00", "0/6:99"))
    judged = subprocess.run([VERIFY, manager, "verify", *units], capture_output=True, text=True, timeout=50, check=False,
                            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})  # fmt: skip
    assert "calendar specification" in judged.stderr, "the judge can say no"


@pytest.mark.parametrize("more", [[], ["--system"]])
def test_property_list_runs_as_printed_from_a_folder_with_an_odd_name(
    service: Service, tmp_path: Path, key: str, cron: Cron, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    folder = tmp_path / f"{ODD} <&]]> --"
    folder.mkdir()
    write_batch(folder, 1, 2)
    os.rename(key, folder / "k<y")
    monkeypatch.setenv("HOME", "/Users/me & you")
    words = ("--launchd", "--endpoint", service.url, "--key-file", "k<y", "--log-file", "log.jsonl", *more)
    code, page, advice = cron(folder, *words, "--at", "04:05", "--max-duration", "4h", "--write", "plists", "--json")
    assert (code, advice) == (0, "")
    (name, text), *others = json.loads(page)["units"].items()
    assert not others
    path = folder / "plists" / name
    assert path.read_text() == text
    job = plistlib.loads(path.read_bytes())
    assert (name, job["Label"]) == ("batcher-m.plist", "batcher-m")
    assert job["StartCalendarInterval"] == [{"Hour": 4, "Minute": 5}]
    assert job["EnvironmentVariables"] == {"GENERIO_API_KEY_FILE": f"{folder}/k<y"}
    assert job["StandardErrorPath"] == job["StandardOutPath"] == "/Users/me & you/Library/Logs/batcher-m.log"
    assert job["Umask"] == 0o77
    assert ("UserName" in job) is bool(more)
    assert job["ProgramArguments"][-2:] == ["--max-duration", "4h"]
    result = subprocess.run(job["ProgramArguments"], cwd="/", env=bare(tmp_path) | job["EnvironmentVariables"],
                            capture_output=True, text=True, timeout=50, check=False)  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert [flow["starts"] for flow in service.record()["flows"]] == [1]


@pytest.mark.parametrize(
    ("step", "times"),
    [("20m", [{"Minute": 0}, {"Minute": 20}, {"Minute": 40}]), ("12h", [{"Hour": 0, "Minute": 0}, {"Hour": 12, "Minute": 0}]),
     ("1d", [{"Hour": 0, "Minute": 0}])],
)  # fmt: skip
def test_step_is_by_the_clock_for_launchd_too(tmp_path: Path, cron: Cron, step: str, times: list[dict[str, int]]) -> None:
    write_batch(tmp_path, 1, 1)
    code, page, _ = cron(tmp_path, "--launchd", "--every", step, "--endpoint", "sandbox")
    assert code == 0
    text = page[page.index("<?xml") : page.index("</plist>") + 8]
    job = plistlib.loads(text.encode())
    assert job["StartCalendarInterval"] == times
    assert "EnvironmentVariables" not in job, "the sandbox needs no key"
    assert "~/Library/LaunchAgents/batcher-m.plist" in page
    assert "launchd mails nothing" in page
    assert "systemd" not in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--at", "25:00"], "--at 25:00 is no time of day (write one like 02:30)"),
        (["--every", "7m"], "--every 7m does not divide an hour or a day (give 1m"),
        (["--every", "1h", "--at", "1:00"], "exclude each other"),
        (["--max-duratio", "4h"], "No such option"),
        (["--metrics", "m.prom"], "cron runs in another folder"),
        (["--collect", "out"], "cron runs in another folder"),
        (["--redo", "*"], "--redo would pay for the same flows again each time"),
        (["--redo-from", "list"], "--redo-from would pay for the same flows again each time"),
    ],
)
def test_what_cron_cannot_say_is_refused_with_advice(tmp_path: Path, cron: Cron, words: list[str], said: str) -> None:
    write_batch(tmp_path, 1, 1)
    code, out, errors = cron(tmp_path, *words)
    assert (code, out) == (2, "")
    assert said in errors


def test_what_is_still_to_be_done_is_said(tmp_path: Path, cron: Cron, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batch(tmp_path, 1, 1)
    manifest = tmp_path / "m.yaml"
    manifest.write_text("notify: {ping: '${HC}'}\n" + manifest.read_text())
    key = tmp_path / "k"
    monkeypatch.setenv("HC", "https://hc.example/id")
    code, out, errors = cron(tmp_path, "--key-file", "k")
    assert code == 0
    assert f"the key's file {key} is not there yet" in errors
    assert "the manifest reads HC from the environment" in errors
    assert "hc.example" not in out + errors
    key.write_text("k")
    key.chmod(0o644)
    assert "chmod 600" in cron(tmp_path, "--key-file", "k")[2]
    assert not list(tmp_path.glob(".batcher*")), "it writes nothing unless asked"


@pytest.mark.parametrize("more", [[], ["--launchd"]])
def test_units_of_another_manifest_are_not_overwritten(tmp_path: Path, cron: Cron, more: list[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_batch(tmp_path / name, 1, 1)
    words = ("--write", "../units", "--endpoint", "sandbox", *more)
    assert cron(tmp_path / "a", *words)[0] == 0
    assert cron(tmp_path / "a", *words, "--at", "4:00")[0] == 0
    code, _, errors = cron(tmp_path / "b", *words)
    assert code == 2
    assert "is not of" in errors
    assert not any("GENERIO" in path.read_text() for path in (tmp_path / "units").iterdir()), "the sandbox needs no key"
