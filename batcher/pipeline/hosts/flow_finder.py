"""Which flow of the manifest a job means.

In: names, in about the manifest's order, as the queue gives them. Out: their flows. The manifest is walked on from where it
was left, so that all of it is walked about once; a job that comes back from a run that died has it walked around once more. In
the planner's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from ...core.model import Flow, Manifest, Problem


class FlowFinder:
    """`check` raises where the run is to end."""

    def __init__(self, manifest: Manifest, check: Callable[[], None]) -> None:
        self._manifest = manifest
        self._check = check
        self._rest: Iterator[Flow | Problem] = iter(())

    def find(self, names: set[str]) -> dict[str, Flow]:
        """Those of these flows that the manifest has here. Raises Stop."""
        found: dict[str, Flow] = {}
        for item in chain(self._rest, self._around()):
            self._check()
            if isinstance(item, Flow) and item.name in names:
                found[item.name] = item
                if len(found) == len(names):
                    break
        return found

    def _around(self) -> Iterator[Flow | Problem]:
        """The whole manifest once more; where it is left, the next walk goes on."""
        self._rest = iter(self._manifest.flows())
        yield from self._rest
