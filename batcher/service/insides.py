"""What batcher takes of aiohttp's insides, and whether this aiohttp has it.

In: the aiohttp that is installed. Out: the names that it lacks. Called by `wire`, which alone uses them, when it is imported.
Where one is missing, in a newer aiohttp, that costs speed and is never an error.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final

# Module of aiohttp, name, and in brackets the parameters that are given, beside which no other may be required.
OF_THE_POOL: Final = (
    "connector.Connection.close", "connector.Connection.protocol", "connector.Connection.transport",
    "connector.TCPConnector.connect", "client_proto.ResponseHandler.should_close",
)  # fmt: skip
OF_THE_WIRE: Final = (
    *OF_THE_POOL, "connector.Connection.closed", "connector.Connection.release",
    "connector.TCPConnector.connect(req, traces, timeout)",
    "client_proto.ResponseHandler.__len__", "client_proto.ResponseHandler.read", "client_proto.ResponseHandler.transport",
    "client_proto.ResponseHandler.writing_paused",
    "client_proto.ResponseHandler.set_response_params(read_until_eof, read_bufsize)",
    "client_reqrep.ClientRequest(method, url, loop, ssl)", "client_reqrep.ClientRequest.connection_key",
    "http.StreamWriter(protocol, loop)", "http.StreamWriter.drain", "http_exceptions.HttpProcessingError.message",
    "http_parser.RawResponseMessage.code", "http_parser.RawResponseMessage.headers",
    "streams.StreamReader.exception", "streams.StreamReader.is_eof", "streams.StreamReader.read_nowait",
    "streams.StreamReader.set_exception", "streams.StreamReader.total_bytes",
)  # fmt: skip


def lacking(names: Sequence[str], module: Callable[[str], ModuleType] = importlib.import_module) -> list[str]:
    """Those of the names that this aiohttp does not have, or has with other parameters."""
    return [name for name in names if not _is_there(name, module)]


def _is_there(name: str, module: Callable[[str], ModuleType]) -> bool:
    path, _, given = name.rstrip(")").partition("(")
    inside, *rest = path.split(".")
    try:
        found: Any = module(f"aiohttp.{inside}")
        for part in rest:
            found = getattr(found, part)
        if not given:
            return True
        parameters = list(inspect.signature(found).parameters.values())
    except (ImportError, AttributeError, TypeError, ValueError):
        return False
    if not inspect.isclass(found):
        del parameters[:1]  # self
    wanted = set(given.split(", "))
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = {one.name for one in parameters if one.default is one.empty and one.kind not in variable}
    return required <= wanted <= {one.name for one in parameters if one.kind is not one.POSITIONAL_ONLY}
