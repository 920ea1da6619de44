"""The keys of a manifest's settings: version, endpoint, batch, limits, and who is notified.

In: the tree under them. Out: pydantic's errors, their part of the JSON Schema, and `Limits` and `Notify`. Called by `keys`.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema, field_validator

from batcher.core.exit_codes import ExitCode, Outcome, listed, with_outcome
from batcher.core.model import DEFAULT_ENDPOINT, SANDBOX, Limits, Notify
from batcher.core.price import Price, parse_price
from batcher.manifest import units, values
from batcher.manifest.keys_base import Shape
from batcher.manifest.sound import MAX_CONCURRENCY, MAX_RETRIES

DEFAULTS: Final = Limits()


def quantity(example: str, what: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", "number"], "examples": [example], "description": what})


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


class LimitsShape(Shape):
    """Bounds of a run."""

    concurrency: int = Field(
        default=DEFAULTS.concurrency, ge=1, le=MAX_CONCURRENCY, description="Requests in flight at most.", examples=[32]
    )
    rate: (
        Annotated[float, PlainValidator(units.parse_rate), quantity("20/s", "Requests, also 300/min. Default: no bound.")]
        | None
    ) = None
    bandwidth: (
        Annotated[float, PlainValidator(units.parse_bandwidth), quantity("20MB/s", "Bytes sent. Default: no bound.")] | None
    ) = None
    memory: Annotated[
        int,
        PlainValidator(values.check_memory),
        quantity("64MiB", "Encoded payload held at once. Default: 64MiB; at least 1MiB."),
    ] = DEFAULTS.memory_bytes
    timeout: Annotated[
        float, PlainValidator(values.check_timeout), quantity("60s", "No progress on a request for this long. Default: 60s.")
    ] = DEFAULTS.timeout_s
    retries: int = Field(
        default=DEFAULTS.retries, ge=0, le=MAX_RETRIES, description="Attempts after the first, per request.", examples=[20]
    )
    settle: Annotated[
        float,
        PlainValidator(units.parse_duration),
        quantity("15s", "How long the service may still commit a request that was given up. Default: 15s."),
    ] = DEFAULTS.settle_s
    min_age: Annotated[
        float,
        PlainValidator(units.parse_duration),
        quantity("10s", "Leave a file alone until it has not changed for this long (inboxes). Default: 0s."),
    ] = DEFAULTS.min_age_s
    max_duration: (
        Annotated[
            float,
            PlainValidator(values.check_max_duration),
            quantity("4h", "End the run in order after this long; a later one resumes. The flag overrides it."),
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
            quantity("5GB", "The same for the bytes of the files (not encoded) that a run would send."),
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

    price_per_start: (
        Annotated[
            Price,
            PlainValidator(parse_price),
            quantity("0.40 EUR", "What a start costs, in any unit: what will be and was paid is then told."),
        ]
        | None
    ) = None
    max_cost: (
        Annotated[
            Price,
            PlainValidator(parse_price),
            quantity("100 EUR", "A run whose starts would cost more is refused before it writes; in price_per_start's unit."),
        ]
        | None
    ) = None

    @field_validator("max_cost")
    @classmethod
    def _in_the_same_unit(cls, cost: Price | None, info: ValidationInfo) -> Price | None:
        if cost is None or "price_per_start" not in info.data:  # that one is wrong itself
            return cost
        price = info.data["price_per_start"]
        if price is None:
            raise ValueError("say what a start costs: add price_per_start")
        if price.currency != cost.currency:
            raise ValueError(f"write it in the unit of price_per_start, as {price}")
        return cost

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
            price_per_start=self.price_per_start,
            max_cost=self.max_cost,
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


class HooksShape(Shape):
    """Commands to run when a run has ended: one of them, by its exit code."""

    on_success: HookField | None = Field(default=None, description=f"After {ExitCode.DONE}: everything is started.")
    on_failure: HookField | None = Field(
        default=None,
        description=f"After {_codes('failure')}: somebody has to look at it, as the exit code's table says.",
    )
    on_problem: HookField | None = Field(
        default=None, description=f"After {_codes('problem')}: not done, and the next run resumes by itself."
    )


class NotifyShape(Shape):
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
