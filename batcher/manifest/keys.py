"""The keys of a manifest: which there are, of which types, and what each is for.

In: the plain tree that `document` reads. Out: pydantic's errors (put into words by `shape`) and the JSON Schema for
editors. What depends on more than one member, or on what a placeholder becomes, is checked by `flows` and `inputs`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, PlainValidator, Tag, WithJsonSchema

from batcher.core.model import TAG
from batcher.manifest import values
from batcher.manifest.keys_base import EACH_KINDS, GLOB, TABLE, Exclude, Shape
from batcher.manifest.keys_of_inputs import Input
from batcher.manifest.keys_of_settings import Batch, Endpoint, LimitsShape, NotifyShape, Version
from batcher.manifest.sound import BatchSettings

Parameters = Annotated[
    dict[str, Any] | None,
    Field(
        description="The template's parameters; any JSON values. Null removes a default.",
        examples=[{"quality": "low", "texture": True}],
    ),
]
FlowAdditional = Annotated[
    dict[str, Any] | None,
    Field(
        description=f"An object stored with the flow; the member `{TAG}` is batcher's own. Null removes a default.",
        examples=[{"campaign": "autumn"}],
    ),
]


class EachGlob(Shape):
    """One flow per file that matches; {path} {name} {stem} {suffix} {parent} {index} can be used in the flow."""

    glob: str = Field(description="A pattern, relative to the manifest's folder.", examples=["inbox/*.png"])
    exclude: Exclude | None = None


class EachTable(Shape):
    """One flow per row; the columns can be used as {column} in the flow."""

    table: str = Field(description="A .csv, .tsv, .jsonl or .parquet file.", examples=["products.csv"])


def _each_kind(value: object) -> str | None:
    return next((tag for key, tag in EACH_KINDS.items() if key in value), None) if isinstance(value, dict) else None


class FlowShape(Shape):
    """One remote job; with `each`, one per match or row."""

    name: str = Field(
        description="Unique in the manifest, at most 200 characters. With `each` it needs a {placeholder}; "
        "elsewhere braces are plain characters.",
        examples=["chairs", "{stem}"],
    )
    each: (
        Annotated[
            Annotated[EachGlob, Tag(GLOB)] | Annotated[EachTable, Tag(TABLE)],
            Discriminator(_each_kind),
        ]
        | None
    ) = None
    template: str | None = Field(
        default=None, description="The template's name or id. Null removes a default.", examples=["model_generate_fromimage"]
    )
    flow_id: str | None = Field(
        default=None,
        description="Instead of `template`: a flow that exists on the service and is still `created`.",
        examples=["6941ac784e4fd44b7afb5f4c"],
    )
    extends: str | None = Field(
        default=None, description="The profile that lies under this flow, above `defaults`.", examples=["fine"]
    )
    parameters: Parameters = None
    additional: FlowAdditional = None
    inputs: list[Input] = Field(
        min_length=1, description="What the flow takes; at least one.", examples=[["photos/chair-1.png", {"text": "A chair"}]]
    )


class DefaultsShape(Shape):
    """Merged under every flow: mappings deeply, the flow's own value wins, a null in a flow removes a default."""

    template: str | None = Field(
        default=None, description="The template of flows that name none.", examples=["model_generate_fromimage"]
    )
    parameters: Parameters = None
    additional: FlowAdditional = None


class ProfileShape(DefaultsShape):
    """Defaults with a name, for the flows that say `extends: NAME`; merged over `defaults` as a flow is."""

    extends: str | None = Field(default=None, description="Another profile, which lies under this one.", examples=["draft"])


class ManifestShape(Shape):
    """A batch of flows. `${NAME}` and `${NAME:-default}` in strings come from the environment; `$$` is a dollar sign."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": [key]} for key in ("flows", "include", "profiles")]})

    version: Version
    batch: Batch | None = None
    endpoint: Endpoint | None = None
    include: list[str] | None = Field(
        default=None,
        description="Other files (paths or patterns, from this file's folder) with more flows and profiles, and defaults for "
        "their own flows. Their paths count from their own folders; batch, endpoint, limits, notify and metrics stand in the "
        "main file only.",
        examples=[["more/*.yaml"]],
    )
    defaults: DefaultsShape | None = None
    profiles: dict[str, ProfileShape] | None = Field(
        default=None, description="Defaults with a name, for the flows and profiles that say `extends: NAME`; in any file."
    )
    limits: LimitsShape | None = None
    notify: NotifyShape | None = None
    metrics: (
        Annotated[
            str,
            PlainValidator(values.check_metrics),
            WithJsonSchema(
                {
                    "type": "string",
                    "minLength": 1,
                    "examples": ["/var/lib/prometheus/node-exporter/chairs.prom"],
                    "description": "A file for the textfile collector of Prometheus' node_exporter, written when a run ends; "
                    "one for each manifest. The flag --metrics overrides it.",
                }
            ),
        ]
        | None
    ) = None
    flows: list[FlowShape] = Field(default_factory=list, description="The remote jobs.")

    def settings(self) -> BatchSettings:
        limits = self.limits.limits() if self.limits else None
        notify = self.notify.notify() if self.notify else None
        return BatchSettings(self.batch, self.endpoint, limits, notify, self.metrics)


def schema() -> dict[str, Any]:
    """The manifest's JSON Schema (draft 2020-12), with descriptions, for editors."""
    made = _without_noise(ManifestShape.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "batcher manifest", **made}


def _without_noise(node: Any) -> Any:
    """pydantic's generated titles say nothing, and a default of null is the absence of the member."""
    match node:
        case dict():
            return {
                key: _without_noise(value)
                for key, value in node.items()
                if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
            }
        case list():
            return [_without_noise(item) for item in node]
        case _:
            return node
