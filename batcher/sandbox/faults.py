"""Faults: what may go wrong on the way, as values, and the text they are written in.

In: text such as `upload:p=0.2,lost_reply=close`, or objects from YAML or JSON. Out: frozen `Fault`s. Read by the
command line, the tests and the admin call; chosen from by `fault_plan`, carried out by `mischief` and `server`.

    fault   := [calls ":"] term {"," term}
    calls   := "*" | call {"+" call}
    term    := selector | effect | option          each as word=value; at most one effect besides latency
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .refusals import FormatError

CALLS: Final = (
    *("templates", "create", "flows", "flow", "start", "abort", "delete"),
    *("upload", "inputs", "input", "outputs", "output"),
)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB|)\Z")
_BYTES = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_duration(text: str) -> float:
    """Seconds from `50ms`, `3s`, `2m` or `1.5`. Raises ValueError."""
    match = _DURATION.match(text)
    if match is None:
        raise ValueError("a duration such as 50ms, 3s or 2m")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Bytes from `50MB`, `1GiB` or `4096`. Raises ValueError."""
    match = _SIZE.match(text)
    if match is None:
        raise ValueError("a size such as 50MB, 64KiB or 4096")
    return int(float(match[1]) * _BYTES[match[2]])


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number from 1")
    return int(text)


def _status(text: str) -> int:
    if not text.isdecimal() or not 200 <= int(text) <= 599:
        raise ValueError("a status from 200 to 599")
    return int(text)


def _probability(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError("a probability from 0 to 1")
    return value


def _flag(text: str) -> bool:
    if text not in ("1", "true"):
        raise ValueError("1, or the word alone")
    return True


def _retry_after(text: str) -> str:
    if not re.fullmatch(r"(date:)?-?\d+(\.\d+)?", text):
        raise ValueError("seconds, as 7, or date:7")
    return text


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("a URL")
    return text


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return parse


@dataclass(frozen=True, slots=True)
class Effect:
    """A kind of fault: how its value is read and when it strikes.

    `phase`: `gate` before the body is read; `body` while it is; `commit` changes what is committed; `before` and
    `after` the commit. An effect of the last two kinds may be moved by `when=`; an outage may begin after the reply.
    """

    phase: str
    parse: Callable[[str], Any]
    help: str


EFFECTS: Final[Mapping[str, Effect]] = {
    "capacity": Effect("gate", _count, "requests at a time; more get 503, or wait with over=queue"),
    "drop_before": Effect("gate", _flag, "connection reset before the body is read"),
    "early_reply": Effect("gate", _status, "replies with this status before the body is read"),
    "outage": Effect(
        "gate", parse_duration, "connections reset, then refused, for this long; once, unless count=; when=after: replies first"
    ),
    "drop_mid": Effect("body", _flag, "connection reset in the middle of the body; nothing is committed"),
    "slow_read": Effect("body", parse_size, "the body is read at this many bytes per second, however long it takes"),
    "late_commit": Effect("commit", parse_duration, "no reply (or status= at once); committed after this long"),
    "fail_flow": Effect("commit", _flag, "the flow that this call starts fails"),
    "input_error": Effect("commit", _flag, "the input of this upload gets the status `error`"),
    "status": Effect("before", _status, "this status instead of the call"),
    "redirect": Effect("before", _url, "307 to this URL; a URL without path keeps the call's"),
    "error_after_commit": Effect("after", _status, "this status, although it is committed"),
    "lost_reply": Effect("after", _one_of("close", "reset", "hang"), "committed; no reply"),
    "truncate": Effect("after", _flag, "the reply ends half-way"),
    "garbage": Effect(
        "after",
        _one_of("json", "html", "empty", "binary", "text", "plain", "error", "created"),
        "status 200 with another body",
    ),
    "address": Effect("after", _url, "`data` is a signed address at this URL; one without path gets the call's"),
    "trickle": Effect("after", _count, "the reply's body at this many bytes per second"),
    "stall": Effect("after", _flag, "headers, then nothing"),
    "huge": Effect("after", parse_size, "a reply of this many bytes"),
    "corrupt_list": Effect(
        "after",
        _one_of("missing", "twice", "foreign", "digest", "shuffle"),
        "a listing with an item hidden, repeated, added, with another digest, or in another order",
    ),
    "wrong_types": Effect("after", _flag, "members of the reply replaced by values of other types"),
}

SELECTORS: Final[Mapping[str, Callable[[str], Any]]] = {
    "p": _probability,  # strikes with this probability
    "nth": _count,  # the K-th matching call only; calls are counted from 1
    "every": _count,  # each N-th
    "first": _count,  # the first K
    "after": _count,  # those after the first K
    "count": _count,  # at most M times
    "flow": str,  # the flow's id, or text in its `additional`
}

OPTIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "latency": parse_duration,  # before everything else; alone, it is a fault of its own, and adds up
    "retry_after": _retry_after,  # seconds, or date:seconds
    # Of an error. echo: says again what stood in Authorization; input: as FastAPI does, what was sent; quota: as OpenAI does
    "body": _one_of("json", "html", "empty", "echo", "xml", "problem", "message", "errors", "quota", "input"),
    "when": _one_of("before", "after"),  # the commit
    "over": _one_of("503", "429", "queue"),  # what a call above `capacity` gets
    "status": _status,  # with late_commit: the reply that is given at once
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `calls` empty: every call. `effect` empty: latency only. `text` is how it was written."""

    text: str
    calls: frozenset[str] = frozenset()
    effect: str = ""
    value: Any = None
    phase: str = ""
    latency_s: float = 0.0
    p: float | None = None
    nth: int | None = None
    every: int | None = None
    first: int | None = None
    after: int | None = None
    count: int | None = None
    flow: str | None = None
    retry_after: str | None = None
    body: str = "json"
    over: str = "503"
    status: int | None = None


def parse_fault(text: str) -> Fault:
    """A fault from its text. Raises FormatError, which says what would be right."""
    head, colon, rest = text.strip().partition(":")
    # A colon also stands in values (redirect=http://…, retry_after=date:7): there, what is before it has a "=".
    calls_text, terms_text = (head, rest) if colon and "=" not in head else ("*", text.strip())
    calls = frozenset(filter(None, (call.strip() for call in re.split(r"[+|]", calls_text)))) - {"*"}
    for call in calls - set(CALLS):
        raise FormatError(f"fault {text!r}: {call!r} is no call; known: *, {', '.join(CALLS)}")
    terms: dict[str, str] = {}
    for term in filter(None, (term.strip() for term in terms_text.split(","))):
        word, separator, value = term.partition("=")
        if word in terms:
            raise FormatError(f"fault {text!r}: {word} is there twice")
        terms[word] = value if separator else "1"
    return _make(text, calls, terms)


def _make(text: str, calls: frozenset[str], terms: Mapping[str, str]) -> Fault:
    if not terms:
        raise FormatError(f"fault {text!r}: it says nothing")
    effects = [word for word in terms if word in EFFECTS]
    if "late_commit" in effects and "status" in effects:
        effects.remove("status")  # there it is an option
    if len(effects) > 1:
        raise FormatError(f"fault {text!r}: one effect at a time, not {' and '.join(effects)}; write two faults")
    values: dict[str, Any] = {}
    for word, value in terms.items():
        parse = EFFECTS[word].parse if word in effects else SELECTORS.get(word) or OPTIONS.get(word)
        if parse is None:
            known = ", ".join((*EFFECTS, *SELECTORS, *OPTIONS))
            raise FormatError(f"fault {text!r}: {word!r} is unknown; known: {known}")
        try:
            values[word] = parse(value)
        except ValueError as error:
            raise FormatError(f"fault {text!r}: {word}={value}: expected {error}") from error
    effect = effects[0] if effects else ""
    if not effect and "latency" not in values:
        raise FormatError(f"fault {text!r}: an effect is missing; known: latency, {', '.join(EFFECTS)}")
    phase, when = EFFECTS[effect].phase if effect else "", values.pop("when", None)
    if when and phase not in ("before", "after") and (effect, when) != ("outage", "after"):
        raise FormatError(f"fault {text!r}: when= does not fit {effect or 'latency'}")
    if effect == "outage":
        values.setdefault("count", 1)  # else the first call after it would begin the next one
    return Fault(
        text=text,
        calls=calls,
        effect=effect,
        value=values.pop(effect, None),
        phase=when or phase,
        latency_s=values.pop("latency", 0.0),
        **values,
    )


def fault_from(item: object) -> Fault:
    """A fault from its text, or from an object with the same words and a member `calls`. Raises FormatError."""
    if isinstance(item, str):
        return parse_fault(item)
    if not isinstance(item, dict):
        raise FormatError(f"fault {item!r}: write text or an object")
    terms = dict(item)
    calls = terms.pop("calls", "*")
    calls_text = "+".join(map(str, calls)) if isinstance(calls, list) else str(calls)
    return parse_fault(f"{calls_text}:" + ",".join(f"{word}={_term_text(value)}" for word, value in terms.items()))


def _term_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def faults_from(document: object) -> list[Fault]:
    """Faults from a list of texts or objects, or from an object with such a list as `faults`."""
    items = document.get("faults") if isinstance(document, dict) and "faults" in document else document
    return [fault_from(item) for item in (items if isinstance(items, list) else [items] if items else [])]


def load_faults(path: Path) -> list[Fault]:
    """Faults from a YAML or JSON file. Raises OSError and FormatError."""
    text = path.read_text("utf-8")
    try:
        if path.suffix == ".json":
            return faults_from(json.loads(text))
        import yaml  # here, so that a sandbox without a file of faults does not need it

        return faults_from(yaml.safe_load(text))
    except FormatError:
        raise
    except Exception as error:  # YAML's errors and JSON's share no class but this
        raise FormatError(f"{path}: {error}") from error
