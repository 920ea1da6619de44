"""The sandbox: a faithful local Flows API with a durable store, switchable readings and faults to order.

In: a folder. Out: a service on a loopback port. It knows nothing of the client, so that a mistake about the wire shows.

    __main__ → serve → server ─┬─ routes → flow_calls, asset_calls → store, listings → db
                               ├─ plan → faults;  mischief
                               └─ admin, seen
    upload:  request → uploads → scan → intake → store       output:  listings → glb → content

An input may ask for a bad end: `"additional": {"sandbox": "fail"}` makes its flow fail, `"error"` puts the input itself
in error. `python -m batcher.sandbox --help` prints the tables of readings and faults.
"""

from .faults import Fault, load_faults, parse_fault
from .readings import Readings
from .refusals import FormatError
from .serve import ServeOptions, serve_forever
from .server import Sandbox

__all__ = [
    "Fault",
    "FormatError",
    "Readings",
    "Sandbox",
    "ServeOptions",
    "load_faults",
    "parse_fault",
    "serve_forever",
]
