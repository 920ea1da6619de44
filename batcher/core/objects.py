"""Addresses of objects: `s3://bucket/key`, `gs://…`, `az://container/key`, `https://host/path`. No I/O.

In: texts of the manifest or of a flag. Out: an `Address`, the address in its one spelling, or as it may be shown. Called by the
manifest, the sources, the outputs and the room of the object stores.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from .addresses import is_loopback

STORES: Final = ("s3", "gs", "az")  # buckets, which can be listed and written to
WEB: Final = ("https", "http")  # http to loopback only
KINDS: Final = "s3://, gs://, az:// and https://"
EXTRA: Final = "pip install 'batcher[objects]'"
_OTHER_NAMES: Final = {"gcs": "gs", "abfs": "az", "abfss": "az", "azure": "az", "s3a": "s3", "s3n": "s3"}
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,221}")
_MARK: Final = (1 << 63) - 1  # as the journal's integers are


class NoAddress(ValueError):
    """It is none that can be read: `hint` says what would be."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Address:
    """`bucket` is the host, with its port, of a web address; `key` has no slash at its beginning."""

    scheme: str
    bucket: str
    key: str

    @property
    def root(self) -> str:
        return f"{self.scheme}://{self.bucket}"

    def __str__(self) -> str:
        return f"{self.root}/{self.key}"


def is_address(text: str) -> bool:
    """Whether a path is meant as an address. Cheap: a million paths are asked."""
    return "://" in text and _SCHEME.match(text) is not None


def split(text: str) -> Address:
    """Scheme, bucket and the rest, as they stand there; of an address that `spelled` has made, its parts."""
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    return Address(scheme, bucket, key)


def spelled(text: str) -> str:
    """The address of one object in its one spelling. Raises NoAddress, which never shows a query or a password."""
    scheme = _scheme(text)
    if scheme in WEB:
        return _web(text)
    address = split(text)
    _check_bucket(address)
    names = address.key.split("/")
    if not address.key or not names[-1]:
        raise NoAddress(f"{text} names no object", f"write {scheme}://{address.bucket or 'bucket'}/key, or use glob:")
    if any(name in ("", ".", "..") for name in names):
        raise NoAddress(
            f"{text} has an empty, `.` or `..` name between its slashes", "such keys cannot be read: rename the object"
        )
    return str(address)


def bucket_and_rest(text: str, what: str) -> Address:
    """Of a pattern, or of a prefix that results are written to (`what`, for messages). Raises NoAddress."""
    scheme = _scheme(text)
    if scheme in WEB:
        raise NoAddress(
            f"{shown(text)} cannot be {what}: what lies there cannot be listed", "a bucket can: s3://, gs://, az://"
        )
    address = split(text)
    _check_bucket(address)
    return address


def _scheme(text: str) -> str:
    found = _SCHEME.match(text)
    scheme = found[1] if found else ""
    if scheme in STORES or scheme in WEB:
        return scheme
    meant = _OTHER_NAMES.get(scheme.lower(), scheme.lower())
    if meant in STORES or meant in WEB:
        raise NoAddress(f"{scheme}:// is no kind of address that is read", f"write {meant}://")
    hint = "write the path by itself" if meant == "file" else f"those that are: {KINDS}"
    raise NoAddress(f"{scheme}:// is no kind of address that is read", hint)


def _check_bucket(address: Address) -> None:
    what = "container" if address.scheme == "az" else "bucket"
    if "@" in address.bucket:
        raise NoAddress("an address holds no user name and no key", "credentials come from where the provider's own tools look")
    if not _BUCKET.fullmatch(address.bucket):
        raise NoAddress(f"{address.root}/ names no {what}", f"write {address.scheme}://{what}/key")


def _web(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise NoAddress("this is no address", "write one like https://host/path.png") from None
    if "@" in parts.netloc:
        raise NoAddress("an address holds no user name and no password", "use a signed address, or a file")
    if not host or not re.fullmatch(r"[!-~]+", text):
        raise NoAddress(f"{shown(text)} is no address", "percent-encode what is no plain character")
    if parts.scheme == "http" and not is_loopback(host):
        raise NoAddress(f"{shown(text)} would be read over plain http", "write https://")
    if parts.path in ("", "/"):
        raise NoAddress(f"{shown(text)} names no object", "add its path")
    return urlunsplit((parts.scheme, parts.netloc, parts.path, parts.query, ""))


def shown(text: str) -> str:
    """As it may be shown and kept: without the query of a web address, which may be its signature."""
    return text.partition("?")[0].partition("#")[0] if text.startswith(("https://", "http://")) else text


def mark_of(tag: str) -> int:
    """63 bits for an ETag or the like, never 0: what stands for an object's content where a file has an inode number. Quotes
    and the sign of a weak one do not count: one store lists what another writes in quotes."""
    bare = tag.strip().removeprefix("W/").strip('"')
    return int.from_bytes(hashlib.blake2b(bare.encode(), digest_size=8).digest(), "big") & _MARK or 1
