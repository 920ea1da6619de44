"""Whether a manifest's tree is as it should be, told without pydantic, whose models take a fifth of a short command.

In: the tree of `document`. Out: its `BatchSettings`. Where something is wrong, or of a seldom kind, `shape` looks in its
turn, which has every key and says what is wrong. What fits here is right there, and comes to the same settings: a test holds
these tables against those models. Called by `load` and `include`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from batcher.core.model import Limits, Notify
from batcher.core.price import parse_price
from batcher.manifest import units, values
from batcher.manifest.findings import Findings, mark_of, quoted
from batcher.manifest.tree import BROKEN, Map, Seq, Value

MAX_CONCURRENCY: Final = 1024  # beyond 1,000 requests in flight one process falls to a quarter of its speed
MAX_RETRIES: Final = 100

_Check = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """What a manifest says of the whole batch; None: nothing."""

    batch: str | None = None
    endpoint: str | None = None
    limits: Limits | None = None
    notify: Notify | None = None
    metrics: str | None = None


def mapping(tree: Value, findings: Findings, file: int = 0) -> Map | None:
    """The tree of a whole manifest file, number `file`, where it is a mapping; else the problem is noted."""
    if isinstance(tree, Map):
        return tree
    if tree is not BROKEN:
        mark = tree.marks[0] if isinstance(tree, Seq) else mark_of(0, 0, file)
        findings.add(mark, f"a manifest is a mapping, not {quoted(tree)}", "begin with `version: 1` and `flows:`")
    return None


def check(tree: Map, findings: Findings) -> BatchSettings | None:
    """The manifest's settings; or None, and the tree is left without what is wrong, each of which is noted."""
    found = settings(tree)
    if found is not None:
        return found
    from batcher.manifest import shape  # pydantic, and models of all keys: 80 ms that a sound manifest does without

    return shape.check(tree, findings)


def settings(tree: Map) -> BatchSettings | None:
    """The settings of a tree in which nothing is wrong; None where something is, or may be."""
    try:
        values.check_version(tree.get("version"))
        return _settings(tree) if _fits(tree, MANIFEST) and _has_flows(tree) else None
    except ValueError:
        return None


def _settings(tree: Map) -> BatchSettings:
    parsed = {key: parse(tree[key]) for key, parse in _PARSED.items() if key in tree}
    return BatchSettings(**parsed)


def _has_flows(tree: Map) -> bool:
    return "flows" in tree or "include" in tree or "profiles" in tree


# --- BatchSettings: parsed as the models do it; ValueError where one is wrong ------------------------------------------------


def _whole(least: int, most: float = float("inf")) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError
        return value

    return parse


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


LIMITS: Final[dict[str, tuple[str, Callable[[Any], object]]]] = {  # the field of `Limits`, and what reads it
    "concurrency": ("concurrency", _whole(1, MAX_CONCURRENCY)),
    "rate": ("rate_per_s", units.parse_rate),
    "bandwidth": ("bandwidth_bytes_per_s", units.parse_bandwidth),
    "memory": ("memory_bytes", values.check_memory),
    "timeout": ("timeout_s", values.check_timeout),
    "retries": ("retries", _whole(0, MAX_RETRIES)),
    "settle": ("settle_s", units.parse_duration),
    "min_age": ("min_age_s", units.parse_duration),
    "max_duration": ("max_duration_s", values.check_max_duration),
    "max_starts": ("max_starts", _whole(1)),
    "starts_per_run": ("starts_per_run", _whole(1)),
    "max_bytes": ("max_bytes", values.check_max_bytes),
    "check_images": ("check_images", _boolean),
    "max_pixels": ("max_pixels", _whole(1)),
    "price_per_start": ("price_per_start", parse_price),
}  # max_cost depends on another member: left to the models
HOOKS: Final = ("on_success", "on_failure", "on_problem")


def _parsed(value: object, parsers: Mapping[str, tuple[str, Callable[[Any], object]]]) -> dict[str, Any]:
    """The members as fields. Raises ValueError where one is wrong, null or unknown."""
    if type(value) is not Map or not value.keys() <= parsers.keys() or None in value.values():
        raise ValueError
    return {parsers[key][0]: parsers[key][1](member) for key, member in value.items()}


def _limits(value: object) -> Limits:
    return Limits(**_parsed(value, LIMITS))


def _notify(value: object) -> Notify:
    hooks = {name: (name, values.check_hook) for name in HOOKS}
    members = {"ping": ("ping", values.parse_ping), "command": ("command", lambda given: _parsed(given, hooks))}
    given = _parsed(value, members)
    return Notify(given.get("ping"), **given.get("command", {}))


_PARSED: Final[dict[str, Callable[[Any], Any]]] = {
    "batch": values.check_batch, "endpoint": values.parse_endpoint, "limits": _limits, "notify": _notify,
    "metrics": values.check_metrics,
}  # fmt: skip


# --- Flows and inputs: looked at only, for they are read out of the tree --------------------------------------------------


def _fits(value: Map, members: Mapping[str, _Check]) -> bool:
    """Whether each member is known, and fits."""
    for key, member in value.items():
        check = members.get(key)
        if check is None or not check(member):
            return False
    return True


def _anything(value: object) -> bool:
    return True


def _text(value: object) -> bool:
    return isinstance(value, str)


def _text_or_null(value: object) -> bool:
    return value is None or isinstance(value, str)


def _object_or_null(value: object) -> bool:
    return value is None or type(value) is Map


def _texts(value: object) -> bool:
    return type(value) is Seq and all(isinstance(item, str) for item in value)


def _patterns(value: object) -> bool:
    return _text_or_null(value) or _texts(value)


def _object_of(members: Mapping[str, _Check]) -> _Check:
    return lambda value: type(value) is Map and _fits(value, members)


def _each(value: object) -> bool:
    return value is None or _one_of(value, EACH)


def _one_of(value: object, kinds: Mapping[str, Mapping[str, _Check]]) -> bool:
    """Whether it is of one of the kinds, each of which is told by the member that gives it its name."""
    if type(value) is not Map:
        return False
    for kind, members in kinds.items():
        if kind in value:
            return _fits(value, members)
    return False


def _inputs(value: object) -> bool:
    return type(value) is Seq and bool(value) and all(isinstance(item, str) or _one_of(item, INPUTS) for item in value)


def _flows(value: object) -> bool:
    return type(value) is Seq and all(
        type(flow) is Map and "name" in flow and "inputs" in flow and _fits(flow, FLOW) for flow in value
    )


def _profiles(value: object) -> bool:
    return value is None or (type(value) is Map and all(map(_object_of(PROFILE), value.values())))


_BESIDE: Final[dict[str, _Check]] = {"key": _text_or_null, "additional": _anything}
INPUTS: Final[dict[str, dict[str, _Check]]] = {  # by kind, in the order in which they are told apart
    "glob": {"glob": _text, "exclude": _patterns, "mime": _text_or_null, **_BESIDE},
    "table": {"table": _text, "file": _text_or_null, "text": _text_or_null, "mime": _text_or_null, **_BESIDE},
    "text": {"text": _text, **_BESIDE},
    "file": {"file": _text, "mime": _text_or_null, **_BESIDE},
}
EACH: Final[dict[str, dict[str, _Check]]] = {"glob": {"glob": _text, "exclude": _patterns}, "table": {"table": _text}}
DEFAULTS: Final[dict[str, _Check]] = {
    "template": _text_or_null, "parameters": _object_or_null, "additional": _object_or_null
}  # fmt: skip
PROFILE: Final[dict[str, _Check]] = {**DEFAULTS, "extends": _text_or_null}
FLOW: Final[dict[str, _Check]] = {**PROFILE, "name": _text, "flow_id": _text_or_null, "each": _each, "inputs": _inputs}
MANIFEST: Final[dict[str, _Check]] = {
    "version": _anything, **dict.fromkeys(_PARSED, _anything), "include": _texts, "defaults": _object_of(DEFAULTS),
    "profiles": _profiles, "flows": _flows,
}  # fmt: skip
