"""A first manifest, from what lies in a folder: which template, which layout, how the flows are named; and its text.

In: a `FolderScan`, options. Out: a `Proposal` and the commented YAML. Pure. Called by `init`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..core.text import escaped
from .folder_scan import KINDS, FolderScan, Odd, suffix_of

Layout = Literal["file", "folder", "one"]
LAYOUTS: Final = ("file", "folder", "one")


@dataclass(frozen=True, slots=True)
class KnownTemplate:
    """A template that the service is known to offer: the kind of files that it takes, and its parameters' defaults."""

    name: str
    kind: str
    parameters: str
    about: str


TEMPLATES: Final = (
    KnownTemplate("model_generate_fromimage", "image", "{quality: high, seed: -1, texture: true}", "a model from images"),
    KnownTemplate("model_generate_fromprompt", "text", "{quality: high, seed: -1, texture: true}", "a model from a prompt"),
    KnownTemplate("model_optimize", "glb", "{polygon_count: 100000}", "a smaller model"),
)
WORDS: Final = {"image": ("image", "images"), "text": ("prompt", "prompts"), "glb": ("GLB model", "GLB models")}
SET_MIN, SET_MAX = 2, 20  # images in a folder that is taken for views of one thing
SETS_SHARE: Final = 0.8  # of the folders, and of the images, that have to look like that
EXCLUDES_MAX: Final = 500  # files left out by name; each is held against every match


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is to be written. `paths`: the files that are sent, from the folder; `column`: the placeholder that names the
    flows (layout `file`); `flows`: how many there will be; `why`: the reason for the layout; `unnamed`: odd files that were
    too many to be left out by name."""

    kind: str
    template: str
    known: KnownTemplate | None
    layout: Layout
    why: str
    column: str
    paths: Sequence[str]
    flows: int
    unnamed: int


def propose(look: FolderScan, template: str | None, layout: Layout | None) -> Proposal | None:
    """None where there is nothing to send."""
    known = next((one for one in TEMPLATES if one.name == template), None)
    kinds = [known.kind] if known else [kind for kind in KINDS if look.files[kind]]
    if not kinds or not look.files[kinds[0]]:
        return None
    kind = kinds[0]
    known = known or (next(one for one in TEMPLATES if one.kind == kind) if template is None else None)
    paths = look.files[kind]
    chosen, why = (layout, "as --layout asks") if layout else _layout(kind, paths)
    flows = {"file": len(paths), "folder": len(set(map(_parent, paths))), "one": 1}[chosen]
    column = _column(paths) if look.whole else "path"
    named = min(len(look.odd), EXCLUDES_MAX)
    return Proposal(kind, template or (known.name if known else ""), known, chosen, why, column, paths, flows,
                    len(look.odd) - named)  # fmt: skip


def _layout(kind: str, paths: Sequence[str]) -> tuple[Layout, str]:
    if kind == "text":
        return "one", "prompts usually make one flow"
    if kind == "image":
        sizes = Counter(map(_parent, paths))
        below = {folder: count for folder, count in sizes.items() if folder}
        sets = {folder: count for folder, count in below.items() if SET_MIN <= count <= SET_MAX}
        enough = len(sets) >= SETS_SHARE * len(sizes) and sum(sets.values()) >= SETS_SHARE * len(paths)
        if len(sets) >= SET_MIN and enough:
            return "folder", f"{len(sets)} of {len(sizes)} folders hold {SET_MIN} to {SET_MAX} images, like views of one thing"
    return "file", f"each {WORDS[kind][0]} by itself"


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _column(paths: Sequence[str]) -> str:
    """The shortest placeholder by which all flows have names of their own."""
    names = [path.rpartition("/")[2] for path in paths]
    stems = [name[: len(name) - len(suffix_of(name))] for name in names]
    for column, values in (("stem", stems), ("name", names)):
        if len(set(values)) == len(values) and not any(value.isspace() for value in values):
            return column
    return "path"


# --- The text ---------------------------------------------------------------------------------------------------------


def manifest_text(
    plan: Proposal, look: FolderScan, *, batch: str, prefix: str, made_by: str, endpoint: str | None, schema: str | None
) -> str:
    """The manifest. `prefix`: the folder as spelled from the manifest's own, empty or with a slash at its end; `made_by`: how
    it was made; `schema`: the file of the JSON Schema beside it."""
    lines = [f"# yaml-language-server: $schema={schema}"] if schema else []
    lines += [
        f"# {escaped(made_by)}",
        "# Every key, with its default and an example:  batcher help manifest",
        "version: 1",
        _beside(f"batch: {_quoted(batch)}", "the batch's name on the service; keep it once it was run"),
    ]
    if endpoint is None:
        lines.append(_beside("# endpoint: sandbox", "the embedded service: to try it without a key, and without paying"))
    elif endpoint == "sandbox":
        lines.append(_beside("endpoint: sandbox", "the embedded service; take the line away to use the real one"))
    else:
        lines.append(f"endpoint: {_quoted(endpoint)}")
    lines += ["", _beside("defaults:", "for every flow; what a flow says itself wins")]
    lines.append(_beside(f"  template: {_quoted(plan.template)}", plan.known.about if plan.known else "from --template"))
    if plan.known:
        lines.append(f"  # parameters: {plan.known.parameters}   # the template's own defaults")
    lines += [_beside(f"  # template: {one.name}", one.about) for one in TEMPLATES if one.kind != plan.kind]
    lines += [
        _beside("  # additional: {campaign: autumn}", "any JSON; it is stored with the flow"),
        "",
        "# limits:",
        _beside(f"#   max_starts: {_cap(plan.flows)}", "a run that would start, and pay for, more flows is refused"),
        _beside("#   concurrency: 16", "requests in flight at most"),
        _beside("#   min_age: 10s", "leave a file alone that is still being copied"),
        "",
        "flows:",
        *_flows(plan, look, batch, prefix),
        *_other_kinds(plan, look, prefix),
    ]
    return "\n".join(lines) + "\n"


def _cap(flows: int) -> int:
    """The flows that there are and a little more, as a round number."""
    step = max(10, int(10 ** (len(str(flows)) - 1)))
    return -(-(flows + flows // 5) // step) * step


def _flows(plan: Proposal, look: FolderScan, batch: str, prefix: str) -> Iterator[str]:
    match plan.layout:
        case "file":
            yield "# One flow per file; new files become new flows. {path} {name} {stem} {suffix} {parent} can be used."
            for pattern, exclude in _patterns(plan.paths, look.odd, prefix):
                yield from _source("each", pattern, exclude)
                yield f'  name: "{{{plan.column}}}"'
                yield '  inputs: ["{path}"]'
        case "folder":
            yield "# One flow per folder. For a new folder add a flow, or let `batcher init --force` write this again."
            yield from _folder_flows(plan, look, batch, prefix)
        case "one":
            yield "# One flow with every file as an input; started once, so later files need a flow of their own."
            yield f"- name: {_quoted(batch)}"
            yield "  inputs:"
            for pattern, exclude in _patterns(plan.paths, look.odd, prefix):
                yield from _source("glob", pattern, exclude)


def _folder_flows(plan: Proposal, look: FolderScan, batch: str, prefix: str) -> Iterator[str]:
    files: dict[str, list[str]] = {}
    for path in plan.paths:
        files.setdefault(_parent(path), []).append(path)
    odd: dict[str, list[Odd]] = {}
    for one in look.odd:
        odd.setdefault(_parent(one.path), []).append(one)
    shorts = [folder.rpartition("/")[2] for folder in files]
    short = len(set(shorts)) == len(shorts) and not any(name.isspace() or name == batch for name in shorts)
    taken = set(files)
    for folder, inside in files.items():
        name = (folder.rpartition("/")[2] if short else folder) if folder else _free(batch, taken)
        yield f"- name: {_quoted(name)}"
        yield "  inputs:"
        for pattern, exclude in _patterns(inside, odd.get(folder, ()), prefix, folder):
            yield from _source("glob", pattern, exclude)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "-"
    return name


def _patterns(
    paths: Sequence[str], odd: Sequence[Odd], prefix: str, folder: str | None = None
) -> Iterator[tuple[str, Sequence[tuple[str, Odd]]]]:
    """Per suffix as it is spelled: a pattern, and what it would match and must not. `folder`: just that one."""
    deep = folder is None and any("/" in path for path in paths)
    start = prefix if folder is None else prefix + (f"{folder}/" if folder else "")
    for suffix in sorted({suffix_of(path) for path in paths}):
        pattern = _literal(start) + ("**/" if deep else "") + f"*{suffix}"
        reach = [one for one in odd[:EXCLUDES_MAX] if folder is not None or deep or "/" not in one.path]
        matched = [one for one in reach if suffix_of(one.path) == suffix]
        yield pattern, [(_outright(prefix + one.path), one) for one in matched]


def _source(key: str, pattern: str, exclude: Sequence[tuple[str, Odd]]) -> Iterator[str]:
    """The member `each` of a flow, or a `glob` among its inputs."""
    if not exclude:
        yield f"- each: {{glob: {_quoted(pattern)}}}" if key == "each" else f"  - glob: {_quoted(pattern)}"
        return
    if key == "each":
        yield "- each:"
    yield f"    glob: {_quoted(pattern)}" if key == "each" else f"  - glob: {_quoted(pattern)}"
    yield _beside("    exclude:", "once a file is mended, take its line away")
    for text, one in exclude:
        yield f"    - {_quoted(text)}    # {escaped(one.why)}"


def _other_kinds(plan: Proposal, look: FolderScan, prefix: str) -> Iterator[str]:
    """Files of the other kinds, as flows that are commented out: nobody shall pay for a README that was taken for a prompt."""
    for one in TEMPLATES:
        paths = look.files[one.kind]
        if one.kind == plan.kind or not paths:
            continue
        yield ""
        yield f"# There are also {_counted(len(paths), one.kind)}, left out:"
        for pattern, _ in _patterns(paths, (), prefix):
            yield f"# - each: {{glob: {_quoted(pattern)}}}"
            yield '#   name: "{path}"'
            yield f"#   template: {one.name}"
            yield '#   inputs: ["{path}"]'


def _counted(number: int, kind: str) -> str:
    return f"{number:,} {WORDS[kind][number != 1]}"


def counted(plan: Proposal) -> str:
    """The files, in words."""
    return _counted(len(plan.paths), plan.kind)


_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_NO_TEXT: Final = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
_GLOB_MAGIC: Final = re.compile(r"[*?\[]")
# In a pattern: any character that is none, as a byte of a name that is not UTF-8 is read.
_NO_CHARACTER: Final = "[!\x01-\ud7ff\ue000-\U0010ffff]"


def _quoted(text: str) -> str:
    """A YAML scalar that the manifest reads as just this text."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NO_TEXT:
        return text
    return f'"{"".join(map(_escaped, text.replace("$", "$$")))}"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _literal(text: str) -> str:
    """A pattern that matches just this path."""
    made = _GLOB_MAGIC.sub(lambda found: f"[{found[0]}]", text)
    return re.sub("[\ud800-\udfff]", lambda _: _NO_CHARACTER, made)


def _outright(path: str) -> str:
    """`_literal`, spelled so that it counts from the manifest's folder even without a slash in it."""
    made = _literal(path)
    return made if "/" in path else f"./{made}"


def _beside(text: str, comment: str) -> str:
    return f"{text:<38} # {comment}"
