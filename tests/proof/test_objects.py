"""SIGKILL at random times where the inputs lie in an object store, and where the results go to one.

In: a real S3 (`rclone serve s3`) and the service, both as processes. Out: zeros: nothing lost, twice, foreign, early or double;
every result once and whole, nothing else beside them, and no upload in parts that was never completed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from batcher.core.objects import Address
from batcher.objects import stores, unfinished
from tests.objects.stores import Shop, environment, serving_s3

from .harness import PNG, Judge, Nursery, Service, Tally, asset

KILLS: Final = int(os.environ.get("PROOF_KILLS", "50"))
COLLECT_KILLS: Final = int(os.environ.get("PROOF_COLLECT_KILLS", "30"))
LIVES: Final = 12  # of one batch, until it must be done
MANIFEST: Final = """\
version: 1
batch: %s
limits: {concurrency: 6, settle: 1s, timeout: 5s, retries: 4}
defaults: {template: model_generate_fromimage}
flows:
- name: listed
  inputs: [{glob: "%s/listed/*.png", additional: {stem: "{stem}"}}]
- name: named
  inputs: ["%s/named/0.png", "%s/named/1.png"]
- each: {glob: "%s/each/*.png"}
  name: "{stem}"
  inputs: ["{path}"]
"""
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("PROOF_SEED", random.randrange(1 << 32)))
    print(f"PROOF_SEED={seed}")
    return random.Random(seed)


def batch(folder: Path, shop: Shop, name: str, rng: random.Random, size: int) -> dict[str, list[Counter[tuple[str, str]]]]:
    """A manifest and its objects, some small, some that stream; what is meant."""
    meant: dict[str, Counter[tuple[str, str]]] = {"listed": Counter(), "named": Counter()}
    folder.mkdir()
    for number in range(6):
        content = PNG + rng.randbytes(size if number == 0 else rng.randint(100, 20_000))
        shop.put(f"listed/{number}.png", content)
        meant["listed"][asset(content, {"stem": str(number)})] += 1
    for number in range(2):
        content = PNG + rng.randbytes(900_000 if number else 400)
        shop.put(f"named/{number}.png", content)
        meant["named"][asset(content)] += 1
    for number in range(3):
        content = PNG + rng.randbytes(rng.randint(100, 300_000))
        shop.put(f"each/e{number}.png", content)
        meant[f"e{number}"] = Counter([asset(content)])
    (folder / "m.yaml").write_text(MANIFEST % (name, *[shop.url] * 4))
    return {flow: [one] for flow, one in meant.items()}


def test_killed_while_inputs_are_read_from_a_store(tmp_path: Path, rng: random.Random) -> None:
    buckets = tmp_path / "buckets"
    (buckets / "shop").mkdir(parents=True)
    killed, total, number = 0, Tally(), 0
    with serving_s3(buckets) as endpoint, Service(tmp_path / "service") as service, Nursery() as nursery:
        env = environment(endpoint)
        while killed < KILLS:
            shop = Shop(endpoint, f"k{number}", buckets / "shop")
            folder = tmp_path / f"k{number}"
            meant = batch(folder, shop, f"k{number}", rng, 1_500_000)
            service.order("upload:p=0.1,lost_reply=close", "*:p=0.05,status=503")
            for life in range(LIVES):
                after = rng.uniform(0.35, 1.6) if life < LIVES - 4 else None
                if after is None:
                    service.order()
                ended = nursery.run(folder, "run", "m.yaml", "--endpoint", service.url, env=env, fresh=True, after=after)
                killed += ended.killed
                if not ended.killed and ended.code == 0:
                    break
            else:
                pytest.fail(f"it is not done after {LIVES} runs: {ended.log}")
            total += Judge(f"k{number}", meant)(service.record())
            number += 1
    print(f"{killed} kills, {number} batches: {total}")
    assert total.wrong == 0
    assert total.started == 5 * number


def test_killed_while_results_go_to_a_store(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets = tmp_path / "buckets"
    (buckets / "shop").mkdir(parents=True)
    killed = number = objects = begun = 0
    with serving_s3(buckets) as endpoint, Service(tmp_path / "service") as service, Nursery() as nursery:
        env = environment(endpoint)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        stores._opened.cache_clear()
        while killed < COLLECT_KILLS:
            shop = Shop(endpoint, f"c{number}", buckets / "shop")
            folder = tmp_path / f"c{number}"
            batch(folder, shop, f"c{number}", rng, 30_000_000)  # its model is as large, and goes in parts
            words = ("m.yaml", "--endpoint", service.url)
            assert nursery.run(folder, "run", *words, env=env, fresh=True).code == 0
            for life in range(LIVES):
                after = rng.uniform(0.6, 2.0) if life < LIVES - 2 else None
                ended = nursery.run(folder, "collect", *words, "--to", f"{shop.url}/out", env=env, fresh=True, after=after)
                killed += ended.killed
                if not ended.killed and ended.code == 0:
                    break
                large = Address("s3", "shop", f"{shop.prefix}/out/listed/0.glb")
                begun += bool(ended.killed and asyncio.run(uploads(large)))
            else:
                pytest.fail(f"it is not collected after {LIVES} runs: {ended.log}")
            objects += judged(shop)
            number += 1
    print(f"{killed} kills of collect, {begun} of them amid an upload in parts, {number} batches: {objects} objects, each once "
          "and whole, no parts")  # fmt: skip


def judged(shop: Shop) -> int:
    """How many results there are, once each is known to be whole, and nothing else is there."""
    there = {name.removeprefix("out/"): content for name, content in shop.there().items() if name.startswith("out/")}
    rows = [json.loads(line) for line in there.pop("results.jsonl").splitlines()]
    assert there.pop("results.csv").count(b"\n") == len(rows) + 1
    assert len(rows) == 11
    assert {row["state"] for row in rows} == {"collected"}
    assert {row["output"]: row["sha256"] for row in rows} == {
        name: hashlib.sha256(content).hexdigest() for name, content in there.items()
    }, "an output is missing, spoiled, or something else was left"
    for key in there:
        assert asyncio.run(uploads(Address("s3", "shop", f"{shop.prefix}/out/{key}"))) == []
    return len(rows)


async def uploads(address: Address) -> list[str]:
    async with aiohttp.ClientSession() as session:
        return await unfinished._of(session, address)
