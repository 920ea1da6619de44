"""How does the gallery of 2,000 models feel in Chromium, opened as a file? Time, memory, the console, every request.

    python tests/benchmarks/gallery.py                      # 2,000 flows of one 1 MB picture each; some minutes, 9 GB of disk
    python tests/benchmarks/gallery.py --count 200 --size 100 --opens 1
    python tests/benchmarks/gallery.py --keep FOLDER        # makes the batch there once, and leaves it and screenshots there

In: this Python, with the extra `dev`, and Chromium (`apt-get install chromium`). Out: a table. The models are those of the
embedded sandbox, by `batcher run`, `collect` and `gallery`. Each open is a browser of its own with an empty profile, which
draws without a graphics processor. Memory is that of all processes of the browser, each page of it counted once (PSS). A word
on the console or a request to a host is an error and no figure. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import asyncio
import colorsys
import contextlib
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.e2e import chromium

SIDE = 512  # of a picture, in pixels
FLAGS = ("--enable-unsafe-swiftshader",)  # WebGL without a graphics processor
NOISE = ("rAF timed out", "GL Driver Message")  # of a slow renderer: nothing of the page's
WAIT_S = 120.0
MIB = 1 << 20
LOOKS = {"desktop": (1280, 900, False), "phone": (390, 844, True)}

# Until the frame after it is there.
FRAME = "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
SHOWN = "performance.getEntriesByName('model').length"
IN_VIEW = """[...document.querySelectorAll('figure[data-model]')].filter(f => {
  const {top, bottom} = f.getBoundingClientRect(); return bottom > 0 && top < innerHeight && !f.matches('.ready, .failed');
}).length === 0"""
KEYS = """globalThis.keys = [];
const painted = (e) => requestAnimationFrame(() => setTimeout(() => keys.push(performance.now() - e.timeStamp)));
addEventListener('keydown', painted, true)"""
FILTER = """(async () => {
  const text = document.getElementById('text'), states = [...document.querySelectorAll('#states button')], took = {};
  const once = async (name, what) => {
    const began = performance.now();
    what();
    await FRAME;
    took[name] = performance.now() - began;
  };
  const type = (words) => () => { text.value = words; text.dispatchEvent(new Event('input')); };
  for (const words of ['c', 'chair', 'chair 19', 'no such flow', '']) await once(words, type(words));
  for (const chip of states.reverse()) await once(chip.textContent, () => chip.click());
  return took;
})()""".replace("FRAME", FRAME)


# ---- The batch


def picture(number: int, size_bytes: int) -> bytes:
    """A PNG of a chair, each in a colour and proportions of its own, filled up to its size by a chunk that nothing shows."""
    across, up = 150 + number % 7 * 12, 120 + number % 11 * 16  # half its width, the height of its back
    rows = []
    left, right, seat = SIDE // 2 - across, SIDE // 2 + across, 300
    for y in range(SIDE):
        row = bytearray(b"\0" * SIDE)
        shade = 60 + y * 150 // SIDE
        if seat - up <= y < seat and (y < seat - up + 50 or number % 3):
            row[left + 24 : right - 24] = bytes([shade]) * (right - left - 48)
        if seat - up <= y < 470:
            row[left : left + 26] = row[right - 26 : right] = bytes([min(255, shade + 40)]) * 26
        if seat <= y < seat + 44:
            row[left - 14 : right + 14] = bytes([255]) * (right - left + 28)
        rows.append(b"\0" + row)
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618 % 1, 0.3 + number % 5 * 0.1, 0.9)
    shades = [bytes(int(of * level) for of in (red, green, blue)) for level in range(256)]
    shades[0] = b"\xf4\xf2\xee"

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 3, 0, 0, 0)
    shown = [chunk(b"IHDR", head), chunk(b"PLTE", b"".join(shades)), chunk(b"IDAT", zlib.compress(b"".join(rows), 1))]
    made = b"\x89PNG\r\n\x1a\n" + b"".join(shown)
    return made + chunk(b"flLr", os.urandom(max(8, size_bytes - len(made) - 24))) + chunk(b"IEND", b"")


def make(folder: Path, count: int, size_bytes: int) -> Path:
    """The page, of `count` flows that were run on the embedded sandbox; what is there already is not made again."""
    (folder / "files").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / "files" / f"chair {number:04}.png"
        if not path.exists():
            path.write_bytes(picture(number, size_bytes))
    manifest = {"version": 1, "batch": "chairs", "endpoint": "sandbox", "flows": [
        {"each": {"glob": "files/*.png"}, "name": "{stem}", "template": "model_generate_fromimage",
         "inputs": [{"file": "{path}", "additional": {"sku": "CH-{index}"}}]}]}  # fmt: skip
    (folder / "chairs.yaml").write_text(json.dumps(manifest))
    for words in (("run",), ("collect", "--to", "out", "--name", "{flow}{suffix}"), ("gallery", "--to", "out")):
        began = time.monotonic()
        command = [sys.executable, "-m", "batcher", words[0], "chairs.yaml", *words[1:]]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        print(f"batcher {words[0]}: {time.monotonic() - began:.1f} s; {result.stdout.splitlines()[-1]}")
    return folder / "out" / "gallery.html"


# ---- What it costs


def family(pid: int) -> list[int]:
    """A process and all that came of it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents.setdefault(int((entry / "stat").read_text().rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def memory_mib(pid: int) -> float:
    """PSS of a browser and of all of its processes."""
    total_kib = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
            total_kib += int(rollup.partition("\nPss:")[2].split()[0])
    return total_kib / 1024


@dataclass
class Look:
    """One browser, and what it cost so far, by name."""

    page: chromium.Page
    figures: dict[str, float] = field(default_factory=dict)
    peak_mib: float = 0.0

    async def watch(self) -> None:
        while True:
            self.peak_mib = max(self.peak_mib, await asyncio.to_thread(memory_mib, self.page.pid))
            await asyncio.sleep(0.2)

    async def weigh(self, when: str) -> None:
        """The peak since the last time; what is left now; the page's heap, before and after its garbage is collected."""

        async def heap_mib() -> float:
            return (await self.page.call("Runtime.getHeapUsage"))["usedSize"] / MIB

        self.figures[f"{when}: peak memory, MiB"] = self.peak_mib
        self.figures[f"{when}: JS heap, MiB"] = await heap_mib()
        await self.page.call("HeapProfiler.collectGarbage")
        await asyncio.sleep(1)
        self.figures[f"{when}: memory, garbage collected, MiB"] = memory_mib(self.page.pid)
        self.figures[f"{when}: JS heap, garbage collected, MiB"] = await heap_mib()
        self.peak_mib = 0.0

    async def until(self, condition: str) -> None:
        ends = time.monotonic() + WAIT_S
        while not await self.page.run(condition):
            assert time.monotonic() < ends, f"{condition} did not come: {self.page.said}"
            await asyncio.sleep(0.05)

    async def open(self, path: Path) -> None:
        await self.page.open(path)
        await self.until(f"{SHOWN} > 0")
        await self.until(IN_VIEW)
        self.figures["rows, s"] = await self.page.run("performance.getEntriesByName('ready')[0].startTime") / 1000
        marks = await self.page.run("performance.getEntriesByName('model').map(mark => mark.startTime)")
        self.figures["first model, s"] = marks[0] / 1000
        self.figures["models in view, s"] = marks[-1] / 1000
        self.figures["models in view"] = len(marks)
        await self.weigh("opened")

    async def keys(self) -> None:
        """Real keys, one after the other, each until the frame that shows what it did."""
        await self.page.run(KEYS)
        await self.page.run("document.querySelector('.card').focus()")
        for key, code in [("ArrowRight", 39)] * 5 + [("PageDown", 34)] * 5 + [("End", 35), ("Home", 36)]:
            await self.page.press(key, code)
            await self.page.run(FRAME)
        self.figures["slowest key, ms"] = max(await self.page.run("keys"))

    async def scroll(self, count: int) -> None:
        """Past all of the rows, as fast as they are drawn; then a screen at a time, until each model of `count` was shown."""
        took = await self.page.run(
            f"""(async () => {{
              const took = [];
              for (let y = 0; y < document.body.scrollHeight; y += innerHeight * 0.8) {{
                const began = performance.now();
                scrollTo(0, y);
                await {FRAME};
                took.push(performance.now() - began);
              }}
              return took;
            }})()"""
        )
        self.figures["frame of scrolling, median, ms"] = statistics.median(took)
        self.figures["frame of scrolling, longest, ms"] = max(took)
        await self.until(IN_VIEW)
        await self.weigh("scrolled past all rows")
        before, began = await self.page.run(SHOWN), time.monotonic()
        await self.page.run("scrollTo(0, 0)")
        while (shown := await self.page.run(SHOWN) - before) < count:
            await self.page.run(f"scrollBy(0, innerHeight * 0.8), {FRAME}")
            await asyncio.sleep(0.2)  # the page waits for rest before it loads
            await self.until(IN_VIEW)
            if await self.page.run("scrollY + innerHeight >= document.body.scrollHeight - 2"):
                break
        self.figures["models shown by scrolling"] = shown
        self.figures["a model by scrolling, s"] = (time.monotonic() - began) / max(1, shown)
        await self.weigh("scrolled through models")

    async def turn(self, count: int) -> None:
        """One large after the other, by the keyboard, each turned by the arrow keys."""
        await self.page.run("scrollTo(0, 0)")
        await self.page.run(f"document.querySelector('.card .title').click(), {FRAME}")
        began = time.monotonic()
        for _ in range(count):
            await self.until("Boolean(document.querySelector('#detail .out.ready model-viewer'))")
            await self.page.run("document.querySelector('#detail .out model-viewer').focus()")
            for _ in range(3):
                await self.page.press("ArrowRight", 39)
            await self.page.run(FRAME)
            await self.page.run("document.querySelector('#detail .mark-a').focus()")
            await self.page.press("ArrowRight", 39)
        self.figures["models turned"] = count
        self.figures["a model, large and turned, s"] = (time.monotonic() - began) / count
        await self.page.press("Escape", 27)
        await self.weigh("turned")


@contextlib.asynccontextmanager
async def browser(width: int, height: int, phone: bool, dark: bool = False) -> AsyncIterator[Look]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        async with chromium.chromium(Path(profile), *FLAGS) as page:
            await page.looks(width, height, phone=phone, dark=dark)
            look = Look(page)
            watching = asyncio.ensure_future(look.watch())
            try:
                yield look
            finally:
                watching.cancel()
            said = [line for line in page.said if not any(noise in line for noise in NOISE)]
            asked = [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))]
            assert not said, f"on the console: {said}"
            assert not asked, f"asked of a host: {asked}"
            look.figures["requests, all of files"] = len(page.asked)


async def measure(path: Path, args: argparse.Namespace, pictures: Path) -> None:
    for name, (width, height, phone) in LOOKS.items():
        opens = []
        for number in range(args.opens):
            async with browser(width, height, phone) as look:
                await look.open(path)
                if number == args.opens - 1:
                    await look.page.shoot(pictures / f"{name}.png", whole=False)
                    took = await look.page.run(FILTER)
                    look.figures["slowest filter, ms"] = max(took.values())
                    await look.until(IN_VIEW)
                    await look.keys()
                    await look.scroll(args.models // 4 if phone else args.models)
                    await look.page.shoot(pictures / f"{name}-scrolled.png", whole=False)
                    await look.turn(args.turns)
                opens.append(look.figures)
        print(f"\n{name}, {width} × {height}: median, least and most of {args.opens}, or what was measured once\n")
        for what in opens[-1]:
            values = [figures[what] for figures in opens if what in figures]
            spread = f"{min(values):10,.2f} {max(values):10,.2f}" if len(values) > 1 else ""
            print(f"{what:52} {statistics.median(values):10,.2f} {spread}", flush=True)
    for name, (width, height, phone) in LOOKS.items():
        async with browser(width, height, phone, dark=True) as look:
            await look.open(path)
            await look.page.shoot(pictures / f"{name}-dark.png", whole=False)
            await look.page.run(f"document.querySelector('.card .title').click(), {FRAME}")
            await look.until("Boolean(document.querySelector('#detail .out.ready model-viewer'))")
            await asyncio.sleep(0.5)
            await look.page.shoot(pictures / f"{name}-dark-large.png", whole=False)
    print("\nNo word on the console, no request to a host.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="flows of one picture each (2000)")
    parser.add_argument("--size", type=int, default=1000, metavar="KB", help="of a picture, in thousands of bytes (1000)")
    parser.add_argument("--opens", type=int, default=5, metavar="N", help="browsers that open the page (5)")
    parser.add_argument("--models", type=int, default=2000, metavar="N", help="shown by scrolling; on a phone a quarter (2000)")
    parser.add_argument("--turns", type=int, default=100, metavar="N", help="models shown large and turned (100)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the batch is kept; screenshots come there, too")
    args = parser.parse_args()
    assert chromium.find(), chromium.WITHOUT
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        page = make(folder.resolve(), args.count, 1000 * args.size)
        asyncio.run(measure(page, args, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
