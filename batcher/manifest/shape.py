"""Whether the tree has a manifest's shape: what is wrong is reported in short sentences, at its node.

In: the tree of `document`. Out: the same tree without the members and items that are wrong (each is noted in
`Findings`), so that the checks that follow still find what is wrong elsewhere. Called by `sound`, where that does not know the
tree to be right.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from batcher.core.suggestion import did_you_mean
from batcher.manifest import keys, keys_of_inputs, keys_of_settings
from batcher.manifest.environment import API_KEY
from batcher.manifest.findings import Findings, Mark, harmless, in_backticks, quoted, suggestion
from batcher.manifest.keys_base import EACH_KINDS, FILE, GLOB, INPUT_KINDS, TABLE, TEXT
from batcher.manifest.sound import BatchSettings
from batcher.manifest.tree import BROKEN, Map, Seq, Value

_Loc: TypeAlias = tuple[int | str, ...]

_KEY_LIKE: Final = re.compile(
    r"(?:generio[_-]?|x[_-]?)?(?:api[_-]?)?(?:access[_-]?|auth[_-]?|secret[_-]?|bearer[_-]?)?"
    r"(?:key|token|authorization|secret|password|credentials?|bearer|auth)(?:[_-]?file)?",
    re.IGNORECASE,
)

_EXPECTED: Final = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_INPUT_MODELS: Final[dict[str, type[BaseModel]]] = {
    FILE: keys_of_inputs.FileInput,
    TEXT: keys_of_inputs.TextInput,
    GLOB: keys_of_inputs.GlobInput,
    TABLE: keys_of_inputs.TableInput,
}
_EACH_MODELS: Final[dict[str, type[BaseModel]]] = {GLOB: keys.EachGlob, TABLE: keys.EachTable}
_INPUT_ADVICE: Final = "write a path, or one of `file`, `glob`, `text`, `table`"
_EACH_ADVICE: Final = "write `glob` or `table`"


def check(tree: Map, findings: Findings) -> BatchSettings | None:
    """The manifest's settings, typed; or None, and the tree is left without what is wrong."""
    if not any(key in tree for key in ("flows", "include", "profiles")):
        findings.add(tree.start, "`flows` is missing", "add a list of flows; batcher help manifest shows how")
    try:
        return keys.ManifestShape.model_validate(tree).settings()
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        for detail in details:
            _tell(tree, detail, findings)
        for detail in details:  # only now: every position above is found by walking the tree
            if detail["type"] != "missing":
                _prune(tree, detail["loc"])
        return None


def _tell(tree: Map, detail: ErrorDetails, findings: Findings) -> None:
    kind, loc = detail["type"], detail["loc"]
    value, mark, key_mark = _locate(tree, loc)
    if value is BROKEN:
        return  # noted when the text was read
    name = loc[-1]
    if kind == "extra_forbidden":
        _tell_unknown(str(name), loc, key_mark, findings)
    elif kind == "missing":
        _tell_missing(str(name), mark, findings)
    elif kind == "union_tag_not_found":
        _tell_no_kind(value, mark, each=name == "each", findings=findings)
    elif kind == "value_error":
        message = str(detail["ctx"]["error"])
        if loc[0] == "limits":
            findings.add(mark, f"`{name}` cannot be {quoted(value)}", message)
        else:
            findings.add(mark, message, _advice(loc, value))
    elif kind == "too_short":
        findings.add(mark, "a flow needs at least one input", _INPUT_ADVICE)
    elif kind in ("greater_than_equal", "less_than_equal"):
        bound = "at least" if kind == "greater_than_equal" else "at most"
        limit = detail["ctx"]["ge" if kind == "greater_than_equal" else "le"]
        findings.add(mark, f"`{name}` must be {bound} {limit}, not {quoted(value)}")
    else:
        expected = _EXPECTED.get(kind, "something else")
        findings.add(mark, f"{_subject(loc)} must be {expected}, not {quoted(value)}", _cure(kind, value, loc))


def _tell_unknown(name: str, loc: _Loc, mark: Mark, findings: Findings) -> None:
    if _KEY_LIKE.fullmatch(name):
        findings.add(mark, f"`{harmless(name)}`: a key has no place in a manifest", f"set {API_KEY} or {API_KEY}_FILE")
        return
    known = list(_model_at(loc[:-1]).model_fields)
    where = _where(loc[:-1])
    if loc[-2:-1] and loc[-2] in _INPUT_MODELS and name in INPUT_KINDS:
        kind = str(loc[-2])[1:]
        findings.add(mark, f"an input cannot be both `{kind}` and `{name}`", "make two inputs of it")
    elif loc[-2:-1] == (TEXT,) and name == "mime":
        findings.add(mark, "`mime` is for files: a prompt is always text/plain", "leave it out")
    else:
        findings.add(mark, f"unknown key `{harmless(name)}` in {where}", suggestion(name, known, "the keys here are"))


def _tell_missing(name: str, mark: Mark, findings: Findings) -> None:
    match name:
        case "version":
            findings.add(mark, "`version` is missing", "add `version: 1`")
        case "name":
            findings.add(mark, "this flow has no `name`", "give it one that is unique in the manifest")
        case "inputs":
            findings.add(mark, "this flow has no `inputs`", "add a list of them; " + _INPUT_ADVICE)
        case _:
            findings.add(mark, f"`{name}` is missing", "add it")


def _tell_no_kind(value: Value, mark: Mark, *, each: bool, findings: Findings) -> None:
    subject, advice = ("`each`", _EACH_ADVICE) if each else ("an input", _INPUT_ADVICE)
    if not isinstance(value, Map):
        null = "; a path that is called ~ or null needs quotes" if value is None and not each else ""
        findings.add(mark, f"{subject} cannot be {quoted(value)}", advice + null)
        return
    kinds = EACH_KINDS if each else INPUT_KINDS
    for key in value:
        close = did_you_mean(key, kinds, spell=in_backticks)
        if close:
            findings.add(value.key_mark(key), f"unknown key `{harmless(key)}` in {subject}", close)
            return
    findings.add(mark, f"{subject} does not say what it takes", advice)


def _advice(loc: _Loc, value: Value) -> str:
    match loc:
        case ("version",):
            return "remove the quotes" if value == "1" else "this is the only version there is; write `version: 1`"
        case ("notify", "ping"):
            return "write one like https://hc-ping.com/ID, as your service of pings gives it"
        case ("notify", "command", *_):
            return "put words that are no text in quotes"
        case ("metrics",):
            return "write one that ends in .prom"
        case ("endpoint",):
            return "leave `endpoint` out for the service's own address"
        case _:
            return "rename it"


def _cure(kind: str, value: Value, loc: _Loc) -> str:
    if kind == "string_type":
        if value is None:
            return "give it a value, or leave it out"
        return "put it in quotes" if not isinstance(value, dict | list) else ""
    if kind == "int_type":
        return "remove the quotes" if isinstance(value, str) and value.isdecimal() else "write digits only"
    if kind == "dict_type" and loc[-1] == "additional":
        return "a flow's `additional` is an object; only an input's may be any value"
    if kind == "list_type":
        return "begin each item with `- `"
    return ""


def _subject(loc: _Loc) -> str:
    if "exclude" in loc:
        return "`exclude`"
    match loc:
        case ("flows", int()):
            return "a flow"
        case ("profiles", str() as name):
            return f"the profile `{harmless(name, 40)}`"
        case ("include", int()):
            return "an included file"
        case (*_, str() as name) if not name.startswith("\0"):
            return f"`{name}`"
        case _:
            return "an input"


def _where(parent: _Loc) -> str:
    match parent:
        case ():
            return "the manifest"
        case ("flows", int()):
            return "a flow"
        case ("profiles", str() as name):
            return f"the profile `{harmless(name, 40)}`"
        case ("flows", int(), "inputs", int(), str() as tag):
            return f"a `{tag[1:]}` input"
        case (*_, "each", _):
            return "`each`"
        case _:
            return f"`{parent[-1]}`"


def _model_at(loc: _Loc) -> type[BaseModel]:
    match loc:
        case ("defaults",):
            return keys.DefaultsShape
        case ("profiles", str()):
            return keys.ProfileShape
        case ("limits",):
            return keys_of_settings.LimitsShape
        case ("notify",):
            return keys_of_settings.NotifyShape
        case ("notify", "command"):
            return keys_of_settings.HooksShape
        case ("flows", int()):
            return keys.FlowShape
        case ("flows", int(), "inputs", int(), str() as tag):
            return _INPUT_MODELS[tag]
        case ("flows", int(), "each", str() as tag):
            return _EACH_MODELS[tag]
        case _:
            return keys.ManifestShape


def _steps(loc: _Loc) -> list[int | str]:
    """The path through the tree: pydantic puts the tags of unions into it."""
    return [step for step in loc if not (isinstance(step, str) and step.startswith("\0"))]


def _locate(tree: Map, loc: _Loc) -> tuple[Value, Mark, Mark]:
    """The value at `loc`, its position, and its key's position; for a missing member, those of its owner."""
    value: Any = tree
    mark: Mark = tree.start
    key_mark: Mark = tree.start
    for step in _steps(loc):
        if not _holds(value, step):
            break
        if isinstance(value, Map):
            mark, key_mark = value.mark(str(step)), value.key_mark(str(step))
        else:
            mark = key_mark = value.marks[int(step) + 1]
        value = value[step]
    return value, mark, key_mark


def _prune(tree: Map, loc: _Loc) -> None:
    """Puts BROKEN in the place of what is wrong; the positions of what stands beside it stay true."""
    owner: Any = tree
    *path, last = _steps(loc)
    for step in path:
        if not _holds(owner, step):
            return  # a part of something that is marked already
        owner = owner[step]
    if _holds(owner, last):
        owner[last] = BROKEN


def _holds(owner: Any, step: int | str) -> bool:
    return step in owner if isinstance(owner, Map) else isinstance(owner, Seq) and isinstance(step, int)
