"""`notify`, `metrics` and prices: what may stand there, and what is said of the rest."""

from __future__ import annotations

import pytest

from batcher.core.model import Notify

from .conftest import Desk

FLOWS = "\nflows: [{name: f, template: t, inputs: [a]}]\n"


def test_all_of_it(desk: Desk) -> None:
    found = desk.load(
        "version: 1\nmetrics: out/m.prom\nnotify:\n  ping: https://hc-ping.com/${ID}?create=1\n  command:\n"
        "    on_success: echo $BATCHER_EXIT_CODE\n    on_failure: [bin/alert, '${ID}']\n    on_problem: null" + FLOWS,
        {"ID": "x"},
    )
    assert found.metrics == f"{desk.folder}/out/m.prom"
    assert found.notify == Notify("https://hc-ping.com/x?create=1", "echo $BATCHER_EXIT_CODE", ("bin/alert", "x"), None)
    assert "hc-ping" not in repr(found), "the address is a secret of a kind"
    bare = desk.load("version: 1" + FLOWS)
    assert (bare.notify, bare.metrics) == (Notify(), None)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8000/x", "http://localhost/x", "http://[::1]/x", "https://h:1/a/b?c=d"])
def test_addresses_that_may_be_pinged(desk: Desk, address: str) -> None:
    assert desk.load(f"version: 1\nnotify: {{ping: '{address}'}}{FLOWS}").notify.ping == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("notify: {ping: 'http://hc-ping.com/x'}", 'm.yaml:2:16: `ping` to "hc-ping.com" would go over plain http'),
        ("notify: {ping: hc-ping.com/x}", "m.yaml:2:16: `ping` is no https address"),
        ("notify: {ping: 'https://a:b@h/x'}", "m.yaml:2:16: `ping` takes an address without user name"),
        ("notify: {ping: 'https://h/x#y'}", "m.yaml:2:16: `ping` takes an address without"),
        ("notify: {ping: 'https://[h/x'}", "m.yaml:2:16: `ping` is no address"),
        ("notify: {ping: 5}", "m.yaml:2:16: `ping` is an address, not 5"),
        ("notify: {pnig: x}", "m.yaml:2:10: unknown key `pnig` in `notify` (did you mean `ping`?)"),
        ("notify: {command: {on_sucess: x}}", "m.yaml:2:20: unknown key `on_sucess` in `command` (did you mean"),
        ("notify: {command: {on_failure: [a, 5]}}", "m.yaml:2:32: a hook is a line for the shell or a list of words, not "
         "a list (put words that are no text in quotes)"),
        ("notify: {command: {on_failure: []}}", "m.yaml:2:32: a hook is a line"),
        ("notify: {command: {on_failure: ' '}}", "m.yaml:2:32: a hook is a line"),
        ("notify: {command: echo}", 'm.yaml:2:19: `command` must be a mapping, not "echo"'),
        ("notify: yes please", 'm.yaml:2:9: `notify` must be a mapping, not "yes please"'),
        ("metrics: []", "m.yaml:2:10: `metrics` is the path of a file, not a list (write one that ends in .prom)"),
        ("metrics: folder/", 'm.yaml:2:10: `metrics` is the path of a file, not "folder/"'),
        ("notfiy: {}", "m.yaml:2:1: unknown key `notfiy` in the manifest (did you mean `notify`?)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_place(desk: Desk, text: str, said: str) -> None:
    (problem,) = desk.refusal(f"version: 1\n{text}{FLOWS}")
    assert str(problem).startswith(said)
    assert "a:b" not in str(problem)


def test_they_stand_in_the_main_file_only(desk: Desk) -> None:
    desk.write("more.yaml", "version: 1\nmetrics: x\nnotify: {}\nflows: []\n")
    told = [str(problem) for problem in desk.refusal("version: 1\ninclude: [more.yaml]" + FLOWS)]
    assert told == [f"more.yaml:{line}:1: `{key}` may not stand in an included file (move it to the main manifest)"
                    for line, key in ((2, "metrics"), (3, "notify"))]  # fmt: skip


def test_prices_are_of_one_unit(desk: Desk) -> None:
    limits = desk.load("version: 1\nlimits: {price_per_start: 0.40 EUR, max_cost: 100 EUR}" + FLOWS).limits
    assert (str(limits.price_per_start), str(limits.max_cost)) == ("0.40 EUR", "100 EUR")
    for text, said in (
        ("limits: {max_cost: 100 EUR}", "m.yaml:2:20: `max_cost` cannot be"),
        ("limits: {price_per_start: 0.40 EUR, max_cost: 100 USD}", "(write it in the unit of price_per_start, as 0.40 EUR)"),
        ("limits: {price_per_start: free}", "m.yaml:2:27: `price_per_start` cannot be"),
    ):
        assert said in str(desk.refusal(f"version: 1\n{text}{FLOWS}")[0])


def test_a_template_that_several_flows_have_stands_where_it_is_written(desk: Desk) -> None:
    found = desk.load(
        "version: 1\ndefaults: {template: t}\nprofiles: {p: {template: u}}\nflows:\n"
        "- {name: a, inputs: [{text: x}]}\n- {name: b, extends: p, inputs: [{text: x}]}\n"
        "- {name: c, template: v, inputs: [{text: x}]}\n"
    )
    places = [str(flow.template_place()) if flow.template_place else None for flow in found.flows()]  # type: ignore[union-attr]
    assert places == ["m.yaml:2:22", "m.yaml:3:26", None], "one flow's own is told with the flow"
