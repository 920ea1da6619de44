"""The common flags: every command that takes a manifest takes all of them, and says which have no effect on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import pytest

from batcher.cli import cli
from batcher.cli.flags import COMMON, DURATION, command
from batcher.cli.reference import commands

MANIFEST = "version: 1\nendpoint: sandbox\nflows:\n- {name: a, template: t, inputs: [{text: a chair}]}\n"
NOTHING = "nothing was run yet at sandbox (--endpoint and --state are those of the run)\n"
TAKING = {name: made for name, made in commands().items() if any(p.name == "manifest" for p in made.params)}
CONTRACT = ("--endpoint", "--state", "--json", "--quiet", "--verbose", "--log-format", "--log-file", "--progress")
LOOKING = {"--log-file", "--log-format", "--progress"}
IDLE = {
    "status": LOOKING, "report": {*LOOKING, "--ca-file"}, "gallery": {*LOOKING, "--ca-file"}, "plan": LOOKING,
    "cron": {"--progress"}, "clean": {"--progress"}, "abort": {"--progress"}, "run": set(), "collect": set(),
}  # fmt: skip


@pytest.fixture
def called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """What a command says on stdout and on stderr."""
    (tmp_path / "m.yaml").write_text(MANIFEST)

    def call(name: str, *words: str) -> tuple[str, str]:
        cli.main([name, str(tmp_path / "m.yaml"), *words], standalone_mode=False)
        said = capsys.readouterr()
        return said.out, said.err

    return call


@pytest.mark.parametrize("name", TAKING)
def test_every_command_that_takes_a_manifest_takes_the_contracts_flags(name: str) -> None:
    taken = {flag for param in TAKING[name].params for flag in param.opts}
    assert set(CONTRACT) <= taken
    assert len(COMMON) == len(CONTRACT) + 1  # and --ca-file, which the contract gives to all as well


@pytest.mark.parametrize("name", TAKING)
def test_help_names_the_flags_without_effect(name: str) -> None:
    said = TAKING[name].epilog or ""
    assert set(said.rpartition(": ")[2].rstrip(".").split(", ")) - {""} == IDLE[name]


def test_a_flag_without_effect_is_taken_and_said(called: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    out, err = called("status", "--log-file", str(tmp_path / "log"), "--progress", "none")
    assert out == NOTHING
    assert err == "batcher: --log-file has no effect on status\nbatcher: --progress has no effect on status\n"
    assert not (tmp_path / "log").exists()


def test_nothing_is_said_of_flags_that_are_not_given_nor_with_quiet(called: Callable[..., tuple[str, str]]) -> None:
    assert called("status") == (NOTHING, "")
    assert called("status", "--quiet", "--progress", "none") == ("", "")


def test_a_flag_of_a_command_keeps_its_place_and_name() -> None:
    @command("try", "try it", idle=("progress",))
    @click.option("--one")
    @click.option("--two")
    def tried(given: object, one: str, two: str) -> None:
        """Nothing."""

    assert [param.name for param in tried.params][-2:] == ["one", "two"]
    assert [param.name for param in tried.params][:2] == ["manifest", "endpoint"]
    assert tried.help == "Nothing."


@pytest.mark.parametrize(
    ("state", "words"),
    [("", "it is empty"), ("mysql://h/d", "mysql: is no place"), ("postgresql:x", "postgresql: is no place")],
)
def test_a_state_that_is_no_folder_is_refused(called: Callable[..., tuple[str, str]], state: str, words: str) -> None:
    with pytest.raises(click.BadParameter, match=words):
        called("status", "--state", state)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90.0), ("1.5", 1.5), ("90s", 90.0)])
def test_a_plain_number_is_what_it_is_in_a_manifest(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds
