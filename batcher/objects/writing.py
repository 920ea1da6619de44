"""Objects written to a store: each whole or not at all.

In: an address, the bytes, what is kept beside them. Out: the object as its store now has it. Called by the outputs, in threads.
What is small is put by one request. What is large is sent in parts, completed last; where it is given up, its parts are taken
away again, and what a killed process has left of the same key is taken away before it is sent anew (see `unfinished`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import wait
from typing import IO, Final

from ..core.facts import FileStat
from ..core.objects import Address, mark_of
from .client import objects
from .faults import StoreFault, What, faults_of
from .reading import seen_of, stat_of
from .stores import store_of
from .unfinished import clear

PUT_BYTES: Final = 5 << 20  # S3's least size of a part
PARTS: Final = 9000  # of one object; S3 takes 10,000
LARGE_AT_ONCE: Final = 3  # uploads in parts; each holds two of them
ABORT_S: Final = 10.0  # for an upload that was given up to take its parts away
SHA256: Final = "sha256"  # of the members beside an object
_large = asyncio.Semaphore(LARGE_AT_ONCE)  # on the loop of `client`


def write(
    address: Address, file: IO[bytes], size: int, about: dict[str, str], go_on: Callable[[], None] = lambda: None
) -> FileStat:
    """`about`: its Content-Type, and the members beside it. Raises StoreFault, and what `go_on` raises: then nothing
    of it stays."""
    if size <= PUT_BYTES:
        return objects().wait(_put(address, file.read(), about), go_on)
    given_up = threading.Event()
    sending = objects().begin(_in_parts(address, file, size, about, given_up))
    try:
        return objects().result(sending, go_on, cancel=False)
    finally:
        given_up.set()  # cancelled, it would leave its parts
        wait([sending], ABORT_S)


async def _put(address: Address, data: bytes, about: dict[str, str]) -> FileStat:
    import obstore

    with faults_of(address, written=True):
        made = await obstore.put_async(store_of(address), address.key, data, attributes=about, use_multipart=False)
    return _stat(len(data), made["e_tag"] or made["version"])


async def _in_parts(
    address: Address, file: IO[bytes], size: int, about: dict[str, str], given_up: threading.Event
) -> FileStat:
    import obstore

    part = max(PUT_BYTES, size // PARTS + 1)

    async def pieces() -> AsyncIterator[bytes]:
        while data := await asyncio.to_thread(file.read, part):
            if given_up.is_set():
                raise StoreFault(What.UNAVAILABLE, "was given up", "collect again")  # obstore then takes the parts away
            yield data

    async with _large:
        await clear(address)
        with faults_of(address, written=True):
            made = await obstore.put_async(
                store_of(address), address.key, pieces(), attributes=about, chunk_size=part, max_concurrency=2
            )
    return _stat(size, made["e_tag"] or made["version"])


def digest_beside(address: Address) -> str:
    """The SHA-256 that was kept beside it, in hex; "" where there is none. Raises StoreFault."""
    return objects().wait(_beside(address))


async def _beside(address: Address) -> str:
    import obstore

    with faults_of(address):
        found = await obstore.get_async(store_of(address), address.key, options={"head": True})
    return next((value for name, value in found.attributes.items() if name.lower() == SHA256), "")


def look(address: Address) -> FileStat | None:
    """What is there now; None: nothing. Raises StoreFault."""

    async def head() -> FileStat | None:
        import obstore

        with faults_of(address):
            try:
                return stat_of(*seen_of(await obstore.head_async(store_of(address), address.key))[:3])
            except FileNotFoundError:
                return None

    return objects().wait(head())


def delete(address: Address) -> None:
    """Raises StoreFault."""

    async def gone() -> None:
        import obstore

        with faults_of(address):
            try:
                await obstore.delete_async(store_of(address), address.key)
            except FileNotFoundError:
                return

    objects().wait(gone())


def _stat(size: int, tag: str | None) -> FileStat:
    return FileStat(size, 0, mark_of(tag) if tag else 0)
