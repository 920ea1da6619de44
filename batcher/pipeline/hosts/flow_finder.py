"""Which flow of the manifest a job means.

In: names, in about the manifest's order, as the queue gives them. Out: their flows. The manifest is walked on from where it
was left, so that all of it is walked about once; a job that comes back from a run that died has it walked around once more. In
`JobPlans`' thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
        self._walk_on(names, found)
        if len(found) < len(names):  # once around; where that is left, the next walk goes on
            self._rest = iter(self._manifest.flows())
            self._walk_on(names, found)
        return found

    def _walk_on(self, names: set[str], found: dict[str, Flow]) -> None:
        for item in self._rest:
            self._check()
            if isinstance(item, Flow) and item.name in names:
                found[item.name] = item
                if len(found) == len(names):
                    return
