"""How many flows one run may yet start, where `starts_per_run` bounds it.

In: flows that are about to be begun, and how each ended. Out: whether one more may be. Called by the producer before it begins
a flow, and by whoever ends one. What counts is a start that this run has announced, whatever its reply, and one of an earlier
run that it could not settle; a flow that fails before its start gives its place back.
"""

from __future__ import annotations

from ..core.lifecycle import FlowState


class Starts:
    """`most`: starts of one run (None: no bound). `unsettled` flows, whose start an earlier run has announced, have places of
    their own: one that turns out not to be started is started by this run. In the loop's thread."""

    def __init__(self, most: int | None, unsettled: int) -> None:
        self.most = most
        self._taken = 0
        self._kept = unsettled
        self.admitted = 0  # flows that were given a place
        self.closed = False  # one was held back

    @property
    def over(self) -> bool:
        """Whether no flow that may come later would be let through."""
        return self.closed and self._kept == 0

    def close(self) -> None:
        self.closed = True

    def take(self, unsettled: bool) -> bool:
        """A place for one more flow; False where there is none now."""
        kept = 0 if unsettled else self._kept
        if self.most is not None and self._taken + kept >= self.most:
            return False
        self._kept -= unsettled and self._kept > 0
        self._taken += 1
        self.admitted += 1
        return True

    def free(self, announced: bool, state: FlowState) -> None:
        """A flow that had a place has ended, for this run."""
        if not announced and state is not FlowState.STARTING:
            self._taken -= 1
