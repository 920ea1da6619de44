"""The manifest's comforts with the command: keys, caps, checked images, included files, tables of other kinds."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from batcher.cli import cli, columns

from .conftest import PNG, Service, write_batch


@dataclass
class Here:
    """The command in this process, in a folder, against a service: a process for each call would cost most of the time."""

    service: Service
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def call(self, command: str, *words: str) -> tuple[str, str, int]:
        """(stdout, stderr, exit code) of a command on `m.yaml`."""
        self.capsys.readouterr()
        code = 0
        try:
            cli([command, "m.yaml", "--endpoint", self.service.url, *words], standalone_mode=False)
        except SystemExit as exit:
            code = int(exit.code or 0)
        out, errors = self.capsys.readouterr()
        return out, errors, code

    def run(self, *words: str) -> dict:
        return json.loads(self.call("run", "--json", *words)[0])

    def plan(self, *words: str) -> tuple[list[str], str, int]:
        out, errors, code = self.call("plan", *words)
        return out.splitlines(), errors, code

    def document(self, *words: str) -> dict:
        return json.loads(self.call("plan", "--json", *words)[0])

    def limit(self, limits: str) -> None:
        """Put other limits into the manifest of `write_batch`."""
        lines = (self.folder / "m.yaml").read_text().splitlines()
        lines[1] = f"limits: {{settle: 1s, {limits}}}"
        (self.folder / "m.yaml").write_text("\n".join(lines) + "\n")


@pytest.fixture
def here(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Here:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENERIO_API_KEY", "secret-key-7")
    return Here(service, tmp_path, capsys)


def test_a_file_that_moves_under_its_key_is_the_same_input(here: Here, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.png").write_bytes(PNG + os.urandom(900))
    head = "version: 1\nflows:\n- name: f\n  template: model_generate_fromimage\n"
    (tmp_path / "t.csv").write_text("sku,file\nA,in/a.png\nB,in/b.png\n")
    (tmp_path / "m.yaml").write_text(head + '  inputs: [{table: t.csv, file: "{file}", key: "{sku}"}]\n')
    assert here.run("--no-start")["inputs"]["uploaded_now"] == 2
    shutil.copy(tmp_path / "in" / "a.png", tmp_path / "elsewhere.png")  # another inode and time, the same content
    (tmp_path / "t.csv").write_text("sku,file\nB,in/b.png\nA,elsewhere.png\n")
    first = here.run()
    assert (first["exit_code"], first["inputs"]["uploaded_now"], first["flows"]["started_now"]) == (0, 0, 1)
    (tmp_path / "elsewhere.png").rename(tmp_path / "again.png")
    (tmp_path / "t.csv").write_text("sku,file\nA,again.png\nB,in/b.png\n")
    second = here.run()
    assert (second["flows"]["changed"], second["requests"]["sent"]) == (0, 0)
    (tmp_path / "again.png").write_bytes(PNG + b"another content")
    assert here.run()["flows"]["changed"] == 1
    (flow,) = [flow for flow in here.service.record()["flows"] if not flow["deleted"]]
    assert (flow["starts"], len(flow["inputs"])) == (1, 2)


def test_a_run_beyond_its_caps_is_refused_before_it_writes(here: Here, tmp_path: Path) -> None:
    write_batch(tmp_path, 3, 2, size=992)  # 1,000 bytes each
    here.limit("max_starts: 2, max_bytes: 5kB")
    said = [
        "this run would start 3 flows, and limits.max_starts allows 2 "
        "(raise it if that is meant, or send a part with --only NAME, or so many a run with --max-starts N)",
        "this run would send 6,000 bytes of files, and limits.max_bytes allows 5,000 "
        "(raise it if that is meant, or send a part with --only NAME)",
    ]
    lines, errors, code = here.plan()
    assert (code, errors.splitlines()) == (2, said)
    assert lines[-1] == "to pay:   3 starts"
    for more in ((), ("--keep-going",)):
        _, errors, code = here.call("run", *more)
        assert (code, errors.splitlines()) == (2, said)
    assert not {"create", "upload", "start", "delete"} & set(here.service.record()["requests"])
    assert here.run("--only", "f[01]")["flows"]["started_now"] == 2
    assert here.run()["flows"]["started_now"] == 1, "what is done counts no more"
    here.limit("max_starts: 1, max_bytes: 1")
    assert here.run()["exit_code"] == 0


def test_a_run_starts_so_many_and_the_next_one_goes_on(here: Here, tmp_path: Path) -> None:
    write_batch(tmp_path, 5, 2)
    here.limit("starts_per_run: 4, max_starts: 2")
    foretold = here.document("--max-starts", "2")
    lines, errors, code = here.plan("--max-starts", "2")
    assert (code, errors) == (0, ""), "no more is started than the cap on slips allows"
    assert lines[-1] == "to pay:   2 starts; 3 flows left to later runs (--max-starts)"
    first = here.run("--max-starts", "2")
    assert (first["exit_code"], first["flows"]["started_now"], first["flows"]["pending"]) == (10, 2, 3)
    (said,) = first["problems"]
    assert said["kind"] == "limit"
    assert said["message"] == "2 flows started; --max-starts (limits.starts_per_run) allows 2 in one run, and 3 remain"
    assert (foretold["requests_needed"], foretold["starts"], foretold["held_back"]) == (first["requests"]["sent"], 2, 3)
    assert len(here.service.record()["flows"]) == 2, "nothing is created for those that are left"
    here.limit("starts_per_run: 2")
    _, errors, code = here.call("run", "--quiet")
    assert (code, "and 1 remain (run again: the next run goes on)" in errors) == (10, True)
    last = here.run()
    assert (last["exit_code"], last["flows"]["started_now"], last["flows"]["started"]) == (0, 1, 5)
    assert [flow["starts"] for flow in here.service.record()["flows"]] == [1] * 5
    assert here.run()["requests"]["sent"] == 0


def test_what_fails_before_its_start_makes_room_and_what_is_started_is_collected(here: Here, tmp_path: Path) -> None:
    write_batch(tmp_path, 6, 1)
    (tmp_path / "0" / "0.png").write_bytes(PNG + os.urandom(1_500_000))  # more than this service takes
    (tmp_path / "3" / "0.png").write_bytes(PNG + os.urandom(1_500_000))
    first = here.run("--max-starts", "2", "--collect", "out")
    assert (first["exit_code"], first["flows"]["failed"], first["flows"]["started_now"]) == (3, 1, 2)
    assert (first["outputs"]["collected"], first["problems"][-1]["kind"]) == (2, "limit")
    second = here.run("--max-starts", "2")
    assert (second["exit_code"], second["flows"]["failed"], second["flows"]["started_now"]) == (3, 2, 2)
    assert {problem["kind"] for problem in second["problems"]} == {"refused"}, "nothing is left that could be started"
    record = here.service.record()
    assert sum(flow["starts"] for flow in record["flows"]) == 4


@pytest.mark.parametrize("fault", ["start:nth=1,lost_reply=close", "start:nth=1,status=500", "start:nth=1,status=422"])
def test_a_start_counts_whatever_its_reply(here: Here, tmp_path: Path, fault: str) -> None:
    write_batch(tmp_path, 3, 1)
    here.limit("retries: 2")
    here.service.order(fault)
    assert here.run("--max-starts", "1", "--concurrency", "1")["exit_code"] in (3, 10)
    starts = [flow["starts"] for flow in here.service.record()["flows"]]
    assert starts == [int("422" not in fault)], "no other is begun"


def test_a_lost_journal_is_told_and_adopted_under_a_cap(here: Here, tmp_path: Path) -> None:
    write_batch(tmp_path, 3, 1)
    assert here.run()["exit_code"] == 0
    here.limit("max_starts: 1")
    shutil.rmtree(tmp_path / ".batcher")
    assert here.run()["exit_code"] == 12
    assert here.run("--adopt")["flows"]["started"] == 3


def test_without_starts_the_cap_on_starts_is_not_met(here: Here, tmp_path: Path) -> None:
    write_batch(tmp_path, 2, 1)
    here.limit("max_starts: 1")
    assert here.run("--no-start")["exit_code"] == 0
    assert here.run()["exit_code"] == 2
    assert here.run("--only", "f0")["flows"]["started_now"] == 1
    assert here.run()["flows"]["started_now"] == 1


def test_max_duration_of_the_manifest_counts_and_the_flag_overrides_it(here: Here, tmp_path: Path) -> None:
    write_batch(tmp_path, 2, 3)
    here.limit("max_duration: 10ms")
    assert here.run()["exit_code"] == 10
    assert here.run("--max-duration", "2m")["exit_code"] == 0


def test_a_redo_that_was_cut_short_says_what_is_left_of_it(here: Here, tmp_path: Path) -> None:
    """The same command again would pay for those once more that are done."""
    write_batch(tmp_path, 3, 1)
    assert here.run()["exit_code"] == 0
    first = here.run("--redo", "*", "--max-starts", "1")
    note, stop = first["problems"]
    assert (first["exit_code"], note["kind"]) == (10, "note")
    assert note["message"] == "--redo: of 3 flows 1 are started again, 0 begun, 2 as they were"
    assert note["hint"] == "do not repeat it, it would pay for these once more; for the others: --redo f1 --redo f2"
    assert stop["hint"] == "the note on --redo says how to go on"
    second = here.run("--redo", "f1", "--redo", "f2")
    assert (second["exit_code"], second["flows"]["started_now"], second["problems"]) == (0, 2, [])
    assert sorted(flow["starts"] for flow in here.service.record()["flows"]) == [1] * 6


@pytest.mark.parametrize("flag", ["--redo", "--resubmit-changed"])
def test_what_lacks_a_source_is_not_begun_anew(here: Here, tmp_path: Path, flag: str) -> None:
    """Found before the first write; and the flow stays done, as far as it was."""
    write_batch(tmp_path, 2, 2)
    assert here.run()["exit_code"] == 0
    for flow in "01":
        (tmp_path / flow / "0.png").write_bytes(PNG + b"changed")
    (tmp_path / "1" / "1.png").write_bytes(b"")
    words = (flag, "*") if flag == "--redo" else (flag,)
    done = here.run(*words)
    assert (done["exit_code"], done["requests"]["sent"]) == (4, 0)
    assert done["problems"][0]["message"] == "1/1.png is empty"
    assert here.run(*words, "--keep-going")["flows"]["started_now"] == 1
    assert sorted(flow["starts"] for flow in here.service.record()["flows"]) == [1, 1, 1]


def test_a_redo_that_could_not_do_all_says_that_a_plain_run_goes_on(here: Here, tmp_path: Path) -> None:
    write_batch(tmp_path, 3, 1)
    assert here.run()["exit_code"] == 0
    here.service.order("upload:nth=1,status=422")
    (tmp_path / "2" / "0.png").write_bytes(b"")
    first = here.run("--redo", "*", "--keep-going")
    note = next(problem for problem in first["problems"] if problem["kind"] == "note")
    assert note["message"] == "--redo: of 3 flows 1 are started again, 1 begun, 1 as they were"
    assert "a run without --redo finishes what is begun; for the others: --redo f2" in note["hint"]
    here.service.order()
    (tmp_path / "2" / "0.png").write_bytes(PNG + b"another")
    plain = here.run()
    assert (plain["flows"]["started_now"], plain["flows"]["started"], plain["flows"]["changed"]) == (1, 3, 1)
    assert sum(flow["starts"] for flow in here.service.record()["flows"]) == 3 + 2


def test_plan_foretells_exactly_the_requests_of_a_run(here: Here, tmp_path: Path) -> None:
    write_batch(tmp_path, 3, 4)
    (tmp_path / "m.yaml").write_text(
        (tmp_path / "m.yaml").read_text()
        + f"- {{name: given, flow_id: {here.service.create()}, inputs: [0/0.png]}}\n"
        + "- {name: words, template: model_generate_fromprompt, inputs: [{text: a chair}]}\n"
    )
    for words in (("--no-start",), ("--only", "f0"), (), ("--redo", "f1")):
        foretold = here.document(*words[words[:1] == ("--no-start",) :])
        done = here.run(*words)
        assert done["exit_code"] == 0
        without_starts = foretold["starts"] if words == ("--no-start",) else 0
        assert foretold["requests_needed"] - without_starts == done["requests"]["sent"], words
        assert foretold["to_send"] == done["inputs"]["uploaded_now"]
        assert foretold["starts"] - without_starts == done["flows"]["started_now"]
    with (tmp_path / "m.yaml").open("a") as manifest:
        manifest.write("- {name: late, template: model_optimize, inputs: [s.glb]}\n")
    (tmp_path / "s.glb").write_bytes(b"glTF one")
    assert here.run("--only", "late", "--no-start")["exit_code"] == 0
    (tmp_path / "s.glb").write_bytes(b"glTF two")
    foretold = here.document("--only", "late")
    assert foretold["requests_by_kind"] == {"creates": 1, "uploads": 1, "lists": 1, "starts": 1, "deletes": 1, "looks": 4}
    assert here.run("--only", "late")["requests"]["sent"] == foretold["requests_needed"] == 9


def test_plan_is_a_diff_against_the_journal_in_80_columns(here: Here, tmp_path: Path) -> None:
    write_batch(tmp_path, 2, 3, size=92)  # 100 bytes each
    long = "ein sehr langer Name, 日本の椅子, " * 3
    lines, _, _ = here.plan()
    assert lines == [
        "+ f0                          new: 3 inputs, 300 B",
        "+ f1                          new: 3 inputs, 300 B",
        "flows:    2 new",
        "inputs:   6 in all; +6 ~0 -0 against the journal",
        "to send:  6 inputs, 600 B (816 B encoded)",
        "requests: 15 (2 creates, 6 uploads, 2 lists, 2 starts, 3 looks)",
        "to pay:   2 starts",
    ]
    assert here.run()["exit_code"] == 0
    for number in range(7):
        (tmp_path / "0" / f"{long}{number}.png").write_bytes(PNG + b"new")
    (tmp_path / "0" / "1.png").write_bytes(PNG + b"changed")
    (tmp_path / "0" / "2.png").unlink()
    text = (tmp_path / "m.yaml").read_text().replace("name: f1", f"name: '{long}'")
    (tmp_path / "m.yaml").write_text(text + "- {name: gone, template: model_generate_fromimage, inputs: [no.png]}\n")
    lines, errors, code = here.plan()
    assert code == 4
    assert "no such file: 'no.png'" in errors
    assert lines[0] == "~ f0                          changed since its start; stays as it is"
    assert lines[1] == "    ~ 0/1.png"
    assert all(one.startswith("    + 0/ein sehr langer Name, ") and one.endswith(".png") for one in lines[2:6])
    assert lines[6:8] == ["    … and 3 more changes", "    - 1 input no longer in the manifest"]
    assert lines[8].startswith("+ ein sehr lan")
    assert lines[8].endswith("  new: 3 inputs, 300 B")
    assert lines[9] == "! gone                        blocked: 1 problem"
    assert lines[10:13] == [
        "flows:    1 changed, 1 new, 1 blocked",
        "          1 flow of the journal no longer in the manifest",
        "inputs:   13 in all; +10 ~1 -1 against the journal",
    ]
    assert max(map(columns.width, lines)) <= 80
    every, _, _ = here.plan("--verbose", "--only", "f0")
    assert sum(one.startswith("    + ") for one in every) == 7
    document = here.document()
    (first, *_) = document["plan"]
    assert (first["new"], first["changed"], first["removed"], len(first["changes"])) == (7, 1, 1, 8)
    assert document["against_journal"] == {"new": 10, "changed": 1, "removed": 1}


def test_plan_lists_what_is_to_be_done_first_and_the_document_has_everything(here: Here, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG + b"x")
    head = "version: 1\ndefaults: {template: model_generate_fromimage}\nflows:\n"
    (tmp_path / "t.csv").write_text("n\n" + "".join(f"{number}\n" for number in range(50)))
    (tmp_path / "m.yaml").write_text(head + "- {each: {table: t.csv}, name: 'flow {n}', inputs: [a.png]}\n")
    assert here.run("--no-start")["exit_code"] == 0
    assert here.run("--only", "flow ?", "--only", "flow [12]?")["exit_code"] == 0
    (tmp_path / "t.csv").write_text("n\n" + "".join(f"{number}\n" for number in range(1500)))
    lines, _, _ = here.plan()
    assert lines[0].startswith("+ flow 30 ")
    assert lines[40] == "… and 1,460 more flows (--verbose lists them)"
    document = here.document()
    assert [flow["flow"] for flow in document["plan"]] == [f"flow {number}" for number in range(1500)]
    assert document["actions"] == {"done": 30, "resume": 20, "new": 1450}


def test_a_broken_image_is_found_with_its_place_before_anything_is_sent(here: Here, tmp_path: Path) -> None:
    pil = pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install 'batcher[images]'")
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        pil.effect_noise((40, 30), 50).save(tmp_path / "in" / f"{name}.png")
    whole = (tmp_path / "in" / "b.png").read_bytes()
    (tmp_path / "in" / "b.png").write_bytes(whole[:-30])
    text = """version: 1
limits: {settle: 1s, check_images: true, max_pixels: 2000}
flows:
- each: {glob: "in/*.png"}
  name: "{stem}"
  template: model_generate_fromimage
  inputs: ["{path}"]
"""
    (tmp_path / "m.yaml").write_text(text)
    _, errors, code = here.plan()
    assert code == 4
    assert errors.startswith("m.yaml:7:12: in/b.png does not decode: ")
    assert not (tmp_path / ".batcher").exists()
    _, errors, code = here.call("run")
    assert code == 4
    assert "create" not in here.service.record()["requests"]
    assert here.call("run", "--keep-going")[2] == 4
    assert sum(flow["starts"] for flow in here.service.record()["flows"]) == 2
    (tmp_path / "in" / "b.png").write_bytes(whole)
    (tmp_path / "m.yaml").write_text(text.replace("2000", "1199"))
    _, errors, code = here.call("run")
    assert code == 4
    assert "40 × 30 pixels" in errors
    assert errors.count("pixels, and") == 1, "what was sent is looked at no more"
    (tmp_path / "m.yaml").write_text(text)
    flows = {"total": 3, "started": 3, "started_now": 1, "pending": 0, "failed": 0, "changed": 0, "rebuilt": 0}
    assert here.run()["flows"] == flows
