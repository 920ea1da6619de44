"""Of several flows that are paid for, the one that counts."""

from __future__ import annotations

from batcher.core.adopting import Match, preference


def test_what_matches_comes_first_then_what_has_not_failed_then_the_newest() -> None:
    flows = [
        (Match.SAME, "running", 7),
        (Match.SAME, "completed", 3),
        (Match.SAME, "failed", 9),
        (Match.UNTOLD, "completed", 10),
        (Match.UNTOLD, "aborted", 11),
        (Match.DIFFERS, "completed", 12),
    ]
    as_listed = flows[::-1]
    assert sorted(as_listed, key=lambda flow: preference(*flow)) == flows
