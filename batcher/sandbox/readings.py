"""The readings: one value for every question that flows-api.md leaves open.

In: text such as `id=asset_id,download=raw`. Out: a frozen `Readings`. Made by the command line, the tests and the
admin call; read by `calls` and `render` for every reply. `Readings.table()` is the table of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from .refusals import FormatError


def _one_of(*choices: str, help: str) -> Any:
    """A reading with a fixed set of words; the first is the default."""
    return field(default=choices[0], metadata={"choices": choices, "help": help})


def _number(default: float, help: str) -> Any:
    return field(default=default, metadata={"help": help})


def _status(*choices: int, help: str) -> Any:
    """A reading that is a status code; the first is the default."""
    return field(default=choices[0], metadata={"choices": choices, "help": help})


ENVELOPES = ("named", "bare", "items", "data", "null", "warnings")


@dataclass(frozen=True, slots=True)
class Readings:
    """One way to understand the documentation. The defaults are its most likely meaning."""

    # Names of members
    id: str = _one_of("id", "asset_id", "both", help="the id of an asset in listings and single assets")
    flow_id: str = _one_of("id", "flow_id", "both", help="the id of a flow in GET /flows")
    create: str = _one_of("flow_id", "id", "both", help="the id of a single flow: in POST, GET and PATCH")
    state: str = _one_of("state", "status", "both", help="the state of a flow")
    template_name: str = _one_of("name", "template_name", help="the name of a template (and `id` or `template_id`)")
    template_types: str = _one_of(
        "input_types", "inputs", "mime_types", "absent", help="where a template lists its input types"
    )
    # Spellings
    jpeg: str = _one_of("image/jpeg", "image/jpg", help="JPEG in GET /templates; both are taken")
    prompt: str = _one_of("text/plain", "prompt", help="the type of a text input in GET /templates")
    ready: str = _one_of("available", "ready", help="the status of an input that is ready")
    processed: str = _one_of("time", "bool", "null", help="the member `processed` of an asset")
    time: str = _one_of("iso", "epoch", help="timestamps")
    reason: str = _one_of(
        "none", "error", "message", "detail", "reason", "status_message", "object", "list", help="where a failed flow says why"
    )
    reason_in: str = _one_of("both", "flow", "flows", help="the replies that have it: of one flow, the list, or both")
    # Shapes of replies
    upload: str = _one_of("id", "asset_id", "none", "empty", help="reply to an upload; none: an object without id")
    action: str = _one_of("flow", "state", "empty", help="reply to PATCH: the flow, its id and state, no body")
    delete: str = _one_of("json", "204", help="reply to DELETE")
    flow_in: str = _one_of("none", "flow", "data", help="the member that a single flow stands in: in POST, GET and PATCH")
    flows: str = _one_of(*ENVELOPES, help="envelope of GET /flows; null: in place of an empty list")
    inputs: str = _one_of(*ENVELOPES, help="envelope of the inputs; data: a list within an object")
    outputs: str = _one_of(*ENVELOPES, help="envelope of the outputs; warnings: an empty list before it")
    pages: str = _one_of(
        *("none", "page", "offset", "cursor", "next", "token", "page_token", "next_page", "has_more", "last_id", "total"),
        *("link", "headers", "cap"),
        help="how lists are paginated; cap: cut off without a word",
    )
    paged: str = _one_of("flows", "all", help="which lists are: GET /flows, or those of inputs and outputs, too")
    page_size: int = _number(50, help="items on a page: the default and the most")
    pages_in: str = _one_of(
        "top", "meta", "pagination", "paging", "page_info", "_links", help="where what leads on stands"
    )
    pages_place: str = _one_of("after", "before", help="whether that is after the list or before it")
    page_params: str = _one_of("honoured", "ignored", "refused", help="what asks for another page")
    page_first: str = _one_of("full", "empty", help="empty: the first page shows nothing, and leads on")
    page_end: str = _one_of("end", "circle", help="circle: the last page leads to the first one")
    order: str = _one_of("asc", "desc", help="direction of sort_by")
    download: str = _one_of("json", "raw", help="GET …/outputs/{id}: a data URI in JSON, or the bytes")
    errors: str = _one_of("detail", "message", "html", help="bodies of refusals")
    # Words for the ends of a flow
    completed: str = _one_of(
        "completed", "succeeded", "success", "done", "finished", "archived", help="the state of a flow that is completed"
    )
    failed: str = _one_of("failed", "error", "errored", "expired", "timeout", help="the state of a flow that failed")
    aborted: str = _one_of("aborted", "cancelled", "canceled", help="the state of a flow that was aborted")
    # Outputs
    fewer: int = _number(0, help="outputs that a flow lists less than it has inputs")
    output_delay: float = _number(0.0, help="seconds after a flow's end in which it lists its first output only")
    trailing: int = _number(0, help="bytes that follow the declared end of each GLB")
    # Behaviour
    input_processing: float = _number(0.0, help="seconds that an input is `processing` after its upload")
    data_prompt: str = _one_of("refuse", "text", help="a prompt that starts with `data:`")
    # Status codes
    illegal: int = _status(409, 422, 400, help="an illegal transition, or an upload to a flow that is not created")
    start_twice: int = _status(409, 422, 400, 200, help="a second start; 200 changes nothing")
    empty_start: int = _status(422, 409, 400, 200, help="a start without inputs; 200 allows it")
    bad_json: int = _status(422, 400, help="a body that is not JSON")
    bad_mime: int = _status(422, 415, 400, help="a type that the template does not take")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Readings from `name=value,name=value`. Raises FormatError."""
        return cls().with_text(text)

    def with_text(self, text: str) -> Self:
        """A copy with the values that `text` names. Raises FormatError."""
        pairs: dict[str, str] = {}
        for term in filter(None, (term.strip() for term in text.split(","))):
            name, separator, value = term.partition("=")
            if not separator:
                raise FormatError(f"reading {term!r}: write name=value")
            pairs[name.strip()] = value.strip()
        return self.with_values(pairs)

    def with_values(self, values: Mapping[str, object]) -> Self:
        """A copy with `values`, checked. Raises FormatError."""
        known = {each.name: each for each in fields(self)}
        changes: dict[str, object] = {}
        for name, value in values.items():
            if name not in known:
                raise FormatError(f"reading {name!r} is unknown; known: {', '.join(known)}")
            changes[name] = _parsed(name, value, known[name].default, known[name].metadata.get("choices"))
        return replace(self, **changes)  # type: ignore[arg-type]  # checked against each field above

    def as_dict(self) -> dict[str, object]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def table(cls) -> list[tuple[str, str, str]]:
        """Rows (name, values with the default first, meaning) for help and documentation."""
        return [
            (each.name, " ".join(map(str, each.metadata.get("choices", (each.default,)))), each.metadata["help"])
            for each in fields(cls)
        ]


def _parsed(name: str, value: object, default: object, choices: tuple[object, ...] | None) -> object:
    """`value` in the type of the reading's default. Raises FormatError."""
    parsed: str | int | float
    try:
        match default:
            case int():
                parsed = int(str(value))
            case float():
                parsed = float(str(value))
            case _:
                parsed = str(value)
    except ValueError as error:
        raise FormatError(f"reading {name}={value}: expected a number") from error
    if choices and parsed not in choices:
        raise FormatError(f"reading {name}={value}: expected one of {', '.join(map(str, choices))}")
    if not choices and not (1 if name == "page_size" else 0) <= float(parsed) < float("inf"):
        raise FormatError(f"reading {name}={value}: too small or too large")
    return parsed
