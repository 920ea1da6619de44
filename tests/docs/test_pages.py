"""The pages hold together: links lead somewhere, files and commands that they name are there, made parts are current."""

from __future__ import annotations

import ast
import posixpath
import re
import shlex
import tomllib

import pytest

from batcher.cli.reference import commands
from batcher.cli.topics import TOPICS

from .pages import MADE, PAGES, ROOT, TEXTS, anchors, blocks, code, links, rewritten, without_blocks

REWRITE = "lags behind the code: run `python -m tests.docs`, look at the difference, and commit it"


@pytest.mark.parametrize("page", MADE)
def test_made_parts_are_as_the_code_is(page: str) -> None:
    assert rewritten(TEXTS[page], MADE[page](), page) == TEXTS[page], f"{page} {REWRITE}"


def test_a_part_that_lags_is_seen_and_one_without_markers_is_an_error() -> None:
    for page, parts in MADE.items():
        for name in parts():
            begin = f"<!-- {name} -->\n"
            assert rewritten(TEXTS[page].replace(begin, f"{begin}more\n"), parts(), page) == TEXTS[page]
            with pytest.raises(ValueError, match=f"{page} has no <!-- {name} -->"):
                rewritten(TEXTS[page].replace(begin, ""), parts(), page)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_are_there(page: str) -> None:
    for link in links(TEXTS[page]):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        assert not path.startswith("/"), f"{page}: {link} is not relative"
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
        assert (ROOT / target).is_file(), f"{page}: {link} leads nowhere"
        if anchor:
            assert target in TEXTS, f"{page}: {link}: only pages of the documentation have headings"
            assert anchor in anchors(TEXTS[target]), f"{page}: {target} has no heading for {link}"


def test_a_dead_link_or_anchor_would_be_seen() -> None:
    """What the test above rests on, tried on a page that is made up."""
    page = "# One `word`\n\n## One word\n\n[a](b.md#c) ![d](e.png)\n\n```\n# none\n[no](link)\n```\n`[no](link)` [f](#g)\n"
    assert links(page) == ["b.md#c", "e.png", "#g"]
    assert anchors(page) == {"one-word", "one-word-1"}
    assert anchors("## An upload: kept, or `--lost`?\n") == {"an-upload-kept-or---lost"}


def test_every_page_is_reached_from_the_readme() -> None:
    reached, more = set(), {"README.md"}
    while more:
        page = more.pop()
        reached.add(page)
        targets = {posixpath.normpath(posixpath.join(posixpath.dirname(page), link.partition("#")[0]))
                   for link in links(TEXTS[page]) if not link.startswith(("http", "#"))}  # fmt: skip
        more |= (targets & set(PAGES)) - reached
    assert reached == set(PAGES)


PATH = re.compile(r"(?<![\w./-])((?:batcher|tests|manifests|docs|\.ci|\.github)/[\w./-]*\w)(?::(\w+))?")


@pytest.mark.parametrize("page", PAGES)
def test_files_folders_and_names_of_the_code_that_a_page_gives_are_there(page: str) -> None:
    """`batcher/core/retry.py` is a file, and in `batcher/core/retry.py:classify` it has that name at its top level."""
    for path, name in PATH.findall(code(TEXTS[page])):
        assert (ROOT / path).exists(), f"{page}: {path} is not there"
        if name:
            assert name in _names(path), f"{page}: {path} has no {name}"


def _names(path: str) -> set[str]:
    found = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.AnnAssign(target=ast.Name(id=one)):
                found.add(one)
            case ast.Assign(targets=targets):
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_architecture_tells_of_every_room() -> None:
    rooms = {path.parent.name for path in (ROOT / "batcher").glob("*/__init__.py")}
    assert rooms <= set(re.findall(r"(?m)^\| `batcher/(\w+)/`", TEXTS["docs/architecture.md"]))


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_flags_that_a_page_gives_are_there(page: str) -> None:
    found = commands()
    for name, rest in re.findall(r"\bbatcher ([a-z]+)\b([^\n#;&|\"]*)", code(TEXTS[page])):
        assert name in found, f"`batcher {name}` of {page}"
        known = {option for one in found[name].params for option in one.opts} | {"--help", "-h"}
        for flag in re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", rest):
            assert flag in known, f"{flag} of `batcher {name}` in {page}"
    for topic in re.findall(r"\bbatcher help ([a-z][a-z-]+)", code(TEXTS[page])):
        assert topic in TOPICS or topic in found, f"`batcher help {topic}` of {page}"


@pytest.mark.parametrize("page", PAGES)
def test_flags_that_a_page_gives_without_a_command_are_those_of_one(page: str) -> None:
    known = {option for command in commands().values() for one in command.params for option in one.opts}
    others = {"--hypothesis-profile"}  # pytest's
    given = set(re.findall(r"`(--[a-z][a-z-]*)", without_blocks(TEXTS[page])))
    assert given <= known | others, f"{page}: {given - known}"


@pytest.mark.parametrize("page", PAGES)
def test_code_stands_in_one_line(page: str) -> None:
    """The tests above read it line by line."""
    assert [line for line in without_blocks(TEXTS[page]).splitlines() if line.count("`") % 2] == []


@pytest.mark.parametrize("page", PAGES)
def test_tables_have_as_many_cells_in_each_row(page: str) -> None:
    """A `|` within a cell that is not escaped would cut it off without a word."""
    for table in re.findall(r"(?m)(?:^\|.*\|$\n)+", without_blocks(TEXTS[page])):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1, f"{page}: {table.splitlines()[0]}"


def test_the_readme_is_short_and_names_one_test_command() -> None:
    """`.ci/run` takes the line from it."""
    assert len(TEXTS["README.md"].splitlines()) <= 160
    (line,) = re.findall(r"(?m)^# the tests: (.*)$", TEXTS["README.md"])
    assert line in blocks(TEXTS["README.md"], "sh")[1].splitlines(), "what people copy is what CI runs"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(re.findall(r"\.\[(\w+)\]", " ".join(shlex.split(line))))
    assert extras
    assert extras <= set(project["optional-dependencies"])
