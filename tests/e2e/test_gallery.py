"""`batcher gallery`: the page as files, and in a real Chromium (skipped, in words, where there is none), and the way back
by `--redo-from`. Models are drawn without a graphics card here, where the first one takes seconds."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import urllib.parse
from collections.abc import AsyncIterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from batcher.core.chosen import Chosen, listed
from tests.cli import books

from . import chromium
from .conftest import Service, batcher
from .test_report import CONTRASTS, HOSTILE

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240), pytest.mark.slow]
in_chromium = pytest.mark.skipif(chromium.find() is None, reason=chromium.WITHOUT)

MANIFESTS = Path(__file__).parents[2] / "manifests"
READY_S = 100.0  # a software renderer on a machine that is busy with other things
NOISE = ("rAF timed out", "GL Driver Message")  # of a slow renderer: nothing of ours


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[chromium.Page]:
    flags = ("--enable-unsafe-swiftshader", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    async with chromium.chromium(tmp_path / "profile", *flags) as page:
        await page.looks(1280, 900)
        yield page


def said(tab: chromium.Page) -> list[str]:
    return [line for line in tab.said if not any(noise in line for noise in NOISE)]


async def until(tab: chromium.Page, condition: str) -> None:
    ends = time.monotonic() + READY_S
    while not await tab.run(f"Boolean({condition})"):
        assert time.monotonic() < ends, f"{condition} did not come: {tab.said}"
        await asyncio.sleep(0.1)


def write_mixed(folder: Path, url: str) -> None:
    """Photos as flows of their own, prompts in one flow, a model that is optimised: files of the examples."""
    (folder / "photos").mkdir()
    for n in range(4):
        shutil.copy(MANIFESTS / "photos" / "chair-red.png", folder / "photos" / f"chair {n} #1?.png")
    shutil.copy(MANIFESTS / "photos" / "bench.tiff", folder / "photos" / "bench.tiff")
    shutil.copy(MANIFESTS / "models" / "stool.glb", folder / "stool.glb")
    (folder / "prompt.txt").write_text("A low bench\nof oiled oak\n")
    manifest = {
        "version": 1, "batch": "autumn", "endpoint": url, "limits": {"settle": "1s", "retries": 2, "timeout": "5s"},
        "defaults": {"additional": {"campaign": "autumn"}},
        "flows": [
            {"each": {"glob": "photos/*"}, "name": "{stem}", "template": "model_generate_fromimage",
             "inputs": [{"file": "{path}", "additional": {"sku": "CH-{index}", "dims": {"w": 40}}}]},
            {"name": "prompts", "template": "model_generate_fromprompt",
             "inputs": [{"text": "An office chair"}, {"file": "prompt.txt"}]},
            {"name": "optimised", "template": "model_optimize", "inputs": ["stool.glb"]},
        ],
    }  # fmt: skip
    (folder / "m.yaml").write_text(json.dumps(manifest))


def data_of(html: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert match is not None
    return json.loads(match[1])


def collected(folder: Path, flows: list[str]) -> None:
    """`m.yaml` with a journal, and an output for each flow that was started: without a service."""
    manifest = books.write(folder, flows, inputs=1)
    shutil.copy(MANIFESTS / "photos" / "chair-red.png", folder / "a.png")
    glb = (MANIFESTS / "models" / "stool.glb").read_bytes()
    (folder / "out").mkdir()
    with open(folder / "out" / "results.jsonl", "w") as lists:
        for n, name in enumerate(flows):
            if n % 7 == 3 or n % 11 == 5 or n % 9 == 4:
                continue  # as `books` has them: not started
            (folder / "out" / f"{n}.glb").write_bytes(glb)
            row = {"source": "a.png", "flow": name, "flow_id": f"6b{n:022x}", "asset_id": f"o{n}", "output": f"{n}.glb",
                   "state": "collected", "bytes": len(glb), "sha256": "", "batch": manifest.batch, "reason": ""}  # fmt: skip
            lists.write(json.dumps(row, ensure_ascii=False) + "\n")


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()}


# ---- Without a browser


def test_collect_writes_it_and_a_second_one_adds_to_it(service: Service, tmp_path: Path) -> None:
    write_mixed(tmp_path, service.url)
    assert batcher(tmp_path, "run", "m.yaml", "--only", "chair*").returncode == 0
    first = batcher(tmp_path, "collect", "m.yaml", "--to", "out", "--gallery")
    assert first.returncode == 0, first.stderr
    assert re.search(r"^gallery: .*/out/gallery.html: 4 collected, 4 not started; ", first.stdout, re.MULTILINE)
    before = snapshot(tmp_path / "out" / "gallery_files")
    assert batcher(tmp_path, "run", "m.yaml").returncode == 0
    second = batcher(tmp_path, "collect", "m.yaml", "--to", "out", "--gallery")
    assert re.search(r"^gallery: .*: 8 collected; ", second.stdout, re.MULTILINE), second.stdout
    after = snapshot(tmp_path / "out" / "gallery_files")
    assert before.items() <= after.items(), "what was there has been written again"
    assert len(after) - len(before) == 4  # the models of the others; the input that is one was there

    data = data_of((tmp_path / "out" / "gallery.html").read_text("utf-8"))
    cards = {(data["flows"][card["f"]][0], card["l"]): card for card in data["cards"]}
    chair = cards["chair 2 #1?", "photos/chair 2 #1?.png"]
    assert chair["h"] == "../photos/chair%202%20%231%3F.png"
    assert urllib.parse.unquote(chair["o"]) == "chair 2 #1_/chair 2 #1_.glb"
    assert (chair["s"], chair["k"], chair["t"]) == (0, "image", "model")
    assert [(data["members"][n], v) for n, v in zip(chair["x"][::2], chair["x"][1::2], strict=True)] == [
        ("sku", "CH-3"), ("dims.w", "40"), ("campaign", "autumn"),
    ]  # fmt: skip
    assert cards["bench", "photos/bench.tiff"]["k"] == "other"
    assert (cards["prompts", "An office chair"]["k"], cards["prompts", "An office chair"]["p"]) == ("text", "An office chair")
    assert cards["prompts", "prompt.txt"]["p"] == "A low bench\nof oiled oak"
    assert cards["optimised", "stool.glb"]["i"], "an input that is a model is turned, too"
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.endswith(".part")] == []


def test_failures_missing_files_and_lost_inputs_are_told(service: Service, tmp_path: Path) -> None:
    write_mixed(tmp_path, service.url)
    (tmp_path / "m.yaml").write_text((tmp_path / "m.yaml").read_text().replace('"photos/*"', '"photos/chair*"'))
    service.order("start:flow=chair 1 #1?,fail_flow=1")
    assert batcher(tmp_path, "run", "m.yaml").returncode == 0
    collect = batcher(tmp_path, "collect", "m.yaml", "--to", "out", "--gallery")
    assert collect.returncode == 13
    assert "1 failed" in collect.stdout
    assert ": 6 collected, 1 failed; " in collect.stdout
    (tmp_path / "prompt.txt").unlink()
    next((tmp_path / "out" / "optimised").glob("*.glb")).unlink()
    told = json.loads(batcher(tmp_path, "gallery", "m.yaml", "--to", "out", "--json").stdout)
    assert told["cards"]["collected"] == 5
    assert (told["cards"]["missing"], told["cards"]["failed"], told["exit_code"]) == (1, 1, 0)
    html = (tmp_path / "out" / "gallery.html").read_text("utf-8")
    assert "5 of 7 outputs are here." in html
    cards = data_of(html)["cards"]
    assert [card["w"] for card in cards if card["s"] == 1] == ["it is gone from the folder"]
    (lost,) = [card for card in cards if card["k"] == "gone"]
    assert lost["l"] == "prompt.txt"


def test_copies_of_inputs_lie_beside_it_and_are_no_sources(service: Service, tmp_path: Path) -> None:
    write_mixed(tmp_path, service.url)
    text = (tmp_path / "m.yaml").read_text().replace('"photos/*"', '"**/*.png"')
    (tmp_path / "m.yaml").write_text(text)
    assert batcher(tmp_path, "run", "m.yaml", "--collect", "photos/out").returncode == 0
    made = json.loads(batcher(tmp_path, "gallery", "m.yaml", "--to", "photos/out", "--copy-inputs", "--json").stdout)
    assert made["inputs_copied"] == 6
    data = data_of((tmp_path / "photos" / "out" / "gallery.html").read_text("utf-8"))
    links = [card["h"] for card in data["cards"] if "h" in card]
    assert len(links) == 6
    for link in links:
        assert (tmp_path / "photos" / "out" / link).is_file()
    plan = batcher(tmp_path, "plan", "m.yaml")
    assert plan.returncode == 0, plan.stderr
    assert "to pay:   0 starts" in plan.stdout, "the copies were taken for sources"
    # Another manifest that asks for the results by their folder does not get the copies either.
    other = {"version": 1, "endpoint": service.url, "flows": [
        {"name": "all", "template": "model_generate_fromimage", "inputs": [{"glob": "photos/out/**/*.png"}]}]}  # fmt: skip
    (tmp_path / "other.yaml").write_text(json.dumps(other))
    refused = batcher(tmp_path, "plan", "other.yaml")
    assert refused.returncode == 2
    assert "4 files that the patterns match are results of `collect`, and left out: photos/out/gallery_files" in refused.stderr


def test_served_has_no_scripts_of_models_and_two_batches_do_not_overwrite_each_other(tmp_path: Path) -> None:
    collected(tmp_path, books.names(12))
    served = json.loads(batcher(tmp_path, "gallery", "m.yaml", "--to", "out", "--served", "--json").stdout)
    assert (served["models"], served["cards"]["collected"]) == (0, 8)
    assert not list((tmp_path / "out").rglob("*.js.part"))
    assert [path.name for path in (tmp_path / "out" / "gallery_files").rglob("*.js")] == ["model-viewer-umd.min.js"]
    text = (tmp_path / "m.yaml").read_text()
    (tmp_path / "m.yaml").write_text(text.replace('{"version": 1', '{"version": 1, "batch": "another"'))
    with_journal = tmp_path / ".batcher"
    assert with_journal.is_dir()
    second = json.loads(batcher(tmp_path, "gallery", "m.yaml", "--to", "out", "--json").stdout)
    assert re.search(r"/out/gallery-another-[0-9a-f]{8}\.html$", second["gallery"]), second
    assert 'content="m-' in (tmp_path / "out" / "gallery.html").read_text("utf-8")


def test_without_results_or_a_journal_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("version: 1\nflows: []\n")
    result = batcher(tmp_path, "gallery", "m.yaml", "--to", "out")
    assert result.returncode == 2
    assert result.stderr == "batcher: nothing was run yet, so there is nothing to see (begin with: batcher run m.yaml)\n"
    books.write(tmp_path, books.names(3))
    result = batcher(tmp_path, "gallery", "m.yaml", "--to", "out")
    assert result.returncode == 2
    assert "nothing was collected into" in result.stderr
    assert "batcher collect MANIFEST --to " in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_list_of_results_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    collected(tmp_path, ["a", "b", "c"])
    (tmp_path / "secret.glb").write_bytes(b"glTF secret")
    lists = tmp_path / "out" / "results.jsonl"
    lists.write_text(lists.read_text().replace('"0.glb"', '"../secret.glb"').replace('"1.glb"', f'"{tmp_path}/secret.glb"')
                     + "not json\n[1]\n{}\n" + '{"flow": 3, "batch": []}\n')  # fmt: skip
    made = json.loads(batcher(tmp_path, "gallery", "m.yaml", "--to", "out", "--json").stdout)
    assert (made["models"], made["cards"]["missing"]) == (1, 2)


def test_ten_thousand_flows_take_seconds_and_bounded_memory(tmp_path: Path) -> None:
    collected(tmp_path, books.names(10_000))
    script = ("import resource; from batcher.cli import main\ntry: main()\nexcept SystemExit: pass\n"
              "r = resource.getrusage(resource.RUSAGE_SELF); print(r.ru_utime + r.ru_stime, r.ru_maxrss)")  # fmt: skip
    figures = []
    for _ in range(2):
        # As a child of a small shell: what is forked off this process counts this one's memory, too.
        words = ["sh", "-c", '"$0" "$@" && true', sys.executable, "-c", script, "gallery", "m.yaml", "--to", "out", "--quiet"]
        result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        figures.append([float(one) for one in result.stdout.split()])
    print(f"first: {figures[0]}, again: {figures[1]} (CPU seconds, KiB)")
    assert figures[0][0] < 20
    assert figures[1][0] < 10
    assert max(of[1] for of in figures) < 200_000
    assert (tmp_path / "out" / "gallery.html").stat().st_size < 4_000_000


# ---- The way back


def test_a_list_is_redone_once_however_often_it_is_given(service: Service, tmp_path: Path) -> None:
    write_mixed(tmp_path, service.url)
    assert batcher(tmp_path, "run", "m.yaml", "--collect", "out").returncode == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    ids = {row["flow"]: row["flow_id"] for row in rows}
    listed_flows = ["# rejected", "", f"chair 1 [#]1[?]\t{ids['chair 1 #1?']}  # legs #2 are odd",
                    f"prompts\t{ids['prompts']}"]  # fmt: skip
    (tmp_path / "redo.txt").write_text("\r\n".join(listed_flows) + "\r\n")
    plan = batcher(tmp_path, "plan", "m.yaml", "--redo-from", "redo.txt")
    assert plan.returncode == 0, plan.stderr
    assert "to pay:   2 starts" in plan.stdout
    assert service.record()["requests"]["start"] == 7
    capped = batcher(tmp_path, "run", "m.yaml", "--redo-from", "redo.txt", "--max-starts", "1")
    assert capped.returncode == 10, capped.stderr
    assert "run again: the next run goes on" in capped.stderr, "the same list may be given again"
    assert "do not repeat it" not in capped.stderr
    rest = batcher(tmp_path, "run", "m.yaml", "--redo-from", "redo.txt")
    assert rest.returncode == 0, rest.stderr
    assert "1 flow of the list was made again since, and left alone" in rest.stderr
    again = batcher(tmp_path, "run", "m.yaml", "--redo-from", "redo.txt")
    assert "2 flows of the list were made again since, and left alone" in again.stderr
    assert service.record()["requests"]["start"] == 9, "a flow was paid for more than once more"


def test_names_alone_are_redone_each_time_and_unknown_ones_are_an_error_with_their_line(
    service: Service, tmp_path: Path
) -> None:
    write_mixed(tmp_path, service.url)
    assert batcher(tmp_path, "run", "m.yaml").returncode == 0
    (tmp_path / "redo.txt").write_text("prompts\nchair ? *\n\n  # a comment\n   prompst   # a slip\nno such*\n")
    wrong = batcher(tmp_path, "run", "m.yaml", "--redo-from", "redo.txt")
    assert wrong.returncode == 2
    assert "redo.txt:5:1: --redo-from prompst: there is no such flow (did you mean prompts?)" in wrong.stderr
    assert "redo.txt:6:1: --redo-from no such*: there is no such flow" in wrong.stderr
    assert service.record()["requests"]["start"] == 7, "something was started in spite of a slip"
    (tmp_path / "redo.txt").write_text("\ufeffprompts\nchair ? *\n")
    right = batcher(tmp_path, "run", "m.yaml", "--redo-from", "redo.txt", "--redo", "optimised", "--json")
    assert json.loads(right.stdout)["flows"]["started_now"] == 6
    for content, words in ((b"a\nb\xff\n", "redo.txt:2: --redo-from: the line is not UTF-8"), (None, "cannot be read")):
        (tmp_path / "redo.txt").unlink()
        if content is not None:
            (tmp_path / "redo.txt").write_bytes(content)
        else:
            (tmp_path / "redo.txt").mkdir()
        result = batcher(tmp_path, "run", "m.yaml", "--redo-from", "redo.txt")
        assert (result.returncode, words in result.stderr) == (2, True), result.stderr


# ---- In a browser


@in_chromium
@pytest.mark.parametrize("served", [False, True])
async def test_models_are_turned_from_a_file_and_from_a_server_and_nobody_else_is_asked(
    tab: chromium.Page, service: Service, tmp_path: Path, served: bool
) -> None:
    write_mixed(tmp_path, service.url)
    assert batcher(tmp_path, "run", "m.yaml", "--collect", "out").returncode == 0
    assert batcher(tmp_path, "gallery", "m.yaml", "--to", "out", *(["--served"] if served else [])).returncode == 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}"
    try:
        await tab.visit(f"{host}/out/gallery.html" if served else (tmp_path / "out" / "gallery.html").as_uri())
        await until(tab, "document.querySelectorAll('.card figure.out.ready').length >= 3")
        # Drag with the mouse from the middle of a model: it turns.
        view = "document.querySelector('.card figure.out.ready model-viewer')"
        box = await tab.run(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({view}.getBoundingClientRect())")
        before = await tab.run(f"{view}.getCameraOrbit().theta")
        for kind, shift in (("mousePressed", 0), ("mouseMoved", 20), ("mouseMoved", 60), ("mouseReleased", 60)):
            await tab.call("Input.dispatchMouseEvent", type=kind, x=box[0] + shift, y=box[1], button="left", buttons=1,
                           clickCount=1)  # fmt: skip
        await until(tab, f"Math.abs({view}.getCameraOrbit().theta - {before}) > 0.2")
        await tab.run("document.getElementById('flow').value = 'optimised'; "
                      "document.getElementById('flow').dispatchEvent(new Event('input'))")  # fmt: skip
        await until(tab, "document.querySelectorAll('.card').length === 1 && document.querySelector('figure.in.ready')")
        assert said(tab) == []
        own = (host,) if served else ("file:///",)
        assert [url for url in tab.asked if not url.startswith((*own, "blob:", "data:"))] == []
        assert any(url.endswith(".glb") for url in tab.asked) == served
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@in_chromium
async def test_it_is_quiet_readable_and_fits_at_every_width_in_both_lights(tab: chromium.Page, tmp_path: Path) -> None:
    collected(tmp_path, [*HOSTILE, "a-very-long-name-" * 11, *books.names(60)])
    assert batcher(tmp_path, "gallery", "m.yaml", "--to", "out", "--served").returncode == 0  # no models: only the page
    for width, height, phone in ((1440, 900, False), (820, 1100, False), (390, 844, True), (360, 640, True)):
        for dark in (False, True):
            await tab.looks(width, height, dark=dark, phone=phone)
            await tab.open(tmp_path / "out" / "gallery.html")
            assert await tab.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            await tab.run("document.querySelectorAll('.card .mark-r')[0].click()")
            assert await tab.run("document.querySelector('.card').scrollHeight <= document.querySelector('.card').clientHeight")
            contrasts = await tab.run(CONTRASTS)
            assert contrasts["poor"] == []
            assert contrasts["looked"] > 30
            await tab.run("document.querySelector('.card .title').click()")
            assert (await tab.run(CONTRASTS))["poor"] == []
            await tab.run("document.querySelector('#detail').close(); document.querySelectorAll('.card .mark-r')[0].click()")
    assert said(tab) == []


@in_chromium
async def test_it_is_worked_by_keyboard_and_told_to_a_screen_reader(tab: chromium.Page, tmp_path: Path) -> None:
    collected(tmp_path, books.names(300))
    assert batcher(tmp_path, "gallery", "m.yaml", "--to", "out", "--served").returncode == 0
    await tab.open(tmp_path / "out" / "gallery.html")
    place = "document.activeElement.closest('article')?.getAttribute('aria-posinset')"
    tree = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
    roles: dict[str, list[str]] = {}
    for node in tree:
        if not node.get("ignored"):
            roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert roles["feed"] == ["Inputs and their outputs"]
    assert roles["search"] == ["Filter"]
    assert roles["article"][:2] == ["armchair 0", "stool 1"]
    assert roles["searchbox"][0].startswith("Filter")
    controls = ("button", "link", "image", "combobox", "textbox", "group", "article")
    named = {name for role in controls for name in roles.get(role, [])}
    assert "" not in named
    assert {"Accept armchair 0", "Reject armchair 0", "Input a.png"} <= named
    assert await tab.run("document.querySelector('article').getAttribute('aria-setsize')") == "300"

    await tab.press("/", 191, "/")
    assert await tab.run("document.activeElement.id") == "text"
    assert await tab.run("document.activeElement.value") == ""
    await tab.press("Escape", 27)
    assert await tab.run(place) == "1"
    columns = await tab.run("new Set([...document.querySelectorAll('.card')].map(c => c.getBoundingClientRect().x)).size")
    for key, code, expected in (("ArrowRight", 39, 2), ("ArrowDown", 40, 2 + columns), ("ArrowUp", 38, 2), ("End", 35, 300),
                                ("ArrowLeft", 37, 299), ("Home", 36, 1), ("ArrowLeft", 37, 1)):  # fmt: skip
        await tab.press(key, code)
        assert await tab.run(place) == str(expected), key
    inside = "({top, bottom}) => top >= 0 && bottom <= innerHeight"
    assert await tab.run(f"({inside})(document.activeElement.getBoundingClientRect())")

    await tab.press("a", 65, "a")
    assert await tab.run("document.activeElement.dataset.mark") == "a"
    assert await tab.run("document.getElementById('told').textContent") == "armchair 0: accepted"
    await tab.press("r", 82, "r")
    await tab.press("ArrowRight", 39)
    await tab.press("r", 82, "r")
    await tab.press("r", 82, "r")  # taken back
    assert await tab.run("[...document.querySelectorAll('.card')].slice(0, 2).map(c => c.dataset.mark).join()") == "r,"
    assert await tab.run("document.querySelector('.mark-r').getAttribute('aria-pressed')") == "true"

    await tab.press("Enter", 13, "\r")
    assert await tab.run("document.getElementById('detail').open")
    await tab.press("ArrowRight", 39)
    assert "lamp 2" in await tab.run("document.getElementById('detail-name').textContent")
    await tab.press("r", 82, "r")
    await tab.run("document.querySelector('#detail .why').focus()")
    for letter in "art":  # in the field these are letters
        await tab.press(letter, ord(letter.upper()), letter)
    assert await tab.run("document.querySelector('#detail .why').value") == "art"
    await tab.press("Escape", 27)
    assert not await tab.run("document.getElementById('detail').open")
    await until(tab, f"{place} === '3'")  # where one looked last, once the page knows of the end

    # Tab goes through what is in this card, and leaves the cards then.
    within = []
    for _ in range(8):
        await tab.press("Tab", 9)
        within.append(await tab.run(place))
    assert within[:5] == ["3"] * 5
    assert set(within) == {"3", None}
    assert said(tab) == []


@in_chromium
async def test_filters_by_text_state_flow_member_and_mark(tab: chromium.Page, service: Service, tmp_path: Path) -> None:
    write_mixed(tmp_path, service.url)
    service.order("start:flow=chair 1 #1?,fail_flow=1")
    assert batcher(tmp_path, "run", "m.yaml").returncode == 0
    assert batcher(tmp_path, "collect", "m.yaml", "--to", "out").returncode == 13
    assert batcher(tmp_path, "gallery", "m.yaml", "--to", "out", "--served").returncode == 0
    await tab.open(tmp_path / "out" / "gallery.html")

    async def after(**fields: str) -> list[str]:
        await tab.run("document.getElementById('reset').click()")
        for name, value in fields.items():
            event = "change" if name == "member" else "input"
            await tab.run(f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('{event}')); }})"
                          f"(document.getElementById('{name}'))")  # fmt: skip
        return await tab.run("[...document.querySelectorAll('.card .title')].map(b => b.textContent)")

    members = await tab.run("Object.fromEntries([...document.getElementById('member').options].map(o => [o.text, o.value]))")
    assert list(members) == ["any member", "sku", "dims.w", "campaign"]
    assert len(await after()) == 8
    assert await after(text="OILED oak") == ["prompts"]
    assert await after(flow="chair 2") == ["chair 2 #1?"]
    assert await after(member=members["sku"], value="ch-3") == ["chair 2 #1?"]
    assert len(await after(member=members["sku"])) == 5
    assert await after(value="CH-3", text="nothing") == []
    assert await tab.run("document.getElementById('empty').checkVisibility()")
    assert await tab.run("[...document.querySelectorAll('#states button')].map(b => b.textContent.trim())") == [
        "All 8", "Collected 7", "Failed 1",
    ]  # fmt: skip
    await after()
    await tab.run("document.querySelectorAll('#states button')[2].click()")
    assert await tab.run("document.querySelectorAll('.card').length") == 1
    assert await tab.run("document.querySelector('.card .state').textContent") == "Failed"
    await tab.run("document.querySelectorAll('#states button')[0].click(); document.querySelector('.card .mark-a').click(); "
                  "document.querySelectorAll('#marks button')[2].click()")  # fmt: skip
    assert await tab.run("document.querySelectorAll('.card').length") == 1
    assert said(tab) == []


@in_chromium
async def test_marks_are_kept_exported_and_redone(tab: chromium.Page, service: Service, tmp_path: Path) -> None:
    write_mixed(tmp_path, service.url)
    assert batcher(tmp_path, "run", "m.yaml", "--collect", "out").returncode == 0
    page = tmp_path / "out" / "gallery.html"
    assert batcher(tmp_path, "gallery", "m.yaml", "--to", "out", "--served").returncode == 0
    await tab.open(page)
    await tab.run("""(() => {
      const reject = (name, why) => {
        const card = [...document.querySelectorAll('.card')].find(c => c.querySelector('.title').textContent === name);
        card.querySelector('.mark-r').click();
        if (!why) return;
        const field = card.querySelector('.why');
        field.value = why;
        field.dispatchEvent(new Event('input'));
      };
      reject('chair 1 #1?', 'legs #2 are odd');
      reject('prompts', '');
      document.querySelector('.card .mark-a').click();
    })()""")
    await tab.open(page)  # again: they are still there
    assert await tab.run("document.querySelector('#export b').textContent") == "3"
    assert await tab.run("document.querySelector('.card[data-mark=r] .why').value") == "legs #2 are odd"
    await tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    await tab.run("document.getElementById('export').click()")
    text = await tab.run("document.querySelector('#list textarea').value")
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    ids = {row["flow"]: row["flow_id"] for row in rows}
    assert text.splitlines()[2:] == [f"chair 1 [#]1[?]\t{ids['chair 1 #1?']}  # legs #2 are odd",
                                     f"prompts\t{ids['prompts']}  # An office chair"]  # fmt: skip
    await tab.run("document.querySelector('#list .main').click()")
    for _ in range(100):
        if (tmp_path / "redo.txt").exists() and (tmp_path / "redo.txt").stat().st_size:
            break
        await asyncio.sleep(0.1)
    assert (tmp_path / "redo.txt").read_text("utf-8") == text
    run = await asyncio.to_thread(batcher, tmp_path, "run", "m.yaml", "--redo-from", "redo.txt", "--json")
    assert json.loads(run.stdout)["flows"]["started_now"] == 2
    assert service.record()["requests"]["start"] == 9
    # What was made again is a new attempt: it comes without a mark.
    assert batcher(tmp_path, "collect", "m.yaml", "--to", "out", "--gallery").returncode == 0
    await tab.open(page)
    assert await tab.run("document.querySelector('#export b').textContent") == "1"
    assert said(tab) == []


@in_chromium
async def test_hostile_names_do_nothing_and_come_back_as_they_are(tab: chromium.Page, tmp_path: Path) -> None:
    odd = ["a*", "chair[1]", "chair1", " lead", "trail ", "# not a comment", "x #y", "x\u00a0#z", "what?", "tab", "[!a]", "[[]"]
    names = [*HOSTILE, *odd]
    collected(tmp_path, names)
    assert batcher(tmp_path, "gallery", "m.yaml", "--to", "out", "--served").returncode == 0
    await tab.open(tmp_path / "out" / "gallery.html")
    await tab.looks(1280, 4000)
    shown = await tab.run("[...document.querySelectorAll('.card .title')].map(b => b.textContent)")
    assert HOSTILE[1] in shown
    assert "\\u202egnp.exe" in shown
    await tab.run("""(() => {
      for (const title of document.querySelectorAll('.card .title')) {
        title.click();
        document.getElementById('detail').close();
      }
      for (const button of document.querySelectorAll('.card .mark-r')) button.click();
      document.getElementById('export').click();
    })()""")
    text = await tab.run("document.querySelector('#list textarea').value")
    patterns = [name for _, name, _ in listed(text)]
    assert len(patterns) == len(names)
    for name, pattern in zip(names, patterns, strict=True):
        chosen = Chosen("--redo", [pattern])
        assert [one for one in names if chosen(one)] == [name], f"{pattern!r} is not {name!r} alone"
    assert "taken over" not in await tab.run("document.title")
    assert said(tab) == []
    await tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    await tab.run("new Promise(done => setTimeout(done, 300))")
    assert await tab.run("document.title") != "1"
    await tab.run("fetch('http://127.0.0.1:9/').catch(() => 0)")
    assert sum("Content Security Policy" in line for line in tab.said) >= 2


@in_chromium
async def test_models_that_cannot_be_shown_say_why(tab: chromium.Page, tmp_path: Path) -> None:
    collected(tmp_path, books.names(20))
    out = tmp_path / "out"

    def glb(document: dict[str, Any]) -> bytes:
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text

    (out / "0.glb").write_bytes(b"glTF\1\0\0\0" + b"\0" * 40)
    (out / "1.glb").write_bytes(b"no model at all, but long enough")
    (out / "2.glb").write_bytes(glb({"asset": {"version": "2.0"}, "images": [{"uri": "https://example.org/x.png"}]}))
    (out / "6.glb").write_bytes(glb({"asset": {"version": "2.0"}, "extensionsUsed": ["KHR_draco_mesh_compression"]}))
    (out / "7.glb").write_bytes(glb({"asset": {"version": "2.0"}, "scenes": [{"nodes": [5]}], "scene": 0}))
    assert batcher(tmp_path, "gallery", "m.yaml", "--to", "out").returncode == 0
    await tab.looks(1280, 3000)
    await tab.open(out / "gallery.html")
    await until(tab, "document.querySelectorAll('figure.failed').length >= 5")
    notes = await tab.run("[...document.querySelectorAll('figure.failed')].map(f => f.textContent)")
    assert notes[0] == "Not shown: it is a GLB of an old version."
    assert notes[1] == "Not shown: it is no GLB."
    assert notes[2] == "Not shown: it refers to other files."
    assert notes[3].startswith("Not shown: it is packed with KHR_draco_mesh_compression")
    assert notes[4].startswith("Not shown: it cannot be shown")
    assert [url for url in tab.asked if not url.startswith(("file:", "blob:", "data:"))] == []


# The mean of what a viewer shows, where there is something, and the brightest of it: red, green and blue.
SEEN = """(async (view) => {
  const picture = new Image();
  picture.src = view.toDataURL();
  await picture.decode();
  const canvas = Object.assign(document.createElement('canvas'), { width: picture.width, height: picture.height });
  const context = canvas.getContext('2d');
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height), sum = [0, 0, 0], most = [0, 0, 0];
  let pixels = 0;
  for (let n = 0; n < data.length; n += 4) {
    if (data[n + 3] < 255) continue;
    pixels++;
    for (let of = 0; of < 3; of++) { sum[of] += data[n + of]; most[of] = Math.max(most[of], data[n + of]); }
  }
  return [...sum.map((one) => one / pixels), ...most];
})(document.querySelector('figure.out.ready model-viewer'))"""


@in_chromium
@pytest.mark.parametrize("served", [False, True])
async def test_the_light_is_the_pages_own_and_not_the_one_that_takes_seconds(
    tab: chromium.Page, tmp_path: Path, served: bool
) -> None:
    collected(tmp_path, ["a"])
    assert batcher(tmp_path, "gallery", "m.yaml", "--to", "out").returncode == 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        own = f"http://127.0.0.1:{server.server_port}/out/gallery.html"
        await tab.visit(own if served else (tmp_path / "out" / "gallery.html").as_uri())
        await until(tab, "document.querySelector('figure.out.ready model-viewer')?.modelIsVisible")
        light = await tab.run("document.querySelector('figure.out.ready model-viewer').environmentImage")
        assert re.fullmatch(r"blob:.*#\.hdr", light or ""), light
        seen = await tab.run(SEEN)
        assert 60 < sum(seen[:3]) / 3 < 200, f"too dark or too bright: {seen}"
        assert max(seen[3:]) > 120, f"nothing shines: {seen}"
        assert said(tab) == []
    finally:
        server.shutdown()
        server.server_close()


OPENED_WHILE_IT_LOADS = """new MutationObserver((changes, observer) => {
  if (![...document.querySelectorAll('head script[src*="/models/"]')].length) return;
  observer.disconnect();
  document.querySelector('.card .title').click();
}).observe(document, { childList: true, subtree: true })"""


@in_chromium
async def test_one_that_is_shown_large_while_its_card_loads_it_comes_in_both(tab: chromium.Page, tmp_path: Path) -> None:
    collected(tmp_path, ["a"])
    assert batcher(tmp_path, "gallery", "m.yaml", "--to", "out").returncode == 0
    await tab.call("Page.addScriptToEvaluateOnNewDocument", source=OPENED_WHILE_IT_LOADS)
    await tab.open(tmp_path / "out" / "gallery.html")
    await until(tab, "document.querySelector('#detail .out.ready model-viewer')")
    await until(tab, "document.querySelector('.card .out.ready model-viewer')")
    assert said(tab) == []


MEASURE = """(async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const took = async (what) => { const began = performance.now(); what(); await frame(); return performance.now() - began; };
  const best = async (what) => Math.min(await took(what), await took(what), await took(what));
  const text = document.getElementById('text');
  const type = (words) => () => { text.value = words; text.dispatchEvent(new Event('input')); };
  const filters = [];
  for (const words of ['l', 'lamp 99', 'no such flow', '']) filters.push(await best(type(words)));
  const scrolled = await best(() => scrollTo(0, scrollY > 10000 ? 0 : document.body.scrollHeight / 2));
  const marked = await best(() => document.querySelector('.card .mark-a').click());
  return { filters, scrolled, marked };
})()"""


@in_chromium
@pytest.mark.long
async def test_ten_thousand_cards_are_ready_soon_and_filtered_at_once(tab: chromium.Page, tmp_path: Path) -> None:
    """The best of several tries, for the machine may be busy with other things."""
    collected(tmp_path, books.names(10_000))
    assert batcher(tmp_path, "gallery", "m.yaml", "--to", "out", "--served").returncode == 0
    ready = []
    for _ in range(4):
        await tab.open(tmp_path / "out" / "gallery.html")
        ready.append(await tab.run("performance.getEntriesByName('ready')[0].startTime"))
    figures = await tab.run(MEASURE)
    slowest = max(*figures["filters"], figures["scrolled"], figures["marked"])
    print(f"10,000 cards: ready after {min(ready):.0f} ms, filtered, scrolled and marked within {slowest:.0f} ms")
    assert min(ready) < 2000
    assert slowest < 200
    assert await tab.run("document.querySelectorAll('.card').length") < 40


def test_help_imports_nothing_of_the_page() -> None:
    code = "import sys, batcher.cli.commands.gallery; sys.exit(any(name.startswith('batcher.gallery') for name in sys.modules))"
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", code) == 0
