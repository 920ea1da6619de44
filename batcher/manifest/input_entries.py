"""What an entry under `inputs` says: from the tree to an `Input`, or to an `Entry` that has to be expanded.

In: an entry of the tree. Out: an `Input` where nothing is left to expand, else an `Entry`; what is wrong is noted.
Called by `flow_entries`.
"""

from __future__ import annotations

from collections.abc import Callable

from batcher.core.model import ABSENT, JSON, TAG, Absent, Input, Place
from batcher.manifest import row_sources
from batcher.manifest.findings import Findings, Mark, Unfit
from batcher.manifest.inputs import Entry, Item, file_input, text_input
from batcher.manifest.paths import Base, spelled_path
from batcher.manifest.row_sources import Source
from batcher.manifest.template import NO_SCOPE, Const, Name, Node, Text, compile_text, compile_value, constant
from batcher.manifest.tree import BROKEN, Map, Seq, Value
from batcher.manifest.values import check_key, check_mime, check_text


def compile_entry(raw: Value, mark: int, base: Base, findings: Findings, *, active: bool) -> Input | Entry | None:
    """What an entry says. `active`: the flow has columns. None: a problem was noted."""
    place = findings.place(mark)
    if not active:
        found = _plain_input(raw, place, base)
        if found is not None:
            return found
    if isinstance(raw, str):
        raw_map = Map.made(mark)
        raw_map["file"] = raw
        return compile_entry(raw_map, mark, base, findings, active=active)
    if not isinstance(raw, Map):
        return None
    source = compile_source(raw, findings, active=active)
    inside = active or source is not None
    item = _compile_item(raw, findings, active=inside)
    if item is None:
        return None
    if source is None and all(isinstance(node, Const | None) for node in item.nodes()):
        try:
            return item.bind(NO_SCOPE, base)((), place)
        except Unfit:
            return None  # noted by the checks of its members
    return Entry(item, source, place)


def _plain_input(raw: Value, place: Place, base: Base) -> Input | None:
    """The input of an entry that nothing has to be expanded in. None: it is another, or something is wrong, and is then looked
    at member by member, with the place of each: of most entries only this one is needed."""
    try:
        if isinstance(raw, str):
            return file_input(spelled_path(str(raw)), base, None, ABSENT, place, None)
        if not isinstance(raw, Map) or "glob" in raw or "table" in raw:
            return None
        additional = _plain_additional(raw)
        key = _plain_text(raw, "key", check_key)
        text = raw.get("text")
        if text is None:
            path, mime = spelled_path(_required(raw.get("file"))), _plain_text(raw, "mime", check_mime)
            return file_input(path, base, mime, additional, place, key)
        return None if "mime" in raw else text_input(check_text(_required(text)), additional, place, key)
    except (Unfit, ValueError):
        return None


def _plain_additional(raw: Map) -> JSON | Absent:
    if "additional" not in raw:
        return ABSENT
    given = raw["additional"]
    if isinstance(given, Map) and TAG in given:
        raise ValueError
    return constant(given)


def _plain_text(raw: Map, key: str, check: Callable[[str], str]) -> str | None:
    given = raw.get(key)
    return None if given is None else check(_required(given))


def _required(given: Value) -> str:
    if not isinstance(given, str):
        raise ValueError
    return str(given)


def compile_source(raw: Map, findings: Findings, *, active: bool) -> Source | None:
    """The `glob` or `table` of an entry, or of `each`; None where there is none, or it is wrong."""
    for kind in ("glob", "table"):
        text = raw.get(kind)
        if isinstance(text, str):
            mark = raw.mark(kind)
            node = compile_text(text, mark, findings, active=active)
            try:
                if kind == "glob":
                    row_sources.check_pattern(node, text)
                    node = row_sources.glob_node(node, text)
                else:
                    row_sources.check_table(node)
            except Unfit as unfit:
                findings.add(mark, unfit.message, unfit.hint)
            return Source(kind, node, mark, _compile_exclude(raw, text, findings, active) if kind == "glob" else ())
    return None


def _compile_exclude(raw: Map, beside: str, findings: Findings, active: bool) -> tuple[tuple[Const | Text, Mark], ...]:
    """The patterns under `exclude`: one, or a list of them."""
    given = raw.get("exclude")
    items: list[tuple[Value, Mark]] = [(given, raw.mark("exclude"))]
    if isinstance(given, Seq):
        items = list(zip(given, given.marks[1:], strict=True))
    made: list[tuple[Const | Text, Mark]] = []
    for text, mark in items:
        if not isinstance(text, str):
            continue
        node = compile_text(text, mark, findings, active=active)
        try:
            row_sources.check_exclude(node, text, beside)
        except Unfit as unfit:
            findings.add(mark, unfit.message, unfit.hint)
        made.append((row_sources.glob_node(node, text), mark))
    return tuple(made)


def _compile_item(raw: Map, findings: Findings, *, active: bool) -> Item | None:
    if "glob" in raw:
        content: Const | Text = Text((Name("path"),), raw.mark("glob"))
        is_text = False
    else:
        if "table" in raw and not _one_content(raw, findings):
            return None
        is_text = raw.get("text") is not None
        found = _checked_text(raw, "text" if is_text else "file", check_text if is_text else spelled_path, findings, active)
        if found is None:
            return None
        content = found
    mime = _checked_text(raw, "mime", check_mime, findings, active)
    if is_text and mime is not None:
        findings.add(raw.key_mark("mime"), "`mime` is for files: a prompt is always text/plain", "leave it out")
    key = _checked_text(raw, "key", check_key, findings, active)
    if isinstance(key, Const) and ("glob" in raw or "table" in raw):
        message = "this `key` is the same for every input, and must differ"
        findings.add(raw.mark("key"), message, 'use a placeholder, like "{sku}" or "{stem}"')
    additional: Node | Absent = ABSENT
    if "additional" in raw:
        check_no_tag(raw["additional"], findings)
        additional = compile_value(raw["additional"], raw.mark("additional"), findings, active=active)
    return Item(is_text, content, mime, additional, key)


def _one_content(raw: Map, findings: Findings) -> bool:
    """Whether a table says which column is the input: `file` or `text`."""
    given = [key for key in ("file", "text") if raw.get(key) is not None]
    if len(given) == 2:
        findings.add(raw.key_mark("text"), "a table's row cannot be both `file` and `text`", "make two inputs of it")
    elif not given:
        findings.add(raw.start, "this table says neither `file` nor `text`", 'add one, like file: "photos/{file}"')
    return len(given) == 1


def _checked_text(raw: Map, key: str, check: Callable[[str], object], findings: Findings, active: bool) -> Const | Text | None:
    text = raw.get(key)
    if not isinstance(text, str):
        return None
    mark = raw.mark(key)
    node = compile_text(text, mark, findings, active=active)
    if isinstance(node, Const):
        try:
            check(str(node.value))
        except Unfit as unfit:
            findings.add(mark, unfit.message, unfit.hint)
    return node


def check_no_tag(raw: Value, findings: Findings) -> None:
    """Notes the member that is batcher's own."""
    if isinstance(raw, Map) and TAG in raw and raw[TAG] is not BROKEN:
        findings.add(raw.key_mark(TAG), f"`additional` may not hold the member `{TAG}`", "batcher puts its tag there")
