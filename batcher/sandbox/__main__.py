"""`python -m batcher.sandbox`: the sandbox alone. In: arguments. Out: see `serve`. Exit code 2 for wrong usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .faults import EFFECTS, parse_duration, parse_size
from .readings import Readings
from .refusals import FormatError
from .serve import ServeOptions, serve_forever


def _epilog() -> str:
    readings = "\n".join(f"  {name:17} {values:38} {meaning}" for name, values, meaning in Readings.table())
    faults = "\n".join(f"  {word:19} {effect.help}" for word, effect in EFFECTS.items())
    return (
        f"readings (the first value is the default):\n{readings}\n\n"
        f"faults, as CALLS:TERM,TERM, for example upload:p=0.2,lost_reply=close:\n{faults}\n\n"
        "which calls: p, nth, every, first, after, count, flow; options: latency, retry_after, body, when, over"
    )


def parse_arguments(arguments: Sequence[str] | None = None) -> ServeOptions:
    """Options from the command line. Exits with 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m batcher.sandbox",
        description="A local Flows API on loopback.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dir", type=Path, required=True, help="where the store is kept")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--fault", action="append", default=[], help="repeatable")
    parser.add_argument("--faults", type=Path, help="a YAML or JSON file with a list of faults")
    parser.add_argument("--reading", action="append", default=[], help="name=value, repeatable")
    parser.add_argument("--key", action="append", default=[], help="an API key; without any, all are accepted")
    parser.add_argument("--key-expired", action="append", default=[], help="an API key that has expired")
    parser.add_argument("--processing", type=parse_duration, default=0.2, help="how long a flow takes, such as 2s")
    parser.add_argument("--max-data", type=parse_size, help="bytes of an input at most, such as 50MB")
    parser.add_argument("--seed", type=int, default=0, help="of the faults' chances")
    parser.add_argument("--quiet", action="store_true", help="nothing but the line with the address")
    given = parser.parse_args(arguments)
    return ServeOptions(
        folder=given.dir,
        port=given.port,
        fault_texts=given.fault,
        faults_file=given.faults,
        reading_texts=given.reading,
        keys=given.key,
        expired_keys=given.key_expired,
        processing_s=given.processing,
        max_data_bytes=given.max_data,
        seed=given.seed,
        quiet=given.quiet,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves as the command line says; returns the exit code."""
    try:
        serve_forever(parse_arguments(arguments))
    except (FormatError, OSError, ValueError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
