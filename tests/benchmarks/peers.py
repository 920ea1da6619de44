"""What people write instead of `batcher`: clients that push the same files into the same Flows API.

In: the server's URL, a folder, how many of its files (sorted by name). Each client creates a flow, uploads the
files, starts the flow; with --flow-per-file it does so for each file. A 503 is sent again at once: nothing less
would finish against the server that refuses 5 %. Called by bench.py, each client as a process of its own:

    python peers.py requests-loop http://127.0.0.1:8000 files/ --count 100

`curl-prepare` sends nothing: it encodes the bodies beforehand and writes `curl.sh`, the command that is timed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib.util
import json
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Call = Callable[[str, str, Any], dict[str, Any]]  # method, path, JSON body -> JSON reply
AsyncCall = Callable[[str, str, Any], Awaitable[dict[str, Any]]]

FLOW = {"template": "model_generate_fromimage", "parameters": {"quality": "high"}}
START = {"action": "start"}
HEADERS = {"Authorization": f"Bearer {os.environ.get('GENERIO_API_KEY', 'bench')}"}
THREADS = 16


def encoded(path: str) -> dict[str, Any]:
    """An input as the service's quickstart makes it."""
    with open(path, "rb") as file:
        data = base64.b64encode(file.read()).decode()
    return {"data": f"data:image/png;base64,{data}", "additional": None}


# ---- requests ----


def requests_call(url: str, send: Callable[..., Any]) -> Call:
    def call(method: str, path: str, body: Any) -> dict[str, Any]:
        while (reply := send(method, url + path, json=body, headers=HEADERS)).status_code == 503:
            pass
        reply.raise_for_status()
        return dict(reply.json())

    return call


def push(call: Call, paths: Iterable[str], each: Callable[..., Iterable[Any]] = map) -> None:
    """One flow from create to start; `each` decides whether the uploads run one by one or side by side."""
    flow_id = call("POST", "/flows", FLOW)["flow_id"]
    for _ in each(lambda path: call("POST", f"/flows/{flow_id}/inputs", encoded(path)), paths):
        pass
    call("PATCH", f"/flows/{flow_id}", START)


def requests_loop(url: str, flows: list[list[str]], _concurrency: int) -> None:
    """The documentation's quickstart: `requests.post` in a loop, a connection each."""
    import requests

    call = requests_call(url, requests.request)
    for paths in flows:
        push(call, paths)


def requests_threads(url: str, flows: list[list[str]], _concurrency: int) -> None:
    """The same in 16 threads, and better than the documentation: each thread keeps its connection."""
    import requests

    local = threading.local()

    def send(*args: Any, **kwargs: Any) -> Any:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        return local.session.request(*args, **kwargs)

    call = requests_call(url, send)
    with ThreadPoolExecutor(THREADS) as pool:
        if len(flows) == 1:
            push(call, flows[0], pool.map)
        else:
            for _ in pool.map(lambda paths: push(call, paths), flows):
                pass


# ---- asyncio ----


async def side_by_side(work: Callable[[Any], Awaitable[None]], items: Iterable[Any], workers: int) -> None:
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(workers):
            tasks.create_task(worker())


async def push_async(call: AsyncCall, paths: list[str], workers: int, *, lists: bool = False) -> None:
    flow_id = (await call("POST", "/flows", FLOW))["flow_id"]

    async def upload(path: str) -> None:
        await call("POST", f"/flows/{flow_id}/inputs", encoded(path))

    await side_by_side(upload, paths, workers)
    if lists:
        listed = (await call("GET", f"/flows/{flow_id}/inputs?include_data=false", None))["inputs"]
        if len(listed) != len(paths):
            raise SystemExit(f"{len(listed)} inputs instead of {len(paths)}")
    await call("PATCH", f"/flows/{flow_id}", START)


async def push_flows_async(call: AsyncCall, flows: list[list[str]], concurrency: int, *, lists: bool = False) -> None:
    if len(flows) == 1:
        await push_async(call, flows[0], concurrency, lists=lists)
    else:
        await side_by_side(lambda paths: push_async(call, paths, 1, lists=lists), flows, concurrency)


def aiohttp_lists(url: str, flows: list[list[str]], concurrency: int) -> None:
    """The same, and the inputs are listed and counted before the start."""
    aiohttp_plain(url, flows, concurrency, lists=True)


def aiohttp_plain(url: str, flows: list[list[str]], concurrency: int, *, lists: bool = False) -> None:
    """One ClientSession, as many tasks as requests in flight, `json=`."""
    import aiohttp

    async def main() -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(url, headers=HEADERS, timeout=timeout) as session:

            async def call(method: str, path: str, body: Any) -> dict[str, Any]:
                while True:
                    async with session.request(method, path, json=body) as reply:
                        if reply.status != 503:
                            reply.raise_for_status()
                            return dict(await reply.json())

            await push_flows_async(call, flows, concurrency, lists=lists)

    asyncio.run(main())


def httpx_plain(url: str, flows: list[list[str]], concurrency: int) -> None:
    """One AsyncClient, as many tasks as requests in flight, `json=`."""
    import httpx

    async def main() -> None:
        async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=None) as client:

            async def call(method: str, path: str, body: Any) -> dict[str, Any]:
                while (reply := await client.request(method, path, json=body)).status_code == 503:
                    pass
                reply.raise_for_status()
                return dict(reply.json())

            await push_flows_async(call, flows, concurrency)

    asyncio.run(main())


# ---- curl ----

CURL_STREAMS_FROM = 256 << 10  # bytes; smaller bodies are faster with --data-binary, larger ones would be held whole


def curl_prepare(url: str, flows: list[list[str]], concurrency: int, out: Path) -> None:
    """Writes bodies, configs and `curl.sh` into `out`, a folder on a RAM disk. Flow N of the server has the id N.

    Three calls of curl, each in parallel: create all, upload all, start all. Links to one file share one body.
    """
    out.mkdir(parents=True, exist_ok=True)
    bodies: dict[int, Path] = {}
    for path in (path for paths in flows for path in paths):
        inode = os.stat(path).st_ino
        if inode not in bodies:
            bodies[inode] = out / f"body-{inode}"
            bodies[inode].write_bytes(json.dumps(encoded(path), separators=(",", ":")).encode())

    def entry(method: str, path: str, *lines: str) -> str:
        headers = [f"{name}: {value}" for name, value in HEADERS.items()] + ["Expect:"]
        options = [f'url = "{url}{path}"', f"request = {method}", *lines, "retry = 20", "no-progress-meter"]
        options += [f'header = "{header}"' for header in headers]
        return "\n".join(options)

    def upload(flow_id: str, path: str) -> str:
        body = bodies[os.stat(path).st_ino]
        large = body.stat().st_size >= CURL_STREAMS_FROM
        send = f'upload-file = "{body}"' if large else f'data-binary = "@{body}"'
        return entry("POST", f"/flows/{flow_id}/inputs", send)

    def inline(body: object) -> str:
        return f"data-binary = {json.dumps(json.dumps(body))}"

    ids = [f"{number:024x}" for number in range(1, len(flows) + 1)]
    configs = {
        "create": [entry("POST", "/flows", inline(FLOW)) for _ in flows],
        "upload": [upload(flow_id, path) for flow_id, paths in zip(ids, flows, strict=True) for path in paths],
        "start": [entry("PATCH", f"/flows/{flow_id}", inline(START)) for flow_id in ids],
    }
    script = ["set -e"]
    for name, entries in configs.items():
        (out / f"{name}.cfg").write_text("\nnext\n".join(entries) + "\n")
        script.append(f"curl --parallel --parallel-max {concurrency} --config '{out / name}.cfg' > /dev/null")
    (out / "curl.sh").write_text("\n".join(script) + "\n")


# ---- the command ----

CLIENTS = {  # name -> (what it does, the package that it needs)
    "requests-loop": (requests_loop, "requests"),
    "requests-threads": (requests_threads, "requests"),
    "aiohttp-plain": (aiohttp_plain, "aiohttp"),
    "aiohttp-lists": (aiohttp_lists, "aiohttp"),
    "httpx": (httpx_plain, "httpx"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("client", choices=[*CLIENTS, "curl-prepare", "installed"])
    parser.add_argument("url", nargs="?", default="")
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    parser.add_argument("--count", type=int, help="how many of the folder's files (all)")
    parser.add_argument("--flow-per-file", action="store_true")
    parser.add_argument("--concurrency", type=int, default=16, help="requests in flight; not of requests-*")
    parser.add_argument("--out", type=Path, help="curl-prepare: the folder to write to")
    args = parser.parse_args()

    if args.client == "installed":
        print(json.dumps([name for name, (_, package) in CLIENTS.items() if importlib.util.find_spec(package)]))
        return
    paths = sorted(entry.path for entry in os.scandir(args.folder))[: args.count]
    flows = [[path] for path in paths] if args.flow_per_file else [paths]
    if args.client == "curl-prepare":
        curl_prepare(args.url, flows, args.concurrency, args.out)
    else:
        CLIENTS[args.client][0](args.url, flows, args.concurrency)


if __name__ == "__main__":
    main()
