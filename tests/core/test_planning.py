"""Every combination that planning can meet: nothing is called done, or paid for again, that should not be."""

from __future__ import annotations

from itertools import product

import pytest

from batcher.core.facts import FileStat, FlowFacts, InputFacts
from batcher.core.lifecycle import FlowState, InputState
from batcher.core.model import ABSENT, JSON
from batcher.core.planning import Action, Change, Options, Tally, change_of, decide, digest_sent
from batcher.core.tags import spec_digest

KEY = b"k" * 16
MEANINGS = [b"m" * 16, b"n" * 16]
PRINTS = [FileStat(3, 4, 5), FileStat(3, 4, 6)]
DIGESTS = [b"s" * 32, b"t" * 32]


@pytest.mark.parametrize("state", list(InputState))
def test_standing_over_all_combinations(state: InputState) -> None:
    for kept, meant, sent, file_stat, known, read, trust in product(
        MEANINGS, MEANINGS, PRINTS, PRINTS, [None, *DIGESTS], [None, *DIGESTS], [True, False]
    ):
        row = InputFacts(KEY, state, known, kept, sent)
        found = change_of(row, meant, file_stat, read, trust=trust)
        if state in (InputState.PENDING, InputState.REFUSED):
            assert found is Change.NEW
        elif kept != meant:
            assert found is Change.DIFFERS
        elif found is Change.SAME:
            assert known == read or (known is None and sent == file_stat and read is not None) or (
                read is None and trust and sent == file_stat and known is not None
            ), "called the same without a reason"
        elif found is Change.DIFFERS:
            assert (known is None and sent != file_stat) or (None not in (known, read) and known != read)
        else:
            assert found is Change.HASH
            assert read is None, "once it was read it can be told"


@pytest.mark.parametrize("additional", [ABSENT, {}, {"n": 1}, [1]])
@pytest.mark.parametrize(("kept", "meant", "same"), [
    ("image/jpeg", "image/jpeg", True), ("image/jpg", "image/jpeg", True), ("image/tif", "image/tiff", True),
    ("IMAGE/Jpeg", "image/jpeg", True), ("image/png", "image/jpeg", False), ("image/jpg", "image/tiff", False),
])  # fmt: skip
def test_digest_over_another_spelling_of_the_type_is_no_change(kept: str, meant: str, same: bool, additional: JSON) -> None:
    """`IMAGE/Jpeg`: as the service spells it now."""
    row = InputFacts(KEY, InputState.ACCEPTED, DIGESTS[0], spec_digest(kept, additional), PRINTS[0])
    digest = digest_sent(row, spec_digest(meant, additional), meant, "IMAGE/Jpeg", additional)
    found = change_of(row, digest, PRINTS[0], None, trust=True)
    assert found is (Change.SAME if same else Change.DIFFERS)
    assert digest_sent(None, spec_digest(meant, additional), meant, "IMAGE/Jpeg", additional) == spec_digest(meant, additional)
    other = digest_sent(row, spec_digest(meant, {"another": 1}), meant, "IMAGE/Jpeg", {"another": 1})
    assert change_of(row, other, PRINTS[0], None, trust=True) is Change.DIFFERS


def test_what_the_journal_does_not_know_is_new() -> None:
    assert all(change_of(None, m, p, d, trust=t) is Change.NEW
               for m, p, d, t in product(MEANINGS, PRINTS, DIGESTS, [True, False]))  # fmt: skip


@pytest.mark.parametrize("tally", [Tally(total=2, new=2), Tally(total=2, differs=2), Tally(total=2, same=2)])
def test_flow_of_which_is_not_known_what_it_was_started_with_never_counts_as_changed(tally: Tally) -> None:
    """Only by its name is it paid for again; or in place of another one, as the manifest says."""
    facts = FlowFacts("f", FlowState.STARTED, "id")
    for problems, options in product((False, True), (Options(resubmit_changed=True), Options(checksum=True), Options())):
        assert decide(facts, MEANINGS[0], tally, 0, problems, False, options) is Action.DONE
    assert decide(facts, MEANINGS[0], tally, 0, False, False, Options(redo=lambda name: True)) is Action.REDO
    assert decide(facts, MEANINGS[0], tally, 0, False, False, Options(), given="another") is Action.CHANGED


@pytest.mark.parametrize("state", [None, *FlowState])
def test_decide_over_all_combinations(state: FlowState | None) -> None:
    for meaning_differs, new, differs, same, taken_out, problems, waiting, resubmit, redo in product(
        [False, True], [0, 2], [0, 1], [0, 3], [0, 1], [False, True], [False, True], [False, True], [False, True]
    ):
        facts = None if state is None else FlowFacts("f", state, "id", spec_digest=MEANINGS[meaning_differs])
        tally = Tally(total=new + differs + same, new=new, differs=differs, same=same)
        options = Options(resubmit_changed=resubmit, redo=lambda name, redo=redo: redo)
        action = decide(facts, MEANINGS[0], tally, differs + same + taken_out, problems, waiting, options)
        changed = new > 0 or differs > 0 or (facts is not None and meaning_differs)
        if state is FlowState.STARTING:
            assert action is Action.RESUME, "it may be paid for: that is settled first, whatever has become of its sources"
            continue
        if problems:
            assert not action.works, "nothing is done for what must be put right first"
        if state is FlowState.STARTED:
            assert action in (Action.DONE, Action.CHANGED, Action.REDO, Action.BLOCKED)
            if action is Action.REDO:
                assert redo or (resubmit and changed), "paid for again without being asked"
            if action is Action.DONE:
                assert not changed
                assert not redo
            assert (action is Action.CHANGED) <= changed
            continue
        assert action not in (Action.DONE, Action.CHANGED, Action.REDO), "done, and not started"
        if not problems and not waiting:
            assert action.works, "something always follows"
            if state in (None, FlowState.PLANNED):
                assert action is Action.NEW
            else:
                assert (action is Action.REBUILD) == (differs > 0 or meaning_differs or taken_out > 0)
