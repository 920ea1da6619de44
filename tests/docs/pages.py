"""The pages of the documentation: which there are, which parts are made from the code, what they link to.

In: the Markdown files. Out: texts, links, anchors. Called by the tests and by `python -m tests.docs`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from batcher.cli.reference import tables
from batcher.core.lifecycle import FLOW, INPUT, FlowState, InputState, diagram

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("README.md", ".github/CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
TEXTS: Final = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}


def _pictures() -> dict[str, str]:
    made = {"flow": diagram(FLOW, FlowState.PLANNED), "input": diagram(INPUT, InputState.PENDING)}
    return {f"lifecycle of {name}": f"```mermaid\n{text}\n```" for name, text in made.items()}


# Page → the parts of it that are made from the code, by the name of their markers.
MADE: Final[Mapping[str, Callable[[], Mapping[str, str]]]] = {"docs/reference.md": tables, "docs/architecture.md": _pictures}


def rewritten(text: str, parts: Mapping[str, str], page: str) -> str:
    """The page with its made parts as they are now, between `<!-- NAME -->` and `<!-- end NAME -->`. Raises ValueError where
    these markers are missing."""
    for name, made in parts.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end {name} -->")
        if not begin or not end:
            raise ValueError(f"{page} has no <!-- {name} --> … <!-- end {name} -->")
        text = f"{before}{begin}{made}\n{end}{after}"
    return text


def without_blocks(text: str) -> str:
    """The text without its fenced blocks: nothing in them is a link or a heading."""
    return re.sub(r"(?ms)^```.*?^```$", "", text)


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks in one of these languages; "" is none."""
    return [block for language, block in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", text) if language in languages]


def code(text: str) -> str:
    """What is said in code: blocks that a shell could read, and spans."""
    return "\n".join([*blocks(text, "", "sh", "console"), *re.findall(r"`([^`]+)`", without_blocks(text))])


def links(text: str) -> list[str]:
    """The targets of all links and pictures, as they are written."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", without_blocks(text)))


def anchors(text: str) -> set[str]:
    """What a link to a heading of this page may name, by GitHub's rule: lower case, words and hyphens, a number where it
    stands twice."""
    found: Counter[str] = Counter()
    made = set()
    for heading in re.findall(r"(?m)^#{1,6} +(.*?)(?: +#+)?$", without_blocks(text)):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        made.add(f"{slug}-{found[slug]}" if found[slug] else slug)
        found[slug] += 1
    return made
