"""Faults of the way to the service that no waiting mends: a certificate, a name, TLS where there is none, a proxy.

In: what aiohttp raised, and the proxy's address. Out: what is wrong and what to do, for people; None where it may pass, as a
refused connection may. Called by `faults`. No password of a proxy's address is in what is said.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import aiohttp

# Of OpenSSL's certificate errors: 10 expired, 62 another host's, 64 another address's. The others are of who has signed it.
EXPIRED: Final = (9, 10)
ANOTHER: Final = (62, 64)
NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG")
NO_COMMON: Final = (
    "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE", "TLSV1_ALERT_PROTOCOL_VERSION", "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "TLSV1_UNRECOGNIZED_NAME", "NO_CIPHERS_AVAILABLE",
)  # fmt: skip
NO_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
ADDRESS: Final = "check the endpoint's address"
TRY_LATER: Final = (408, 425, 429)


def no_way(error: BaseException, endpoint: str, proxy: str | None, *, reached: bool) -> tuple[str, str] | None:
    """What is wrong, and what to do. `reached`: the endpoint has answered before, so that its name is right."""
    parts = urlsplit(endpoint)
    variable = f"{parts.scheme.upper()}_PROXY"
    for cause in _causes(error):
        match cause:
            case aiohttp.ClientHttpProxyError():
                return _of_proxy(cause.status, cause.message, variable)
            case aiohttp.ClientError():
                continue  # some pass for what they wrap, and know nothing of it
            case ssl.SSLCertVerificationError():
                return _of_certificate(cause, parts.hostname or "")
            case ssl.SSLError() if cause.reason in NO_TLS:
                return f"{parts.netloc} does not speak TLS", f"{ADDRESS}: its port, http or https"
            case ssl.SSLError() if cause.reason in NO_COMMON:
                return f"{parts.netloc} and this machine have no version of TLS in common: {cause.reason}", ADDRESS
            case socket.gaierror() if cause.errno in NO_NAME and not reached:
                if proxy is not None:
                    return f"there is no host {urlsplit(proxy).hostname}, the proxy of {variable}", f"check {variable}"
                return f"there is no host {parts.hostname}", f"{ADDRESS}, and that this machine is online"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what is inside of it, as aiohttp wraps it."""
    for _ in range(5):
        if error is None:
            return
        yield error
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error.__cause__
        error = inner if isinstance(inner, BaseException) and inner is not error else None


def _of_proxy(status: int, message: str, variable: str) -> tuple[str, str] | None:
    if status == 407:
        hint = f"write http://USER:PASSWORD@HOST:PORT into {variable}"
        return f"the proxy of {variable} wants another user or password (407)", hint
    if 400 <= status < 500 and status not in TRY_LATER:
        hint = f"check {variable}, or name the host in NO_PROXY"
        return f"the proxy of {variable} refuses to connect: {status} {message}", hint
    return None


def _of_certificate(error: ssl.SSLCertVerificationError, host: str) -> tuple[str, str]:
    words = f"the certificate of {host} does not verify: {error.verify_message or error.reason}"
    if error.verify_code in EXPIRED:
        return words, "check this machine's clock; the service has to renew its certificate"
    if error.verify_code in ANOTHER:
        return words, ADDRESS
    return words, "name the certificates to trust with --ca-file"
