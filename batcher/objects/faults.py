"""What went wrong with an object or its store, in words for people: without keys, signatures, addresses or a reply's body.

In: exceptions of obstore and of aiohttp. Out: a `StoreFault`. Raised by everything in this room, and made a Problem or an error
by whoever asked.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ..core.objects import EXTRA, Address
from ..core.text import harmless

SHOWN_CHARS: Final = 200
PERMISSION: Final = {
    "s3": "check AWS_ACCESS_KEY_ID, AWS_PROFILE or the machine's role, and what they may do",
    "gs": "check GOOGLE_APPLICATION_CREDENTIALS or the machine's account, and what they may do",
    "az": "check AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY or the machine's identity, and what they may do",
    "https": "check the address; a signed one may have expired",
}
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>([A-Za-z][A-Za-z0-9.]{0,60})</Code>|\"reason\": ?\"([A-Za-z]{1,60})\"")
_ADDRESS: Final = re.compile(r"[a-z]+://\S+")
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound")
_CREDENTIALS: Final = ("credential", "metadata", "169.254.169.254", "oauth", "token provider")


class What(Enum):
    MISSING = "missing"
    NO_BUCKET = "no bucket"
    REFUSED = "refused"
    CHANGED = "changed"
    UNAVAILABLE = "unavailable"  # a matter of later
    SETUP = "setup"  # the environment is wrong, or the extra is missing
    OTHER = "other"


@dataclass(eq=False)
class StoreFault(Exception):
    """`message` says what is wrong with what the reader knows by its name ("may not be read"); of a SETUP it is a sentence."""

    what: What
    message: str
    hint: str = ""

    def about(self, name: str) -> str:
        """The message, of what has this name."""
        return self.message if self.what is What.SETUP else f"{name} {self.message}"


def no_extra() -> StoreFault:
    return StoreFault(What.SETUP, "to read from and write to object stores needs obstore, which is not installed", EXTRA)


def of_status(status: int, scheme: str, code: str = "") -> StoreFault | None:
    """What an answer's status means; None where it is none of an error."""
    said = f"{status} {code}".strip()
    kind = "https" if scheme == "http" else scheme
    match status:
        case _ if code in _NO_BUCKET:
            what = "container" if scheme == "az" else "bucket"
            message = f"is in a {what} that is not there"
            return StoreFault(What.NO_BUCKET, message, "check its name, the account and the endpoint")
        case 404 | 410:
            return StoreFault(What.MISSING, "is not there", "check the address; capitals count")
        case 401 | 403:
            return StoreFault(What.REFUSED, f"may not be read ({said})", PERMISSION[kind])
        case 412:
            return StoreFault(What.CHANGED, "changed while it was read", "run again once nobody writes to it")
        case 408 | 429:
            return StoreFault(What.UNAVAILABLE, f"cannot be had now: the store answers {said}", "run again later")
        case _ if status >= 500:
            return StoreFault(What.UNAVAILABLE, f"cannot be had now: the store answers {said}", "run again later")
        case _ if status in (301, 302, 307, 308) and scheme == "s3":
            return StoreFault(What.OTHER, f"lies in another region ({said})", "name it: AWS_REGION")
        case _ if status >= 300:
            return StoreFault(What.OTHER, f"cannot be read: the store answers {said}", "check the address")
    return None


def of_error(error: BaseException, address: Address) -> StoreFault:
    """What an exception of obstore means. Its own words hold addresses and replies: only what is harmless of them is shown."""
    if isinstance(error, StoreFault):
        return error
    text = str(error).partition("\n\nDebug source")[0]
    status, code = _STATUS.search(text), _CODE.search(str(error))
    if isinstance(error, TimeoutError):
        return StoreFault(What.UNAVAILABLE, "cannot be had now: nothing came for too long", "run again later")
    if status is not None:
        found = of_status(int(status[1]), address.scheme, (code[1] or code[2]) if code is not None else "")
        if found is not None:
            return found
    name = type(error).__name__
    if isinstance(error, FileNotFoundError):
        return StoreFault(What.MISSING, "is not there", "check the address; capitals count")
    if "BareRedirect" in str(error) or "redirect without LOCATION" in text:
        return StoreFault(What.OTHER, "lies in another region", "name it: AWS_REGION")
    if name == "PreconditionError":
        return StoreFault(What.CHANGED, "changed while it was read", "run again once nobody writes to it")
    if name in ("PermissionDeniedError", "UnauthenticatedError") or any(word in text.lower() for word in _CREDENTIALS):
        return StoreFault(What.REFUSED, "may not be read: no credentials for it were found", PERMISSION[address.scheme])
    words = harmless(_ADDRESS.sub("…", text.partition("\n")[0]), SHOWN_CHARS)
    if any(
        word in str(error)
        for word in ("HTTP error", "reqwest", "error sending request", "Connect", "BrokenPipe", "IncompleteBody")
    ):
        return StoreFault(
            What.UNAVAILABLE,
            f"cannot be had now: {_network(str(error))}",
            "check the endpoint and the network, or run again later",
        )
    return StoreFault(What.OTHER, f"cannot be read: {words}", "check the address and the store's variables")


@contextlib.contextmanager
def faults_of(address: Address, *, written: bool = False) -> Iterator[None]:
    """What obstore raises inside is raised as the StoreFault that it means; `written`: of what was to be written, not read."""
    import obstore

    try:
        yield
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        fault = of_error(error, address)
        if written:
            fault = StoreFault(fault.what, fault.message.replace("read", "written"), fault.hint)
        raise fault from None


def _network(text: str) -> str:
    """What happened on the way, as far as that can be told."""
    lowered = text.lower()
    for sign, words in (
        ("dns", "the host's name is not known"), ("lookup", "the host's name is not known"),
        ("connectionrefused", "the connection was refused"), ("connection refused", "the connection was refused"),
        ("certificate", "its certificate is not trusted"), ("timedout", "nothing came for too long"),
        ("timed out", "nothing came for too long"), ("https_only", "the endpoint is plain http"),
        ("badscheme", "the endpoint is plain http"),
    ):  # fmt: skip
        if sign in lowered:
            return words
    return "the connection broke"
