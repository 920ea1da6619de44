"""What a page says of the others, however it says it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from batcher.service.signs import Signs, signs_of


def read(envelope: Mapping[str, object], headers: Mapping[str, str] | None = None, status: int = 200) -> Signs:
    return signs_of(status, envelope, CIMultiDictProxy(CIMultiDict(headers or {})))


@pytest.mark.parametrize(
    ("envelope", "signs"),
    [
        ({}, Signs()),
        ({"next": "?page=2"}, Signs(links=("?page=2",))),
        ({"next": None}, Signs(ended=True)),
        ({"links": {"next": {"href": "/flows?p=2"}}}, Signs(links=("/flows?p=2",))),
        ({"nextPageToken": "t"}, Signs(tokens=(("pageToken", "t"), ("page_token", "t"), ("next_page_token", "t")))),
        ({"meta": {"has_more": False, "total": 3}}, Signs(more=False, total=3)),
        ({"has_more": True, "last_id": "f3"}, Signs(tokens=(("after_id", "f3"), ("after", "f3"), ("starting_after", "f3")),
                                                    more=True)),
        ({"last_id": "f3"}, Signs()),
        ({"page": 2, "pages": "7", "per_page": 50}, Signs(page=2, pages=7, limit=50)),
        ({"total": True, "count": -1, "offset": "x"}, Signs()),
        ({"errors": True}, Signs(trouble="it comes with an error")),
        ({"partial": "true"}, Signs(trouble="it says itself that it is a part")),
    ],
)  # fmt: skip
def test_members_beside_the_list(envelope: Mapping[str, object], signs: Signs) -> None:
    assert read(envelope) == signs


def test_headers_beside_the_list() -> None:
    assert read({}, {"Link": '</flows?p=1>; rel="first", </flows?p=2>; rel="next"'}).links == ("/flows?p=2",)
    assert read({}, {"X-Total-Count": "12"}).total == 12
    assert read({}, {"Content-Range": "items 0-9/30"}).total == 30
    assert read({"total": 3}, {"X-Total-Count": "12"}).total == 3


def test_part_without_a_total_is_not_whole() -> None:
    assert read({}, status=206).trouble
    assert not read({}, {"Content-Range": "items 0-9/30"}, status=206).trouble
