"""The shape of a manifest: which members there are, of which types, and what each is for.

In: the plain tree that `document` reads. Out: pydantic's errors (told to people by `shape`) and the JSON Schema for
editors. What depends on more than one member, or on what a placeholder becomes, is checked by `flows` and `inputs`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PlainValidator, Tag, WithJsonSchema

from batcher.core.exit_codes import ExitCode, Outcome, listed, with_outcome
from batcher.core.model import DEFAULT_ENDPOINT, SANDBOX, TAG, Limits, Notify
from batcher.manifest import units, values

DEFAULTS: Final = Limits()
MAX_CONCURRENCY: Final = 1024  # beyond 1,000 requests in flight one process falls to a quarter of its speed
MAX_RETRIES: Final = 100

PATH, FILE, GLOB, TEXT, TABLE = "\0path", "\0file", "\0glob", "\0text", "\0table"  # tags, told from keys by the NUL
INPUT_KINDS: Final = {"glob": GLOB, "table": TABLE, "text": TEXT, "file": FILE}  # a table comes with a file or a text
ONE, MANY = "\0one", "\0many"
EACH_KINDS: Final = {"glob": GLOB, "table": TABLE}


# --- Settings ------------------------------------------------------------------------------------------------------


def _quantity(example: str, what: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", "number"], "examples": [example], "description": what})


_MAPPING = WithJsonSchema({"type": ["object", "null"]})
Version = Annotated[int, PlainValidator(values.check_version), WithJsonSchema({"const": 1, "description": "Always 1."})]
Endpoint = Annotated[
    str,
    PlainValidator(values.parse_endpoint),
    WithJsonSchema(
        {
            "type": "string",
            "examples": [DEFAULT_ENDPOINT, SANDBOX],
            "description": f"The service's address, or `{SANDBOX}` for the embedded one. Default: {DEFAULT_ENDPOINT}.",
        }
    ),
]
Batch = Annotated[
    str,
    PlainValidator(values.check_batch),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": values.MAX_BATCH_CHARS,
            "description": "The batch's name on the service. Default: the manifest's file name without suffix.",
            "examples": ["autumn-chairs"],
        }
    ),
]
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
InputAdditional = Annotated[
    Any,
    Field(
        description="Any JSON value; it is attached to the input and copied to the outputs made from it. "
        f"In an object, the member `{TAG}` is batcher's own.",
        examples=[{"sku": "CH-2"}],
    ),
]
Mime = Annotated[
    str,
    Field(description="The file's type, only where it is detected wrongly.", examples=["image/png"]),
]
InputKey = Annotated[
    str,
    Field(
        description="The input's identity, instead of its path or text: under the same key and with the same content it is "
        "the same input wherever its file lies. Unique in the flow; with `glob` or `table` it needs a {placeholder}.",
        examples=["{sku}"],
    ),
]
Exclude = Annotated[
    Annotated[str, Tag(ONE)] | Annotated[list[str], Tag(MANY)],
    Discriminator(lambda value: MANY if isinstance(value, list) else ONE),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "Patterns of files to leave out, in the same language and counted from the same folder: "
            "**/*_draft.png leaves them out everywhere.",
            "examples": ["**/*_draft.png", ["photos/old/**", "**/thumb-*"]],
        }
    ),
]


class _Shape(BaseModel):
    """Strict: a text is no number, true is not 1, and an unknown member is an error."""

    model_config = ConfigDict(strict=True, extra="forbid", title=None)


# --- Inputs ---------------------------------------------------------------------------------------------------------


class FileInput(_Shape):
    """One file."""

    file: str = Field(
        description="A path, relative to the manifest's folder; never a pattern.", examples=["photos/chair-1.png"]
    )
    mime: Mime | None = None
    key: InputKey | None = None
    additional: InputAdditional = None


class TextInput(_Shape):
    """One prompt."""

    text: str = Field(description="The prompt itself.", examples=["A modern office chair"])
    key: InputKey | None = None
    additional: InputAdditional = None


class GlobInput(_Shape):
    """One input per file that matches, sorted by path.

    {path} {name} {stem} {suffix} {parent} {index} can be used in the members beside it ({{ is a brace).
    """

    glob: str = Field(
        description="A pattern: * ? [a-z] within a name, ** for any folders. What ${...} brings is not a pattern.",
        examples=["photos/**/*.webp"],
    )
    exclude: Exclude | None = None
    mime: Mime | None = None
    key: InputKey | None = None
    additional: InputAdditional = None


class TableInput(_Shape):
    """One input per row; the columns can be used as {column} in the members beside it ({{ is a brace)."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["file"]}, {"required": ["text"]}]})

    table: str = Field(
        description="A .csv, .tsv, .jsonl or .parquet file; the first row of a csv or tsv names the columns. "
        "A csv is separated by commas, semicolons or tabs, as its first row shows; empty rows are skipped. "
        "Parquet needs batcher[parquet].",
        examples=["details.csv"],
    )
    file: str | None = Field(default=None, description="The row's file.", examples=["photos/{file}"])
    text: str | None = Field(default=None, description="The row's prompt.", examples=["A {colour} chair"])
    mime: Mime | None = None
    key: InputKey | None = None
    additional: InputAdditional = None


def _input_kind(value: object) -> str | None:
    if isinstance(value, str):
        return PATH
    return next((tag for key, tag in INPUT_KINDS.items() if key in value), None) if isinstance(value, dict) else None


Input = Annotated[
    Annotated[str, Field(description="A path, relative to the manifest's folder; never a pattern."), Tag(PATH)]
    | Annotated[FileInput, Tag(FILE)]
    | Annotated[TextInput, Tag(TEXT)]
    | Annotated[GlobInput, Tag(GLOB)]
    | Annotated[TableInput, Tag(TABLE)],
    Discriminator(_input_kind),
]


# --- Flows ----------------------------------------------------------------------------------------------------------


class EachGlob(_Shape):
    """One flow per file that matches; {path} {name} {stem} {suffix} {parent} {index} can be used in the flow."""

    glob: str = Field(description="A pattern, relative to the manifest's folder.", examples=["inbox/*.png"])
    exclude: Exclude | None = None


class EachTable(_Shape):
    """One flow per row; the columns can be used as {column} in the flow."""

    table: str = Field(description="A .csv, .tsv, .jsonl or .parquet file.", examples=["products.csv"])


def _each_kind(value: object) -> str | None:
    return next((tag for key, tag in EACH_KINDS.items() if key in value), None) if isinstance(value, dict) else None


class FlowShape(_Shape):
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


class DefaultsShape(_Shape):
    """Merged under every flow: mappings deeply, the flow's own value wins, a null in a flow removes a default."""

    template: str | None = Field(
        default=None, description="The template of flows that name none.", examples=["model_generate_fromimage"]
    )
    parameters: Parameters = None
    additional: FlowAdditional = None


class ProfileShape(DefaultsShape):
    """Defaults with a name, for the flows that say `extends: NAME`; merged over `defaults` as a flow is."""

    extends: str | None = Field(default=None, description="Another profile, which lies under this one.", examples=["draft"])


class LimitsShape(_Shape):
    """Bounds of a run."""

    concurrency: int = Field(
        default=DEFAULTS.concurrency, ge=1, le=MAX_CONCURRENCY, description="Requests in flight at most.", examples=[32]
    )
    rate: (
        Annotated[float, PlainValidator(units.parse_rate), _quantity("20/s", "Requests, also 300/min. Default: no bound.")]
        | None
    ) = None
    bandwidth: (
        Annotated[float, PlainValidator(units.parse_bandwidth), _quantity("20MB/s", "Bytes sent. Default: no bound.")] | None
    ) = None
    memory: Annotated[
        int,
        PlainValidator(values.check_memory),
        _quantity("64MiB", "Encoded payload held at once. Default: 64MiB; at least 1MiB."),
    ] = DEFAULTS.memory_bytes
    timeout: Annotated[
        float, PlainValidator(values.check_timeout), _quantity("60s", "No progress on a request for this long. Default: 60s.")
    ] = DEFAULTS.timeout_s
    retries: int = Field(
        default=DEFAULTS.retries, ge=0, le=MAX_RETRIES, description="Attempts after the first, per request.", examples=[20]
    )
    settle: Annotated[
        float,
        PlainValidator(units.parse_duration),
        _quantity("15s", "How long the service may still commit a request that was given up. Default: 15s."),
    ] = DEFAULTS.settle_s
    min_age: Annotated[
        float,
        PlainValidator(units.parse_duration),
        _quantity("10s", "Leave a file alone until it has not changed for this long (inboxes). Default: 0s."),
    ] = DEFAULTS.min_age_s
    max_duration: (
        Annotated[
            float,
            PlainValidator(values.check_max_duration),
            _quantity("4h", "End the run in order after this long; a later one resumes. The flag overrides it."),
        ]
        | None
    ) = None
    max_starts: int | None = Field(
        default=None,
        ge=1,
        description="A cap on what a typo can cost: a run that would start more flows than this is refused before it writes.",
        examples=[100],
    )
    starts_per_run: int | None = Field(
        default=None,
        ge=1,
        description="Start so many flows at most in one run, and leave the others to the next runs; it then ends with "
        f"{ExitCode.LIMIT}. The flag --max-starts overrides it.",
        examples=[500],
    )
    max_bytes: (
        Annotated[
            int,
            PlainValidator(values.check_max_bytes),
            _quantity("5GB", "The same for the bytes of the files (not encoded) that a run would send."),
        ]
        | None
    ) = None

    check_images: bool = Field(
        default=False,
        description="Decode every new image while planning, so that a broken one is found before anything is paid for. "
        "Needs batcher[images].",
        examples=[True],
    )
    max_pixels: int | None = Field(
        default=None,
        ge=1,
        description="Width times height of an image at most, looked at while planning; with check_images 100000000 unless "
        "given. Needs batcher[images].",
        examples=[40_000_000],
    )

    def limits(self) -> Limits:
        return Limits(
            concurrency=self.concurrency,
            rate_per_s=self.rate,
            bandwidth_bytes_per_s=self.bandwidth,
            memory_bytes=self.memory,
            timeout_s=self.timeout,
            retries=self.retries,
            settle_s=self.settle,
            min_age_s=self.min_age,
            max_duration_s=self.max_duration,
            max_starts=self.max_starts,
            starts_per_run=self.starts_per_run,
            max_bytes=self.max_bytes,
            check_images=self.check_images,
            max_pixels=self.max_pixels,
        )


HookField = Annotated[
    str | tuple[str, ...],
    PlainValidator(values.check_hook),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
            "description": "A line for the shell, or a command as a list of words. It runs in the manifest's folder, with "
            "BATCHER_EXIT_CODE, BATCHER_MANIFEST, BATCHER_REPORT (a file with the report as JSON) and counts in its "
            "environment, for at most 60 s.",
            "examples": ["mail -s chairs me@example.com <$BATCHER_REPORT", ["bin/alert", "chairs"]],
        }
    ),
]


def _codes(outcome: Outcome) -> str:
    return listed(with_outcome(outcome))


class HooksShape(_Shape):
    """Commands to run when a run has ended: one of them, by its exit code."""

    on_success: HookField | None = Field(default=None, description=f"After {ExitCode.DONE}: everything is started.")
    on_failure: HookField | None = Field(
        default=None,
        description=f"After {_codes('failure')}: somebody has to look at it, as the exit code's table says.",
    )
    on_problem: HookField | None = Field(
        default=None, description=f"After {_codes('problem')}: not done, and the next run resumes by itself."
    )


class NotifyShape(_Shape):
    """Whom `batcher run` tells how it went. It never changes the exit code; 11 (another run is at work) is told to nobody."""

    ping: (
        Annotated[
            str,
            PlainValidator(values.parse_ping),
            WithJsonSchema(
                {
                    "type": "string",
                    "examples": ["https://hc-ping.com/5fb9a1b2-…"],
                    "description": "An address in the style of healthchecks: asked with /start when a run begins, as it is "
                    "after a success, with /fail after a failure, with /log where the next run resumes by itself. "
                    "https, or loopback.",
                }
            ),
        ]
        | None
    ) = None
    command: HooksShape | None = None

    def notify(self) -> Notify:
        hooks = self.command or HooksShape()
        return Notify(self.ping, hooks.on_success, hooks.on_failure, hooks.on_problem)


class ManifestShape(_Shape):
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
