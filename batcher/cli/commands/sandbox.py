"""`batcher sandbox`: in: flags; out: a Flows API on loopback until it is interrupted; its URL on stdout."""

from __future__ import annotations

import errno
from pathlib import Path

import click

from ...core.errors import BatcherError
from ...host import system
from ...sandbox import FormatError, ServeOptions, serve_forever
from .. import flags, output


@click.command("sandbox", short_help="serve a local Flows API")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0: a free one")
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path(".batcher/sandbox"),
              show_default=True, help="where its store is kept")
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help="as upload:p=0.2,lost_reply=close; repeatable")
@click.option("--faults", "fault_file", type=click.Path(path_type=Path), help="a YAML or JSON list of them")
@click.option("--reading", "readings", multiple=True, metavar="NAME=VALUE", help="how to read what the API leaves open")
@click.option("--key", "keys", multiple=True, help="a key to accept; without any, every key is")
@click.option("--key-expired", "expired", multiple=True, help="a key that has expired")
@click.option("--processing", type=flags.DURATION, default="200ms", help="how long a flow runs")
@click.option("--max-data", type=flags.SIZE, default=None, help="the largest data of an input")
@click.option("--quiet", is_flag=True, help="nothing but the line with the address")
def command(
    port: int, folder: Path, faults: tuple[str, ...], fault_file: Path | None, readings: tuple[str, ...],
    keys: tuple[str, ...], expired: tuple[str, ...], processing: float, max_data: float | None, quiet: bool,
) -> None:  # fmt: skip
    """Serve a faithful Flows API on loopback, with a store of its own, to try manifests and failures against."""
    options = ServeOptions(
        folder, port, faults, fault_file, readings, keys, expired, processing, int(max_data) if max_data else None,
        quiet=quiet,
    )  # fmt: skip
    try:
        system.check()
        serve_forever(options)
    except BatcherError as error:
        output.exit_for(error, "", False)
    except FormatError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(_what(error, port, folder)) from error


def _what(error: OSError, port: int, folder: Path) -> str:
    """In words, with what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} is in use (choose another, or leave --port out)"
        case errno.EAGAIN:
            return f"another sandbox has its store in {folder} (name another folder with --dir)"
    return f"the sandbox cannot be served from {error.filename or folder}: {error.strerror} (see --dir and --port)"
