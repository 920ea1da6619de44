"""Manifests that are broken by hand: each is refused at the right place, with advice."""

from __future__ import annotations

import pytest

from .conftest import Desk

HEAD = "version: 1\nflows:\n"
FLOW = HEAD + "- name: a\n  template: t\n  inputs:\n"  # inputs begin in line 6
EACH = HEAD + "- each: {glob: '*.png'}\n  name: '{stem}'\n  template: t\n"

BROKEN = {
    # the document
    "no version": ("flows: []", "1:1", "add `version: 1`"),
    "version as text": ("version: '1'\nflows: []", "1:10", "remove the quotes"),
    "version true": ("version: true\nflows: []", "1:10", "must be 1, not true"),
    "version 2": ("version: 2\nflows: []", "1:10", "only version"),
    "no flows": ("version: 1", "1:1", "`flows` is missing"),
    "a list": ("- a", "1:1", "a manifest is a mapping, not a list"),
    "a scalar": ("a", "1:1", 'a manifest is a mapping, not "a"'),
    "two documents": ("version: 1\nflows: []\n---\na: 1\n", "3:1", "one YAML document"),
    "repeated key": ("version: 1\nbatch: a\nflows: []\nbatch: b", "4:1", "it first stands at m.yaml:2:1"),
    "merge key": (FLOW + "  - {file: a, <<: {mime: image/png}}\n", "6:15", "merge keys"),
    "number as key": (FLOW + "  - {file: a, additional: {1: x}}\n", "6:28", "put it in quotes"),
    "list as key": (FLOW + "  - {file: a, additional: {[1]: x}}\n", "6:28", "a key must be a text"),
    "alias as key": (FLOW + "  - {file: &f a, additional: {*f : x}}\n", "6:31", "not an alias"),
    "NaN as key": (FLOW + "  - {file: a, additional: {.nan: x}}\n", "6:28", "put it in quotes"),
    "python tag": (FLOW + "  - !!python/name:os.system x\n", "6:5", "python/name:os.system"),
    "custom tag": (FLOW + "  - !env HOME\n", "6:5", "the YAML tag"),
    "unknown alias": (FLOW + "  - *nobody\n", "6:5", "nothing is anchored"),
    "recursive alias": ("version: 1\nflows: &f\n- *f\n", "3:3", "stands within itself"),
    "tab": ("version: 1\nflows:\n\t- a", "3:1", "spaces, not tabs"),
    "colon in a value": ("version: 1\nbatch: a: b\nflows: []", "2:9", "quote a value"),
    "open quote": ('version: 1\nbatch: "a\nflows: []', "3:10", "a quote is not closed"),
    "NaN": (FLOW + "  - {file: a, additional: {x: .nan}}\n", "6:31", "no number that JSON can hold"),
    "infinity": (FLOW + "  - {file: a, additional: {x: 1e999}}\n", "6:31", "quote it"),
    # keys
    "unknown key": ("version: 1\nbacth: a\nflows: []", "2:1", "did you mean `batch`?"),
    "unknown input key": (FLOW + "  - file: a\n    mine: image/png\n", "7:5", "did you mean `mime`?"),
    "unknown limit": ("version: 1\nlimits: {speed: 3}\nflows: []", "2:10", "the keys here are: concurrency"),
    "api key": ("version: 1\napi_key: s3cret\nflows: []", "2:1", "GENERIO_API_KEY"),
    "token in limits": ("version: 1\nlimits: {token: s3cret}\nflows: []", "2:10", "GENERIO_API_KEY"),
    "authorization": ("version: 1\ndefaults:\n  Authorization: s3cret\nflows: []", "3:3", "GENERIO_API_KEY"),
    "key by its name": ("version: 1\nGENERIO_API_KEY: s3cret\nflows: []", "2:1", "a key has no place"),
    "key by reference": ("version: 1\nbatch: ${GENERIO_API_KEY}\nflows: []", "2:8", "no place in a manifest"),
    # settings
    "endpoint": ("version: 1\nendpoint: flows.generio.ai\nflows: []", "2:11", "neither an http(s) address"),
    "endpoint with password": ("version: 1\nendpoint: https://u:s3cret@h\nflows: []", "2:11", "no user name"),
    "endpoint with query": ("version: 1\nendpoint: https://h/?k=s3cret\nflows: []", "2:11", "no query"),
    "batch": ("version: 1\nbatch: ''\nflows: []", "2:8", "1 to 100 printable"),
    "concurrency true": ("version: 1\nlimits: {concurrency: true}\nflows: []", "2:23", "whole number, not true"),
    "concurrency 0": ("version: 1\nlimits: {concurrency: 0}\nflows: []", "2:23", "at least 1, not 0"),
    "concurrency text": ("version: 1\nlimits: {concurrency: '4'}\nflows: []", "2:23", "remove the quotes"),
    "retries": ("version: 1\nlimits: {retries: 101}\nflows: []", "2:19", "at most 100"),
    "rate": ("version: 1\nlimits: {rate: 20/fortnight}\nflows: []", "2:16", "a rate like 20/s"),
    "memory": ("version: 1\nlimits: {memory: 64M}\nflows: []", "2:18", "MiB (1024-based)"),
    "little memory": ("version: 1\nlimits: {memory: 64}\nflows: []", "2:18", "at least 1MiB"),
    "timeout": ("version: 1\nlimits: {timeout: 0}\nflows: []", "2:19", "more than zero"),
    "max_starts 0": ("version: 1\nlimits: {max_starts: 0}\nflows: []", "2:22", "at least 1, not 0"),
    "max_bytes": ("version: 1\nlimits: {max_bytes: 5G}\nflows: []", "2:21", "GiB (1024-based)"),
    "max_bytes 0": ("version: 1\nlimits: {max_bytes: 0}\nflows: []", "2:21", "leave it out for no cap"),
    "max_duration": ("version: 1\nlimits: {max_duration: long}\nflows: []", "2:24", "a duration like 90s"),
    # flows
    "flow a text": (HEAD + "- a", "3:3", "a flow must be a mapping"),
    "no name": (HEAD + "- template: t\n  inputs: [a]", "3:3", "no `name`"),
    "name a number": (HEAD + "- name: 7\n  template: t\n  inputs: [a]", "3:9", "put it in quotes"),
    "name empty": (HEAD + "- name: ' '\n  template: t\n  inputs: [a]", "3:9", "the flow's name is empty"),
    "name long": (HEAD + f"- name: {'x' * 201}\n  template: t\n  inputs: [a]", "3:9", "201 characters"),
    "name with escape": (HEAD + '- name: "a\\e[31m"\n  template: t\n  inputs: [a]', "3:9", r"a\x1b[31m"),
    "repeated name": (FLOW + "  - x\n- name: a\n  template: t\n  inputs: [y]", "7:9", "first stands at m.yaml:3:9"),
    "no inputs": (HEAD + "- name: a\n  template: t", "3:3", "no `inputs`"),
    "inputs empty": (HEAD + "- name: a\n  template: t\n  inputs: []", "5:11", "at least one input"),
    "inputs a text": (HEAD + "- name: a\n  template: t\n  inputs: a.png", "5:11", "must be a list"),
    "no template": (HEAD + "- name: a\n  inputs: [a]", "3:3", "neither `template` nor `flow_id`"),
    "both": (HEAD + "- name: a\n  flow_id: f\n  template: t\n  inputs: [a]", "5:3", "cannot be given with `flow_id`"),
    "id and parameters": (HEAD + "- name: a\n  flow_id: f\n  parameters: {q: 1}\n  inputs: [a]", "5:3", "`parameters`"),
    "id and additional": (HEAD + "- name: a\n  flow_id: f\n  additional: {q: 1}\n  inputs: [a]", "5:3", "on the inputs"),
    "id that climbs": (HEAD + "- name: a\n  flow_id: ../x\n  inputs: [a]", "4:12", "no flow's id"),
    "id twice": (
        HEAD + "- name: a\n  flow_id: x\n  inputs: [a]\n- name: b\n  flow_id: x\n  inputs: [a]",
        "7:12",
        "put its inputs together",
    ),
    "additional a list": (HEAD + "- name: a\n  template: t\n  additional: [1]\n  inputs: [a]", "5:15", "is an object"),
    "flow's tag": (HEAD + "- name: a\n  template: t\n  additional: {batcher: 1}\n  inputs: [a]", "5:16", "`batcher`"),
    "defaults' tag": ("version: 1\ndefaults: {additional: {batcher: 1}}\nflows: []", "2:25", "puts its tag there"),
    "each of nothing": (HEAD + "- each: {}\n  name: '{x}'\n  template: t\n  inputs: [a]", "3:9", "write `glob` or `table`"),
    "each misspelled": (HEAD + "- each: {globs: x}\n  name: '{x}'\n  template: t\n  inputs: [a]", "3:10", "mean `glob`?"),
    "each, one name": (HEAD + "- each: {glob: x}\n  name: a\n  template: t\n  inputs: [a]", "4:9", "use a placeholder"),
    # profiles and included files
    "profile a text": ("version: 1\nprofiles: {fine: low}\nflows: []", "2:18", "the profile `fine` must be a mapping"),
    "profile misspelled": ("version: 1\nprofiles: {fine: {paramters: {}}}\nflows: []", "2:19", "did you mean `parameters`?"),
    "profile's tag": ("version: 1\nprofiles: {fine: {additional: {batcher: 1}}}", "2:32", "puts its tag there"),
    "profile extends nothing": ("version: 1\nprofiles: {fine: {}, b: {extends: fin}}", "2:35", "did you mean `fine`?"),
    "profiles in a circle": (
        "version: 1\nprofiles: {c: {extends: b}, b: {extends: a}, a: {extends: b}}",
        "2:59",
        'the profile "a" extends itself: a → b → a',
    ),
    "profile of itself": ("version: 1\nprofiles: {a: {extends: a}}", "2:25", "take one `extends` out"),
    "extends nothing": (HEAD + "- {name: a, extends: fine, inputs: [a]}", "3:22", "there are none: write one under `profiles`"),
    "extends a list": (HEAD + "- {name: a, extends: [b], template: t, inputs: [a]}", "3:22", "must be a text"),
    "extends and id": (
        "version: 1\nprofiles: {p: {}}\nflows: [{name: a, extends: p, flow_id: f, inputs: [a]}]",
        "3:19",
        "exists already",
    ),
    "include a text": ("version: 1\ninclude: a.yaml", "2:10", "must be a list"),
    "include a number": ("version: 1\ninclude: [3]", "2:11", "an included file must be a text"),
    "include missing": ("version: 1\ninclude: [a.yaml]", "2:11", '"a.yaml" cannot be included: there is no such manifest'),
    "include missing, only itself near": ("version: 1\ninclude: [m2.yaml]", "2:11", "(check the path; "),
    "include no match": ("version: 1\ninclude: ['a/*.yaml']", "2:11", "matches no file"),
    "include a folder": ("version: 1\ninclude: [.]", "2:11", "names a folder"),
    "include itself": ("version: 1\ninclude: ['*.yaml']", "2:11", "the manifest includes itself: m.yaml → m.yaml"),
    # inputs
    "input a number": (FLOW + "  - 3\n", "6:5", "an input cannot be 3"),
    "input null": (FLOW + "  - ~\n", "6:5", "needs quotes"),
    "input of nothing": (FLOW + "  - {additional: 1}\n", "6:5", "does not say what it takes"),
    "input misspelled": (FLOW + "  - {flie: a}\n", "6:6", "did you mean `file`?"),
    "file and glob": (FLOW + "  - {file: a, glob: b}\n", "6:6", "make two inputs"),
    "file and text": (FLOW + "  - {file: a, text: b}\n", "6:6", "cannot be both `text` and `file`"),
    "path empty": (FLOW + "  - ''\n", "6:5", "the path is empty"),
    "path with NUL": (FLOW + '  - "a\\0b"\n', "6:5", "NUL"),
    "mime": (FLOW + "  - {file: a, mime: png}\n", "6:21", "no MIME type"),
    "mime of a prompt": (FLOW + "  - {text: a, mime: text/plain}\n", "6:15", "`mime` is for files"),
    "prompt empty": (FLOW + "  - text: '  '\n", "6:11", "the prompt is empty"),
    "prompt data": (FLOW + "  - text: data:image/png;base64,AA==\n", "6:11", "begins with `data:`"),
    "prompt a number": (FLOW + "  - text: 12\n", "6:11", "put it in quotes"),
    "input's tag": (FLOW + "  - {file: a, additional: {batcher: 1}}\n", "6:28", "`batcher`"),
    "pattern open": (FLOW + "  - glob: 'a[1.png'\n", "6:11", "write [[]"),
    "pattern empty": (FLOW + "  - glob: ''\n", "6:11", "the pattern is empty"),
    "pattern of a folder": (FLOW + "  - glob: photos/\n", "6:11", "names a folder"),
    "pattern upside down": (FLOW + "  - glob: '[z-a]'\n", "6:11", "write [a-z]"),
    "table without column": (FLOW + "  - table: a.csv\n", "6:5", "neither `file` nor `text`"),
    "table with both": (FLOW + "  - {table: a.csv, file: '{a}', text: '{b}'}\n", "6:33", "cannot be both"),
    "table kind": (FLOW + "  - {table: a.xlsx, file: '{a}'}\n", "6:13", ".csv, .tsv, .jsonl or .parquet"),
    "exclude a number": (FLOW + "  - {glob: 'a*', exclude: 3}\n", "6:27", "`exclude` must be a text"),
    "exclude a list of numbers": (FLOW + "  - {glob: 'a*', exclude: [b, 3]}\n", "6:31", "`exclude` must be a text"),
    "exclude of a file": (FLOW + "  - {file: a, exclude: b}\n", "6:15", "unknown key `exclude` in a `file` input"),
    "exclude open": (FLOW + "  - {glob: 'a*', exclude: 'a[1'}\n", "6:27", "write [[]"),
    "exclude that would miss": (FLOW + "  - {glob: 'a/**', exclude: '*-old.png'}\n", "6:29", '"**/*-old.png"'),
    "exclude, unknown": (EACH + "  inputs: [{glob: '{parent}/*', exclude: ['{stm}/x']}]", "6:43", "did you mean `stem`?"),
    "key a number": (FLOW + "  - {file: a, key: 3}\n", "6:20", "put it in quotes"),
    "key empty": (FLOW + "  - {file: a, key: ' '}\n", "6:20", "the input's key is empty"),
    "key long": (FLOW + f"  - {{file: a, key: {'x' * 201}}}\n", "6:20", "201 characters"),
    "key of a glob": (FLOW + "  - {glob: a*, key: k}\n", "6:21", 'use a placeholder, like "{sku}"'),
    "key of a table": (FLOW + "  - {table: a.csv, file: '{f}', key: k}\n", "6:38", "must differ"),
    # placeholders and references
    "unset": (FLOW + "  - ${NOPE}/a.png\n", "6:5", "set NOPE, or write ${NOPE:-default}"),
    "unset but close": (FLOW + "  - ${HOEM}/a.png\n", "6:5", "did you mean `HOME`?"),
    "not UTF-8": (FLOW + "  - ${BYTES}\n", "6:5", "BYTES is not UTF-8"),
    "reference": (FLOW + "  - ${a b}\n", "6:5", "a plain dollar sign before a brace is $$"),
    "unknown variable": (FLOW + "  - {glob: '*', additional: {s: '{stm}'}}\n", "6:33", "did you mean `stem`?"),
    "attribute": (FLOW + "  - {glob: '*', additional: '{stem.__class__}'}\n", "6:29", "no plain name"),
    "index": (FLOW + "  - {glob: '*', additional: '{stem[0]}'}\n", "6:29", "no plain name"),
    "conversion": (FLOW + "  - {glob: '*', additional: '{stem!r}'}\n", "6:29", "no plain name"),
    "format": (FLOW + "  - {glob: '*', additional: '{stem:>10}'}\n", "6:29", "no plain name"),
    "no name in braces": (FLOW + "  - {glob: '*', additional: '{}'}\n", "6:29", "names nothing"),
    "single brace": (FLOW + "  - {glob: '*', additional: 'a}'}\n", "6:29", "write }} for a brace"),
    "each, unknown": (EACH + "  inputs: ['{paht}']", "6:12", "did you mean `path`?"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_manifest_is_refused_at_its_place_with_advice(desk: Desk, name: str) -> None:
    text, place, fragment = BROKEN[name]
    problems = desk.refusal(text, {"HOME": "/home/x", "BYTES": "\udcff"})
    told = [str(problem) for problem in problems]
    assert len(told) == 1, told
    assert told[0].startswith(f"m.yaml:{place}: "), told
    assert fragment in told[0], told
    assert problems[0].kind == "manifest"
    assert "s3cret" not in told[0]
    assert told[0].isprintable()
    assert "pydantic" not in told[0]


def test_everything_that_is_wrong_is_told_in_one_go_in_the_order_of_the_text(desk: Desk) -> None:
    parts = [
        "version: 2",
        "bacth: x",
        "limits: {rate: fast, retries: -1, burst: 1}",
        "defaults: {template: t, additional: {batcher: 1}}",
        "flows:",
        "- name: a",
        "  inputs: [1, '${NOPE}', {fil: x}, {file: a, mime: png}, {text: ' '}, {glob: '*', additional: '{stm}'}]",
        "- name: a",
        "  flow_id: a/b",
        "  inputs: []",
        "- nmae: c",
        "  each: {glob: '*', tabel: x}",
        "  inputs: ['{pth}', !x y]",
    ]
    problems = desk.refusal("\n".join(parts))
    places = [(p.place.line, p.place.column) for p in problems if p.place]
    assert places == sorted(places)
    assert len(places) == len(problems)
    by_line = {number: sum(place[0] == number for place in places) for number in range(1, len(parts) + 1)}
    assert by_line == {1: 1, 2: 1, 3: 3, 4: 1, 5: 0, 6: 0, 7: 6, 8: 1, 9: 1, 10: 1, 11: 2, 12: 1, 13: 2}


def test_a_long_or_strange_value_is_shown_shortened_and_harmless(desk: Desk) -> None:
    (problem,) = desk.refusal(f'version: 1\nflows: []\n"{"x" * 200}\\e[2J": 1\n')
    assert len(str(problem)) < 300
    (problem,) = desk.refusal('version: "\\e]0;owned\\a\\u202e"\nflows: []')
    assert r"\x1b]0;owned\x07\u202e" in problem.message
