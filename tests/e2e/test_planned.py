"""What is found out before anything is paid for: results among the sources, renamed manifests, folders that are not there."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from batcher.api import Options, Settings, load_manifest, plan
from batcher.api import run as batcher_run

from .conftest import PNG, Service, batcher

pytestmark = pytest.mark.slow

GLB = Path(__file__).parents[2] / "manifests" / "models" / "stool.glb"
OPTIMIZE = """\
version: 1
flows:
- each: {glob: "**/*.glb"}
  name: "{path}"
  template: model_optimize
  inputs: ["{path}"]
"""
PHOTOS = """\
version: 1
flows:
- each: {glob: "photos/*.png"}
  name: "{stem}"
  template: model_generate_fromimage
  inputs: ["{path}"]
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def starts(service: Service) -> int:
    return sum(flow["starts"] for flow in service.record()["flows"])


def run(
    service: Service, folder: Path, name: str, code: int = 0, state: Path | None = None, to: str | None = None, **options: bool
) -> dict:
    """The run's document; as the command, without the half second that a process takes to begin."""
    manifest = load_manifest(folder / name, endpoint=service.url)
    collect_to = None if to is None else folder / to
    report = asyncio.run(batcher_run(manifest, Settings(Options(**options), state=state), collect_to=collect_to))
    assert report.exit_code == code, report.problems
    return report.json()


def photos(folder: Path, *names: str) -> None:
    (folder / "photos").mkdir(exist_ok=True)
    for name in names:
        (folder / "photos" / name).write_bytes(PNG + os.urandom(100))


def test_what_collect_wrote_is_no_source_however_it_is_moved(service: Service, here: Path) -> None:
    (here / "scans").mkdir()
    shutil.copy(GLB, here / "scans" / "a.glb")
    shutil.copy(GLB, here / "scans" / "b.glb")
    (here / "m.yaml").write_text(OPTIMIZE)
    state = here.parent / "state"
    assert run(service, here, "m.yaml", to="out", state=state)["flows"]["started_now"] == 2
    again = run(service, here, "m.yaml", to="out", state=state)
    assert (again["flows"]["total"], again["flows"]["started_now"]) == (2, 0)
    (note,) = again["problems"]
    assert note["kind"] == "note"
    assert "2 files" in note["message"]
    assert "out/scans_a.glb/a.glb" in note["message"]
    (here / "out").rename(here / "moved")
    assert run(service, here, "m.yaml", state=state)["flows"]["total"] == 2
    shutil.copytree(here / "moved", here / "copied")  # other inodes and times, as on another disk: its list comes along
    shutil.rmtree(here / "moved")
    assert run(service, here, "m.yaml", state=state)["flows"]["total"] == 2
    (here / "copied" / "results.jsonl").unlink()
    (here / "copied" / "scans_a.glb" / "a.glb").rename(here / "scans" / "c.glb")
    assert run(service, here, "m.yaml", state=state)["flows"]["started_now"] == 2, "copies are the user's own"
    assert starts(service) == 4


def test_results_of_another_manifest_are_sources_where_their_folder_is_named(service: Service, here: Path) -> None:
    (here / "scans").mkdir()
    shutil.copy(GLB, here / "scans" / "a.glb")
    (here / "m.yaml").write_text(OPTIMIZE.replace("**/", "scans/"))
    run(service, here, "m.yaml", to="models")
    (here / "n.yaml").write_text(OPTIMIZE)
    assert run(service, here, "n.yaml", start=False)["flows"]["total"] == 1
    (here / "o.yaml").write_text(OPTIMIZE.replace("**/", "models/**/"))
    assert run(service, here, "o.yaml", start=False)["flows"]["total"] == 1
    (here / "m.yaml").write_text(OPTIMIZE.replace("**/", "models/**/"))  # its own results, and named
    assert run(service, here, "m.yaml")["flows"]["total"] == 0


@pytest.mark.parametrize("shared", [False, True])
def test_a_renamed_manifest_is_not_paid_for_again(service: Service, here: Path, shared: bool) -> None:
    state = here.parent / "state" if shared else None
    photos(here, "a.png", "b.png")
    (here / "m.yaml").write_text(PHOTOS)
    run(service, here, "m.yaml", state=state)
    (here / "m.yaml").rename(here / "n.yaml")
    (problem,) = run(service, here, "n.yaml", code=12, state=state)["problems"]
    assert "m.yaml" in problem["message"]
    assert 'write `batch: "m"`' in problem["hint"]
    found, report = asyncio.run(plan(load_manifest(here / "n.yaml", endpoint=service.url), Settings(state=state)))
    assert (found.flows, report.exit_code) == (2, 12)
    (here / "n.yaml").write_text(PHOTOS + "batch: m\n")
    for _ in range(2):
        done = run(service, here, "n.yaml", state=state)["flows"]
        assert (done["started"], done["started_now"]) == (2, 0)
    photos(here, "c.png")
    assert run(service, here, "n.yaml", state=state)["flows"]["started_now"] == 1
    assert starts(service) == 3
    (here / "n.yaml").rename(here / "o.yaml")  # its batch is written in it by now: it goes on
    assert run(service, here, "o.yaml", state=state)["flows"]["started"] == 3


@pytest.mark.parametrize("start", [True, False])
def test_a_renamed_manifest_whose_flows_have_other_names_is_found_by_its_files(
    service: Service, here: Path, start: bool
) -> None:
    photos(here, "a.png", "b.png")
    (here / "m.yaml").write_text(PHOTOS)
    run(service, here, "m.yaml", start=start)
    (here / "m.yaml").unlink()
    (here / "n.yaml").write_text(PHOTOS.replace("{stem}", "{name}"))
    (problem,) = run(service, here, "n.yaml", code=12)["problems"]
    assert f"knows the flow “a” as {'started' if start else 'begun'}" in problem["message"]
    others = PHOTOS.replace("{stem}", "{name}").replace("  inputs", "  parameters: {quality: low}\n  inputs")
    (here / "n.yaml").write_text(others)
    assert run(service, here, "n.yaml")["flows"]["started_now"] == 2, "other models of the same photos are meant"


def test_a_manifest_that_is_renamed_before_its_flows_are_started_leaves_none_behind(service: Service, here: Path) -> None:
    photos(here, "a.png")
    (here / "m.yaml").write_text(PHOTOS)
    run(service, here, "m.yaml", start=False)
    (here / "m.yaml").rename(here / "n.yaml")
    (problem,) = run(service, here, "n.yaml", code=12)["problems"]
    assert "as begun" in problem["message"]
    (here / "n.yaml").write_text(PHOTOS + "batch: m\n")
    assert run(service, here, "n.yaml")["flows"]["started_now"] == 1
    left = [flow["starts"] for flow in service.record()["flows"] if not flow["deleted"]]
    assert left == [1], "none is left unstarted"


def test_a_copied_manifest_and_other_files_are_batches_of_their_own(service: Service, here: Path) -> None:
    photos(here, "a.png")
    (here / "m.yaml").write_text(PHOTOS)
    run(service, here, "m.yaml")
    shutil.copy(here / "m.yaml", here / "n.yaml")
    found, report = asyncio.run(plan(load_manifest(here / "n.yaml", endpoint=service.url)))
    assert (found.requests.starts, report.exit_code) == (1, 0)
    done = run(service, here, "n.yaml")
    assert done["flows"]["started_now"] == 1
    for note in (report.problems[0].message, done["problems"][0]["message"]):
        assert note == "the batch “m” of m.yaml has paid for the flow “a”, from the same files"
    assert not run(service, here, "n.yaml")["problems"], "said before the first run"
    (here / "m.yaml").unlink()
    (here / "n.yaml").unlink()
    photos(here, "a.png")  # another picture of the same name
    (here / "o.yaml").write_text(PHOTOS)
    assert run(service, here, "o.yaml")["flows"]["started_now"] == 1


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_to_a_manifest_is_not_paid_for_again(service: Service, here: Path, link: Callable[[Path, Path], None]) -> None:
    photos(here, "a.png")
    (here / "m.yaml").write_text(PHOTOS)
    run(service, here, "m.yaml")
    link(here / "m.yaml", here / "nightly.yaml")
    (problem,) = run(service, here, "nightly.yaml", code=12)["problems"]
    assert "this manifest is m.yaml, under another name" in problem["message"]
    assert problem["hint"].startswith("run m.yaml")
    assert starts(service) == 1


def test_a_folder_that_is_not_there_is_no_empty_inbox(service: Service, here: Path) -> None:
    photos(here, "a.png")
    (here / "m.yaml").write_text(PHOTOS.replace("photos", "phtos") + "notify: {command: {on_success: touch ok}}\n")
    done = batcher(here, "run", "m.yaml", "--endpoint", service.url, "--json")
    (problem,) = json.loads(done.stdout)["problems"]
    assert done.returncode == 4
    assert problem["message"] == 'there is no folder "phtos/"'
    assert problem["hint"] == "did you mean photos/?"
    assert not (here / "ok").exists()
    (here / "phtos").mkdir()
    assert run(service, here, "m.yaml")["problems"] == []
    (here / "m.yaml").write_text(PHOTOS)
    run(service, here, "m.yaml")
    (here / "photos" / "a.png").unlink()
    (note,) = run(service, here, "m.yaml")["problems"]
    assert (note["kind"], note["message"]) == ("note", "the only flow of the journal has left the manifest")


def test_one_stray_file_is_its_own_fault(service: Service, here: Path) -> None:
    photos(here, "a.png", "b.png")
    shutil.copy(GLB, here / "photos" / "c.png")
    (here / "photos" / "b.jpg").write_bytes(b"\xff\xd8\xff" + os.urandom(100))
    (here / "m.yaml").write_text(PHOTOS.replace("*.png", "**/*"))
    stopped = run(service, here, "m.yaml", code=4)
    assert {problem["kind"] for problem in stopped["problems"]} == {"source"}
    assert starts(service) == 0
    done = run(service, here, "m.yaml", code=4, keep_going=True)
    assert done["flows"]["started_now"] == 2
    (repeated,) = [problem for problem in done["problems"] if "repeated" in problem["message"]]
    assert "photos/b.png" in repeated["message"]
    assert "photos/b.jpg" in repeated["message"]
    got = batcher(here, "collect", "m.yaml", "--to", "out", "--endpoint", service.url, "--json")
    assert json.loads(got.stdout)["outputs"]["collected"] == 2


def test_plan_mentions_files_that_capitals_leave_out(service: Service, here: Path) -> None:
    photos(here, "a.png", "IMG_1.PNG")
    (here / "m.yaml").write_text(PHOTOS)
    planned = batcher(here, "plan", "m.yaml", "--endpoint", service.url)
    assert planned.returncode == 0
    assert 'the pattern "photos/*.png" leaves out photos/IMG_1.PNG: capitals count' in planned.stderr
    assert '"photos/*.[pP][nN][gG]"' in planned.stderr
    (here / "m.yaml").write_text(PHOTOS + PHOTOS.partition("flows:\n")[2].replace("png", "PNG"))
    assert "capitals" not in batcher(here, "plan", "m.yaml", "--endpoint", service.url).stderr


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_journal_that_is_lost_beside_one_of_the_same_batch_pays_for_nothing_twice(
    service: Service, tmp_path: Path, how: str
) -> None:
    """Two manifests of one batch had a journal each; one of them is gone, and so is the other's journal."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.png").write_bytes(PNG + name.encode())
        text = PHOTOS.replace("photos/", f"{name}/").replace("version: 1", "version: 1\nbatch: shop")
        (tmp_path / f"{name}.yaml").write_text(text)
        adopt = ["--adopt"] if name == "new" else []  # else the first one's flows are unknown to it
        assert batcher(tmp_path, "run", f"{name}.yaml", "--endpoint", service.url, *adopt).returncode == 0
    (tmp_path / "old.yaml").unlink()
    for path in (tmp_path / ".batcher").glob("new-*"):
        path.write_bytes(os.urandom(5000)) if how == "damaged" and path.suffix == ".sqlite" else path.unlink()
    again = batcher(tmp_path, "run", "new.yaml", "--endpoint", service.url)
    assert again.returncode == 12, again.stderr
    assert sum(flow["starts"] for flow in service.record()["flows"]) == 2


def test_adopting_comes_to_its_end_though_started_flows_have_left_the_manifest(service: Service, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / "photos" / f"{number}.png").write_bytes(PNG + bytes([number]))
    (tmp_path / "m.yaml").write_text(PHOTOS + "limits: {settle: 300ms}\n")
    words = ("run", "m.yaml", "--endpoint", service.url)
    assert batcher(tmp_path, *words).returncode == 0
    for path in (tmp_path / ".batcher").glob("m-*"):
        path.unlink()
    (tmp_path / "photos" / "0.png").unlink()
    (tmp_path / "photos" / "new.png").write_bytes(PNG + b"new")
    assert batcher(tmp_path, *words).returncode == 12
    adopted = batcher(tmp_path, *words, "--adopt")
    assert adopted.returncode == 0, adopted.stderr
    assert batcher(tmp_path, *words).returncode == 0
    assert [flow["starts"] for flow in service.record()["flows"] if flow["starts"]] == [1, 1, 1, 1]
