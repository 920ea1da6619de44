"""What became of a request that has no usable reply: whether it was sent, and may have been done.

In: what was raised, and how far the request got. Out: a `Fault`. Called by the transport for both of its ways. That a write
is never billed twice rests on the kinds that are told apart here, and on `core.retry`, which decides by them.
"""

from __future__ import annotations

from typing import Final

import aiohttp

from ..core.retry import Fault, FaultKind
from .connection_errors import no_way
from .credentials import Mask, shown
from .deadlines import Progress
from .endpoint import Endpoint
from .exchange import NotWritten
from .listing import NoListing

# What a way, or the reading of a reply, raises where the request has failed. Anything else is a bug, and ends the run.
FAILURES: Final = (aiohttp.ClientError, NotWritten, TimeoutError, OSError, ValueError, RecursionError)


def fault_of(
    error: BaseException, progress: Progress, endpoint: Endpoint, mask: Mask, *, reached: bool, timeout_s: float
) -> Fault:
    """The fault that this error is. `reached`: the endpoint has answered before."""
    match error:
        case NotWritten():
            return Fault(FaultKind.NOT_SENT, f"{progress.status or 'broken off'} before the body had been sent")
        case aiohttp.ClientConnectorError() | aiohttp.ClientHttpProxyError():
            way = no_way(error, endpoint.base, endpoint.proxy, reached=reached)
            if way is not None:
                return Fault(FaultKind.NO_WAY, shown(way[0], mask), hint=way[1])
            return Fault(FaultKind.NOT_CONNECTED, f"cannot connect: {shown(_words_of_connecting(error), mask)}")
    late = progress.late or isinstance(error, TimeoutError)
    message = stalled(timeout_s) if late else shown(words_of(error), mask)
    if isinstance(error, NoListing):
        return Fault(FaultKind.NO_LIST, f"{progress.status}, {message}", progress.status)
    if progress.status is not None:
        return Fault(FaultKind.CUT_OFF, f"the reply was cut off: {message}", progress.status)
    if not progress.left:
        return Fault(FaultKind.NOT_SENT, f"not sent: {message}")
    return Fault(FaultKind.NO_ANSWER, f"no answer: {message}")


def stalled(timeout_s: float) -> str:
    return f"nothing moved for {timeout_s:g} s"


def words_of(error: BaseException) -> str:
    """What the error says. Of a failed connection what the system says: aiohttp wraps it in words of its own."""
    text = str(error) or type(error).__name__
    os_error = getattr(error, "os_error", None)
    return (os_error.strerror or text) if isinstance(os_error, OSError) else text


def _words_of_connecting(error: aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError) -> str:
    match error:
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answers with {error.status} {error.message}"
        case aiohttp.ClientProxyConnectionError():
            return f"the proxy: {words_of(error)}"
    return words_of(error)
