"""Patterns over the keys of a bucket: `s3://shop/photos/**/*.png`.

In: such a pattern, rendered. Out: the objects that match, in the order of their keys, each with what the listing said of it.
Called by `row_sources`. The rules for names are those of files; the bucket is named as it is. What is listed begins with all
that the pattern says before its first wildcard, and is listed once for each command.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from batcher.core.facts import FileStat
from batcher.core.model import Place, Problem
from batcher.core.objects import Address, NoAddress, bucket_and_rest, is_address
from batcher.manifest import patterns
from batcher.manifest.findings import Unfit, harmless

LISTED: Final = "\0listed"  # the column, which no placeholder can name, of what the listing said
_WILD: Final = re.compile(r"[*?\[]")
KEPT: Final = 64  # listings, until the next one pushes the oldest out

Test: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class ListedObject:
    """What a listing said of the object at this address."""

    url: str
    stat: FileStat


@dataclass(frozen=True, slots=True)
class ObjectPattern:
    """A pattern that has been read: its bucket, and what is matched against keys."""

    text: str
    root: Address
    keys: patterns.Pattern

    @property
    def folder(self) -> str:
        return "/".join(self.keys.leading)

    @property
    def begins(self) -> str:
        """With what every key that matches begins."""
        names = self.keys.leading
        following = self.keys.components[len(names)].name
        return "".join(f"{name}/" for name in names) + _WILD.split(following, maxsplit=1)[0]


class Matches:
    """Objects, to be walked as often as asked, and never all held."""

    def __init__(self, walk: Callable[[], Iterator[ListedObject]]) -> None:
        self._walk = walk

    def __iter__(self) -> Iterator[ListedObject]:
        return self._walk()


def parse(text: str) -> ObjectPattern:
    """Raises Unfit for one that can never match."""
    try:
        root = bucket_and_rest(text, "a pattern")
    except NoAddress as error:
        raise Unfit(str(error), error.hint) from error
    if not root.key:
        raise Unfit(f"the pattern {harmless(text)} names a bucket", "end it with a pattern for objects, like /**/*.png")
    return ObjectPattern(text, Address(root.scheme, root.bucket, ""), patterns.parse(root.key))


def excluding(texts: list[str], pattern: ObjectPattern) -> list[Test]:
    """Tests for the keys that `exclude` takes away: patterns of the same bucket, or of its keys."""
    tests: list[Test] = []
    for text in texts:
        if not is_address(text):
            tests.append(patterns.parse(text).matcher())
        elif (other := parse(text)).root == pattern.root:
            tests.append(other.keys.matcher())
    return tests


class Listings:
    """The listings of one command, each asked for once. `go_on` may end one with an error."""

    def __init__(self, go_on: Callable[[], None]) -> None:
        self._go_on = go_on
        self._known: OrderedDict[str, Matches] = OrderedDict()
        self._seen: dict[str, int] = {}
        self._turn = threading.Lock()

    def of(self, pattern: ObjectPattern, place: Callable[[], Place]) -> tuple[Matches, int] | Problem:
        """What matches, and how many keys were looked at; or why that cannot be told. One thread after the other."""
        with self._turn:
            return self._of(pattern, place)

    def _of(self, pattern: ObjectPattern, place: Callable[[], Place]) -> tuple[Matches, int] | Problem:
        if pattern.text not in self._known:
            self._go_on()
            from batcher.objects.faults import StoreFault, What  # only where there is such a pattern
            from batcher.objects.listing import listing

            try:
                found = listing(pattern.root, pattern.folder, pattern.begins, pattern.keys.matcher(), self._go_on)
            except StoreFault as fault:
                message = fault.about(f"what {harmless(pattern.text)} names")
                kinds = {What.SETUP: "manifest", What.UNAVAILABLE: "unavailable"}
                return Problem(kinds.get(fault.what, "source"), message, fault.hint, place())  # type: ignore[arg-type]
            root = pattern.root.root
            self._known[pattern.text] = Matches(lambda: (ListedObject(f"{root}/{key}", stat) for key, stat in found))
            self._seen[pattern.text] = found.seen
            if len(self._known) > KEPT:
                oldest, _ = self._known.popitem(last=False)
                del self._seen[oldest]
        self._known.move_to_end(pattern.text)
        return self._known[pattern.text], self._seen[pattern.text]

    def is_folder(self, one: ListedObject) -> bool:
        """Whether an empty object only stands for a folder: its key, as it was listed, has lost its slash."""
        from batcher.objects.client import objects
        from batcher.objects.faults import StoreFault, What
        from batcher.objects.reading import reader_of

        try:
            objects().wait(reader_of(one.url).look(inside=False), self._go_on)
        except StoreFault as fault:
            return fault.what is What.MISSING
        return False
