"""Sources that do not hold still: before, while and after they are read. Judged by the sandbox's record.

Whatever happens to a file, a flow that was started holds for each input one of the contents that its file had, whole, and
the digest in the input's tag is that content's.
"""

from __future__ import annotations

import hashlib
import os
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pipeline.batch import LIMITS, PNG, Batch, files, order_faults, read_record

from batcher.api import Settings, load_manifest, plan, run
from batcher.host import failpoint as boundary
from batcher.sandbox import Sandbox, parse_fault

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

QUICK = replace(LIMITS, settle_s=0.3)
BIG = 1_500_000  # four chunks


@pytest.fixture(autouse=True)
def _no_hook() -> Iterator[None]:
    yield
    boundary.hook = None


class Versions:
    """A file, and the digest of every content that it ever had."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digests = {self.digest()}

    def digest(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.path.is_file() else ""

    def note(self) -> None:
        self.digests.add(self.digest())


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    """In place, of the same length."""
    with path.open("r+b") as file:
        file.seek(8)
        file.write(os.urandom(path.stat().st_size - 8))


def swap(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(PNG + os.urandom(max(1, path.stat().st_size - 8)))
    os.replace(other, path)


def vanish(path: Path) -> None:
    path.unlink()


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_link(path: Path) -> None:
    other = path.with_name(f"{path.name}.target")
    other.write_bytes(PNG + os.urandom(2000))
    path.unlink()
    path.symlink_to(other)


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nothing"))


CHANGES: list[Callable[[Path], None]] = [shrink, grow, rewrite, swap, vanish, become_folder, become_link, dangle]


async def judge(url: str, files_of: list[Versions]) -> list[dict]:
    """Every started flow holds one whole version of each file, under a tag that tells it; the flows."""
    flows = (await read_record(url))["flows"]
    names: Counter[str] = Counter()
    for flow in flows:
        for item in flow["inputs"]:
            if flow["starts"]:
                assert item["sha256"] == item["additional"]["batcher"]["sha256"], "the tag tells of another content"
        if flow["starts"]:
            names[flow["additional"]["batcher"]["flow"]] += 1
            left = [item["sha256"] for item in flow["inputs"]]
            assert len(left) == len(files_of)
            for one in files_of:
                found = next((digest for digest in left if digest in one.digests), None)
                assert found is not None, f"{one.path.name}: what was started is no version of it"
                left.remove(found)
    assert all(count == 1 for count in names.values()), "started twice"
    return flows


def mend(one: Versions) -> None:
    """The file is whole again."""
    if one.path.is_dir():
        one.path.rmdir()
    if one.path.is_symlink():
        one.path.unlink()
    one.path.write_bytes(PNG + os.urandom(1000))
    one.note()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("moment", ["between chunks", "before request"])
async def test_source_that_changes_while_it_is_sent(tmp_path: Path, change: Callable[[Path], None], moment: str) -> None:
    paths = files(tmp_path, 3)
    paths[0].write_bytes(PNG + os.urandom(BIG))
    batch = Batch(tmp_path, paths, flows=2, limits=replace(QUICK, concurrency=1))
    versions = [Versions(path) for path in paths]
    reached: Counter[str] = Counter()

    def hook(point: str) -> None:
        reached[point] += 1
        # The streamed file after its second chunk; the small one between the templates, the create and its upload.
        if point == moment and reached[point] == 3:
            target = versions[0 if moment == "between chunks" else 1]
            change(target.path)
            target.note()

    async with Sandbox(tmp_path / "sandbox") as sandbox:
        boundary.hook = hook
        report = await batch.run(sandbox.url)
        boundary.hook = None
        assert reached[moment] >= 3
        assert report.exit_code in (0, 4), report.problems
        await judge(sandbox.url, versions)
        for one in versions:
            if not one.path.is_file():
                mend(one)
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0, report.problems or report.stop
        flows = await judge(sandbox.url, versions)
    assert sum(flow["starts"] for flow in flows) == 2
    assert not [flow for flow in flows if not flow["starts"] and not flow["deleted"]]


@pytest.mark.parametrize("change", CHANGES)
async def test_source_that_changes_between_plan_and_run_and_after_the_upload_and_after_the_start(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    paths = files(tmp_path, 3)
    batch = Batch(tmp_path, paths, flows=1, limits=replace(QUICK, retries=0))
    versions = [Versions(path) for path in paths]
    gone = change in (vanish, become_folder, dangle)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("start:status=503")]) as sandbox:
        found, _ = await plan(batch.manifest(sandbox.url))
        assert found.to_send == 3
        change(paths[0])  # after the plan
        versions[0].note()
        report = await batch.run(sandbox.url)
        assert report.exit_code == (4 if gone else 5), report.problems
        if gone:
            assert not (await read_record(sandbox.url))["flows"], "a flow whose source is at fault is not created"
            mend(versions[0])
            assert (await batch.run(sandbox.url)).exit_code == 5
        change(paths[1])  # uploaded, not started
        versions[1].note()
        await order_faults(sandbox.url)
        report = await batch.run(sandbox.url)
        assert report.exit_code == (4 if gone else 0), report.problems
        await judge(sandbox.url, versions)
        if gone:
            mend(versions[1])
            report = await batch.run(sandbox.url)
            assert report.exit_code == 0, report.problems
        flows = await judge(sandbox.url, versions)
        now = {one.digest() for one in versions}
        (started,) = (flow for flow in flows if flow["starts"])
        assert {item["sha256"] for item in started["inputs"]} == now, "what changed before the start is built anew"
        change(paths[2])  # after the start: gone is no problem, changed is reported
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.started_now) == (0, 0), report.problems
        assert report.flows.changed == (not gone)
        assert len([flow for flow in (await judge(sandbox.url, versions)) if flow["starts"]]) == 1


def write_manifest(folder: Path, *lines: str) -> Path:
    path = folder / "m.yaml"
    path.write_text("\n".join(["version: 1", "limits: {settle: 300ms, retries: 1}", "flows:", *lines]) + "\n")
    return path


FLOW = "- {name: f, template: model_generate_fromimage, inputs: [%s]}"


@pytest.mark.parametrize("entry", ["link.png", "{glob: '*.png'}"])
async def test_links_are_followed_and_broken_ones_are_said(tmp_path: Path, entry: str) -> None:
    (tmp_path / "real.bin").write_bytes(PNG + b"real")
    link = tmp_path / "link.png"
    link.symlink_to("real.bin")
    manifest = write_manifest(tmp_path, FLOW % entry)
    async with Sandbox(tmp_path / "sandbox") as sandbox:

        def loaded():
            return load_manifest(manifest, endpoint=sandbox.url)

        for target in ("nothing", "link.png"):
            link.unlink()
            link.symlink_to(target)
            report = await run(loaded())
            assert report.exit_code == 4
            assert report.problems[0].hint
            assert not (await read_record(sandbox.url))["flows"]
        link.unlink()
        link.symlink_to("real.bin")
        report = await run(loaded())
        assert report.exit_code == 0, report.problems
        (flow,) = (await read_record(sandbox.url))["flows"]
        assert flow["inputs"][0]["sha256"] == hashlib.sha256(PNG + b"real").hexdigest()
        (tmp_path / "other.bin").write_bytes(PNG + b"other")
        link.unlink()
        link.symlink_to("other.bin")
        report = await run(loaded())
        assert (report.exit_code, report.flows.changed, report.flows.started_now) == (0, 1, 0)


async def test_two_spellings_of_one_name_are_two_inputs(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "stühl.png")).write_bytes(PNG + form.encode())
    if len(list(tmp_path.glob("*.png"))) != 2:
        pytest.skip("this file system knows one spelling")
    names = ", ".join(f"'{unicodedata.normalize(form, 'stühl.png')}'" for form in ("NFC", "NFD"))
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        for inputs, name in ((names, "a"), ("{glob: '*.png'}", "b")):
            manifest = write_manifest(tmp_path, FLOW.replace("name: f", f"name: {name}") % inputs)
            report = await run(load_manifest(manifest, endpoint=sandbox.url))
            assert report.exit_code == 0, report.problems
        flows = (await read_record(sandbox.url))["flows"]
    meant = Counter(hashlib.sha256(PNG + form.encode()).hexdigest() for form in ("NFC", "NFD"))
    assert len(flows) == 2
    for flow in flows:
        assert Counter(item["sha256"] for item in flow["inputs"]) == meant
        assert len({item["additional"]["batcher"]["key"] for item in flow["inputs"]}) == 2


async def test_name_of_odd_bytes_is_a_problem_with_advice_and_stops_only_its_flow(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.png")
    try:
        Path(odd).write_bytes(PNG + b"odd")
    except OSError:
        pytest.skip("this file system takes no such name")
    (tmp_path / "good.bin").write_bytes(PNG + b"good")
    manifest = write_manifest(
        tmp_path, FLOW % "{glob: '*.png'}", "- {name: g, template: model_generate_fromimage, inputs: [good.bin]}"
    )
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        report = await run(load_manifest(manifest, endpoint=sandbox.url))
        assert report.exit_code == 4
        assert "not UTF-8" in report.problems[0].message
        assert not (await read_record(sandbox.url))["flows"]
        from batcher.core.planning import Options

        report = await run(load_manifest(manifest, endpoint=sandbox.url), Settings(Options(keep_going=True)))
        assert report.exit_code == 4
        assert [flow["starts"] for flow in (await read_record(sandbox.url))["flows"]] == [1]


async def test_time_far_ahead_does_not_hold_a_file_back_for_ever(tmp_path: Path) -> None:
    """`min_age` looks at the time of day; a time a little ahead is another clock's, one far ahead tells no age."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG + b"x")
    manifest = write_manifest(tmp_path, FLOW % "a.png")
    manifest.write_text(manifest.read_text().replace("settle:", "min_age: 1h, settle:"))
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        report = await run(load_manifest(manifest, endpoint=sandbox.url))
        assert (report.exit_code, report.flows.pending, report.flows.started) == (0, 1, 0), "it changed just now"
        os.utime(path, (time.time() + 7500,) * 2)  # the clock of the machine that writes it is two hours ahead
        report = await run(load_manifest(manifest, endpoint=sandbox.url))
        assert (report.exit_code, report.flows.pending, report.flows.started) == (0, 1, 0), "it may have changed just now"
        os.utime(path, (4_000_000_000, 4_000_000_000))
        report = await run(load_manifest(manifest, endpoint=sandbox.url))
        assert (report.exit_code, report.flows.started) == (0, 1)
