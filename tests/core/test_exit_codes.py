"""The one table of exit codes: what leads to each, what each asks for, and that no other module keeps a table of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import batcher
from batcher.cli.reference import EXIT_CODES
from batcher.cli.topics import TOPICS
from batcher.core.errors import BatcherError, JournalError, Locked, ManifestError, Reason, Stop, UsageError
from batcher.core.exit_codes import OF_KIND, OF_REASON, SIGNALS, ExitCode, about, code_of, first_of, listed, with_outcome
from batcher.core.model import NOTES, Problem, ProblemKind
from batcher.core.report import Report
from batcher.manifest import schema

HOME = Path(batcher.__file__).parent
CONTRACT = {0, 1, 2, 3, 4, 5, 7, 10, 11, 12, 13, 129, 130, 143}
TELLING = CONTRACT - set(range(11))  # numbers that are hardly ever anything but exit codes where they stand together


def test_there_is_a_code_for_each_that_the_contract_names() -> None:
    assert set(ExitCode) == CONTRACT


def test_every_kind_of_problem_and_every_reason_leads_to_one_code() -> None:
    assert set(OF_KIND) == set(get_args(ProblemKind)) - NOTES
    assert set(OF_REASON) == set(Reason)
    for found in ("kinds", "reasons", "errors"):
        named = [each for code in ExitCode for each in getattr(code.about, found)]
        assert len(named) == len(set(named)), found


def test_the_first_of_several_is_the_contracts() -> None:
    order = [code for code in ExitCode if code not in SIGNALS]
    assert order == [1, 2, 12, 7, 13, 4, 3, 5, 10, 11, 0]
    assert first_of([]) == ExitCode.DONE
    for more, less in zip(ExitCode, list(ExitCode)[1:], strict=False):
        assert first_of([less, more]) is more


def test_a_report_ends_with_the_first_code_of_its_problems() -> None:
    report = Report("m", "e")
    report.add(Problem("refused", "no"))
    report.add(Problem("fatal", "no"))
    assert report.exit_code == ExitCode.FATAL
    report.stop = Stop(Reason.SIGTERM, "stopped")
    assert report.exit_code == ExitCode.SIGTERM


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Locked("x"), 11), (JournalError("x"), 12), (UsageError("x"), 2), (ManifestError([]), 2), (BatcherError("x"), 1),
        (ZeroDivisionError(), 1), *((Stop(reason, "x"), int(code)) for reason, code in OF_REASON.items()),
    ],
)  # fmt: skip
def test_an_error_that_ends_a_command_has_a_code(error: Exception, code: int) -> None:
    assert code_of(error) == code


def test_outcomes_are_what_a_cron_job_should_do() -> None:
    assert with_outcome("problem") == [5, 10, 129, 130, 143]
    assert with_outcome("failure") == [1, 2, 3, 4, 7, 12, 13]
    assert (ExitCode.DONE.about.outcome, ExitCode.LOCKED.about.outcome) == ("success", None)
    for code in ExitCode:
        assert (code.about.outcome == "failure") == code.about.cron.startswith("alert")


def test_every_code_has_its_words_wherever_codes_are_shown() -> None:
    for code in ExitCode:
        assert code.about.meaning
        assert code.about.happened
        assert about(code) is code.about
    assert about(99) is None
    rows = {int(number): words for numbers, *words in EXIT_CODES for number in numbers.split(", ")}
    assert set(rows) == set(ExitCode)
    assert all(meaning and cron for meaning, cron in rows.values())
    topic = TOPICS["exit-codes"].text()
    assert all(re.search(rf"(^|, ){code}\b", topic, re.MULTILINE) for code in ExitCode)
    hooks = str(schema()["$defs"]["HooksShape"])
    assert all(f"After {listed(with_outcome(outcome))}:" in hooks for outcome in ("problem", "failure"))


def collections(tree: ast.AST) -> Iterator[tuple[int, set[int]]]:
    """The line, and the whole numbers, of every literal collection (of rows: their first members) and of every `1, 2, 3`."""
    for node in ast.walk(tree):
        members: list[Any] = []
        match node:
            case ast.Dict():
                members = [*node.keys, *node.values]
            case ast.Tuple() | ast.List() | ast.Set():
                members = [each.elts[0] if isinstance(each, ast.Tuple) and each.elts else each for each in node.elts]
            case ast.Constant(value=str(text)):
                yield from ((node.lineno, set(map(int, row.split(", ")))) for row in re.findall(r"\d+(?:, \d+){2,}", text))
            case ast.Match():
                members = [case.pattern.value for case in node.cases if isinstance(case.pattern, ast.MatchValue)]
        found = {str(member.value) for member in members if isinstance(member, ast.Constant)}
        yield getattr(node, "lineno", 0), {int(number) for number in found if number.isascii() and number.isdecimal()}


def tables(source: str) -> list[int]:
    """Lines in which three or more exit codes stand together."""
    found = collections(ast.parse(source))
    return [line for line, numbers in found if len(numbers & CONTRACT) > 2 and len(numbers & TELLING) > 1]


def test_no_other_module_keeps_a_table_of_exit_codes() -> None:
    kept = 'A = (1, 12, 130)\nB = {7: 0, 12: 0, 143: 0}\nC = "After 5, 129, 130"\nD = (("7", 0), ("12", 0), ("13", 0))'
    assert set(tables(kept)) == {1, 2, 3, 4}
    here = HOME / "core" / "exit_codes.py"
    docs = (HOME / "core" / "errors.py",)  # the tree of errors names the codes in its docstring; held against the table below
    others = {path: tables(path.read_text()) for path in HOME.rglob("*.py") if path not in (here, *docs)}
    assert not {str(path): lines for path, lines in others.items() if lines}


def test_the_tree_of_errors_names_the_codes_of_the_table() -> None:
    import batcher.core.errors as errors

    drawn = re.findall(r"── (\w+).*\(.*?([0-9][0-9, ]*)\)$", errors.__doc__ or "", re.MULTILINE)
    assert {name for name, _ in drawn} == {"ManifestError", "UsageError", "JournalError", "Locked", "Stop"}
    for name, codes in drawn:
        of = set(OF_REASON.values()) if name == "Stop" else {c for c in ExitCode if getattr(errors, name) in c.about.errors}
        assert {int(code) for code in codes.split(", ")} == of
