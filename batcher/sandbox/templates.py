"""The templates known today: their input types and their parameters (flows-api, Templates known today).

In: a template's name or id, parameters as they were sent, a MIME type. Out: the template, or a `Refusal`.
Called by `calls` and by the store when an input is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .readings import Readings
from .refusals import Refusal, invalid

TEXT = "text/plain"
GLB = "model/gltf-binary"
JPEG = "image/jpeg"

# Spellings that mean the same (flows-api, Templates and What follows).
_SAME_TYPE = {"image/jpg": JPEG, "prompt": TEXT}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a template, as its documentation gives it."""

    name: str
    kind: Literal["choice", "integer", "boolean"]
    default: str | int | bool
    choices: tuple[str, ...] = ()

    def problem(self, value: object) -> tuple[str, str] | None:
        """(message, type) if `value` does not fit, else None."""
        match self.kind:
            case "choice":
                if value not in self.choices:
                    return f"Input should be {' or '.join(map(repr, self.choices))}", "literal_error"
            case "integer":
                if not isinstance(value, int) or isinstance(value, bool):
                    return "Input should be a valid integer", "int_type"
            case "boolean":
                if not isinstance(value, bool):
                    return "Input should be a valid boolean", "bool_type"
        return None


@dataclass(frozen=True, slots=True)
class Template:
    """One template: what it takes, and what may be set."""

    name: str
    template_id: str
    types: tuple[str, ...]
    parameters: tuple[Parameter, ...]

    @property
    def takes_text(self) -> bool:
        return TEXT in self.types

    def takes(self, mime: str) -> bool:
        return canonical_mime(mime) in self.types

    def check(self, parameters: dict[str, Any]) -> None:
        """Raises a Refusal that names every unknown parameter and every wrong value."""
        known = {each.name: each for each in self.parameters}
        problems: list[dict[str, object]] = []
        for name, value in parameters.items():
            found = known[name].problem(value) if name in known else ("Extra inputs are not permitted", "extra_forbidden")
            if found:
                problems.append({"loc": ["body", "parameters", name], "msg": found[0], "type": found[1]})
        if problems:
            raise Refusal(422, problems)


_GENERATE = (
    Parameter("quality", "choice", "high", ("low", "high")),
    Parameter("seed", "integer", -1),
    Parameter("texture", "boolean", True),
)

TEMPLATES = (
    Template("model_generate_fromprompt", "68f0a1c2d3e4f5a6b7c8d901", (TEXT,), _GENERATE),
    Template(
        "model_generate_fromimage",
        "68f0a1c2d3e4f5a6b7c8d902",
        ("image/png", JPEG, "image/tiff", "image/webp"),
        _GENERATE,
    ),
    Template("model_optimize", "68f0a1c2d3e4f5a6b7c8d903", (GLB,), (Parameter("polygon_count", "integer", 100_000),)),
)

_BY_REFERENCE = {reference: each for each in TEMPLATES for reference in (each.name, each.template_id)}


def canonical_mime(mime: str) -> str:
    """One spelling per type: image/jpg is image/jpeg, prompt is text/plain."""
    mime = mime.lower()
    return _SAME_TYPE.get(mime, mime)


def find_template(reference: object) -> Template:
    """The template with this name or id. Raises a Refusal (422)."""
    if not isinstance(reference, str):
        raise invalid(["template"], "Field required" if reference is None else "Input should be a valid string")
    if reference not in _BY_REFERENCE:
        raise invalid(["template"], f"Template {reference!r} does not exist")
    return _BY_REFERENCE[reference]


def describe(template: Template, readings: Readings) -> dict[str, object]:
    """A template as GET /templates shows it."""
    spelling = {JPEG: readings.jpeg, TEXT: readings.prompt}
    by_name = readings.template_name == "name"
    item: dict[str, object] = {
        "name" if by_name else "template_name": template.name,
        "id" if by_name else "template_id": template.template_id,
        "parameters": {
            each.name: {
                "type": each.kind,
                "default": each.default,
                **({"choices": each.choices} if each.choices else {}),
            }
            for each in template.parameters
        },
        "output_types": [GLB],
    }
    if readings.template_types != "absent":
        item[readings.template_types] = [spelling.get(mime, mime) for mime in template.types]
    return item
