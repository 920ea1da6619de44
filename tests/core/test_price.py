"""What a start costs: read as it is written, summed up exactly."""

from __future__ import annotations

import pytest

from batcher.core.forecast import over_caps
from batcher.core.model import Limits
from batcher.core.price import parse_price


@pytest.mark.parametrize(
    ("text", "one", "many"),
    [
        ("0.40 EUR", "0.40 EUR", "84.80 EUR"),
        ("0.4€", "0.4€", "84.8€"),
        ("$0.40", "$0.40", "$84.80"),
        ("EUR 12.5", "EUR 12.5", "EUR 2,650.0"),
        ("2 credits", "2 credits", "424 credits"),
        ("0.1", "0.1", "21.2"),
        (0.4, "0.4", "84.8"),
        (3, "3", "636"),
    ],
)
def test_prices_are_summed_up_in_their_own_unit(text: object, one: str, many: str) -> None:
    price = parse_price(text)
    assert (str(price), price.times(212)) == (one, many)


def test_sums_are_exact() -> None:
    assert parse_price("0.1 EUR").times(3) == "0.3 EUR"


NO_PRICES = ["", "EUR", "0,40 EUR", "-1 EUR", "1e3 EUR", "0.40 EUR 3", "0.4\x1b[2J", True, None, [1], "1" * 13]


@pytest.mark.parametrize("text", NO_PRICES)
def test_what_is_no_price_says_how_to_write_one(text: object) -> None:
    with pytest.raises(ValueError, match=r"write a price like 0\.40 EUR"):
        parse_price(text)


@pytest.mark.parametrize(("starts", "over"), [(0, False), (25, False), (26, True)])
def test_a_run_beyond_the_cap_is_told_with_what_it_would_cost(starts: int, over: bool) -> None:
    limits = Limits(price_per_start=parse_price("0.40 EUR"), max_cost=parse_price("10 EUR"))
    problems = over_caps(limits, starts, 0)
    assert bool(problems) is over
    if over:
        assert problems[0].message == "this run would start 26 flows for 10.40 EUR, and limits.max_cost allows 10 EUR"
