"""The objects below a prefix, in the order of their keys.

In: a bucket, a prefix, a test for keys. Out: an `ObjectListing`, to be walked as often as asked. Called by the manifest, for
patterns, and by the folder of outputs. A store lists a thousand keys at a time; what fits is kept, a few in memory, many in a
database without a name that is gone with the process: of a million keys some megabytes are held.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Final, TypeAlias

from ..core.facts import FileStat
from ..core.objects import Address
from .client import objects
from .faults import faults_of
from .reading import seen_of
from .stores import store_of

PAGE: Final = 1000  # keys in a reply, and rows in a page
FEW: Final = 2000  # objects that are held in memory
CACHE_KIB: Final = 2048  # of the database

Row: TypeAlias = tuple[str, int, int, int]  # key, size, time of the last change in ns, mark


class ObjectListing:
    """What was found. Any thread may walk it."""

    def __init__(self) -> None:
        self._few: dict[str, Row] = {}
        self._many: sqlite3.Connection | None = None
        self._turn = threading.Lock()
        self.seen = 0  # keys that the store listed, whether they fit or not

    def __len__(self) -> int:
        with self._turn:
            if self._many is None:
                return len(self._few)
            return int(self._many.execute(_sql()["count"]).fetchone()[0])

    def __iter__(self) -> Iterator[tuple[str, FileStat]]:
        """(key, what was listed of it), each once, in the order of the keys' code points. Of the stats the time and the mark
        are both there."""
        if self._many is None:
            yield from ((key, FileStat(*rest)) for key, *rest in sorted(self._few.values()))
            return
        after = ""
        while page := self._page(after):
            after = page[-1][0]
            yield from ((key, FileStat(*rest)) for key, *rest in page)

    def _page(self, after: str) -> Sequence[Row]:
        assert self._many is not None
        with self._turn:
            return self._many.execute(_sql()["page"], (after, PAGE)).fetchall()

    def get(self, key: str) -> FileStat | None:
        """What was listed of this key."""
        with self._turn:
            if self._many is None:
                row = self._few.get(key)
                return None if row is None else FileStat(*row[1:])
            row = self._many.execute(_sql()["get"], (key,)).fetchone()
        return None if row is None else FileStat(*row[1:])

    def put(self, key: str, listed: FileStat) -> None:
        """It is there now, too."""
        self.add([(key, listed.size, listed.mtime_ns, listed.inode)])

    def add(self, rows: Sequence[Row]) -> None:
        with self._turn:
            self._few.update((row[0], row) for row in rows)
            if len(self._few) > FEW or self._many is not None:
                self._spill()

    def _spill(self) -> None:
        if self._many is None:
            self._many = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            weakref.finalize(self, self._many.close)
            for pragma in (f"cache_size=-{CACHE_KIB}", "journal_mode=OFF", "synchronous=OFF", "temp_store=FILE"):
                self._many.execute(f"PRAGMA {pragma}")
            self._many.execute(_sql()["make"])
        self._many.execute("BEGIN")
        self._many.executemany(_sql()["put"], self._few.values())
        self._many.execute("COMMIT")
        self._few = {}


@cache
def _sql() -> dict[str, str]:
    """The statements of `listing.sql`, by name."""
    text = resources.files(__package__).joinpath("listing.sql").read_text("utf-8")
    return dict(re.findall(r"^-- (\w+)\n([^;]+);$", text, re.MULTILINE))


def listing(
    address: Address, folder: str, begins: str, test: Callable[[str], bool], go_on: Callable[[], None] = lambda: None
) -> ObjectListing:
    """The objects of a bucket below `folder` (a key's first names, without a slash at the end) whose keys begin with `begins`
    and pass the test. In a thread. Raises Fault, and what `go_on` raises."""
    return objects().wait(_listed(address, folder, begins, test), go_on)


async def _listed(address: Address, folder: str, begins: str, test: Callable[[str], bool]) -> ObjectListing:
    import obstore

    found = ObjectListing()
    store = store_of(address)
    ordered = not address.bucket.endswith("--x-s3")  # S3 Express lists in no order
    # Keys come after the offset: one letter less than what they begin with, so that it may be a key itself.
    offset = begins[:-1] if ordered and len(begins) > len(folder) + 2 else None
    last = ""
    with faults_of(address):
        async for page in obstore.list(store, folder or None, offset=offset, chunk_size=PAGE):
            found.seen += len(page)
            rows = [
                (meta["path"], *seen_of(meta)[:3]) for meta in page if meta["path"].startswith(begins) and test(meta["path"])
            ]
            found.add(rows)
            last, before = page[-1]["path"], last
            if ordered and before < last and last > begins and not last.startswith(begins):
                break  # in order, and past it
    return found
