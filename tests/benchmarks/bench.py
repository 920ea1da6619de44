"""How fast is batcher? One command, one table: batcher beside what people write instead of it, in one run.

    pip install -r tests/benchmarks/requirements.txt
    python tests/benchmarks/bench.py                        # everything, about an hour and a half
    python tests/benchmarks/bench.py --only 1kb,1mb --runs 5
    python tests/benchmarks/bench.py --only adaptive --json results.json --plot speed.png

Every client is a whole process (for batcher: manifest, journal, listing, start), works from the same files against
the same local server, and takes its turn: A B C A B C … The server counts; a run that did not do all of its work is
an error and no figure. Ratios are taken within a round, then their median. Linux only (epoll, /dev/shm).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness import hosts, limits, order, plots, reading, scale, startup, throughput
from harness.results import Part, target_table
from harness.server import BenchError, executable
from harness.setting import Setting, find_batcher, find_python, machine

PARTS: dict[str, Callable[[Setting], Part]] = {
    **{name: partial(throughput.compare, name=name) for name in throughput.CASES},
    "small": throughput.small,
    "journal": throughput.journal,
    "latency": throughput.latency,
    "order": order.order,
    "scale": scale.scale,
    "startup": startup.startup,
    "reading": reading.reading,
    "adaptive": limits.adaptive,
    "caps": limits.caps,
    "hosts": hosts.hosts,
}
SCALES = "10000,100000,1000000"
QUICK_SCALES = (1_000, 10_000)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PART,…", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--runs", type=int, metavar="N", help="rounds per comparison (5; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: to try the harness, not to quote")
    parser.add_argument("--scale", default=SCALES, metavar="N,…", help=f"numbers of inputs for `scale` ({SCALES})")
    parser.add_argument("--batcher", metavar="CMD", help="the command to measure (beside this Python, else on the PATH)")
    parser.add_argument("--batcher-python", metavar="CMD", help="its interpreter, for `startup` (beside the command)")
    parser.add_argument("--peers-python", metavar="CMD", default=sys.executable, help="has the peers' packages (this)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="a disk for files and journals (the temp folder)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="record; parts not run now are kept as they are")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw; the adaptive limit as FILE-adaptive.png")
    parser.add_argument("--replay", action="store_true", help="run nothing: print and draw what --json FILE holds")
    args = parser.parse_args()
    names = args.only.split(",") if args.only else list(PARTS)
    if unknown := set(names) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))} (there are {', '.join(PARTS)})")
    if args.replay and not (args.json and args.json.exists()):
        parser.error("--replay needs --json FILE with results")
    args.only = [name for name in PARTS if name in names]
    return args


def read_setting(args: argparse.Namespace) -> Setting:
    batcher = find_batcher(args.batcher, sys.executable)
    return Setting(
        batcher=batcher,
        batcher_python=args.batcher_python or find_python(batcher),
        peers_python=args.peers_python,
        runs=args.runs or (1 if args.quick else 5),
        quick=args.quick,
        scales=QUICK_SCALES if args.quick and args.scale == SCALES else tuple(map(int, args.scale.split(","))),
        work=args.work or Path(tempfile.gettempdir()),
    )


def measure(setting: Setting, names: list[str], record: Path | None) -> list[Part]:
    """Runs, prints and records part by part, so that an hour's work is not lost to a fault in the last one."""
    about = machine(setting)
    print(f"# batcher benchmarks\n\n{'; '.join(f'{name} {value}' for name, value in about.items())}\n", flush=True)
    parts = []
    for name in names:
        print(f"… {name}", file=sys.stderr, flush=True)
        part = PARTS[name](setting)
        part.notes.append(
            f"{'QUICK, not to be quoted; ' if setting.quick else ''}runs: {setting.runs}; "
            f"{time.strftime('%Y-%m-%d', time.gmtime())}."
        )
        print(part.markdown(), flush=True)
        parts.append(part)
        if record:
            known = {known.name: known for known in read(record)} | {part.name: part}
            content = {"machine": about, "parts": [known[name].as_json() for name in PARTS if name in known]}
            record.write_text(json.dumps(content) + "\n")
    return parts


def read(record: Path) -> list[Part]:
    if not record.exists():
        return []
    return [Part.from_json(part) for part in json.loads(record.read_text())["parts"]]


def main() -> int:
    args = read_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave through the context managers: folders, processes
    try:
        if args.replay:
            parts = [part for part in read(args.json) if part.name in args.only]
            print("\n".join(part.markdown() for part in parts))
        else:
            executable()  # no compiler: say so before anything else
            with (setting := read_setting(args)).folder("all") as folder:
                parts = measure(replace(setting, work=folder), args.only, args.json)
        print(f"### Promises\n\n{target_table(parts)}")
        if args.plot:
            for path in plots.draw(read(args.json) if args.json else parts, args.plot):
                print(f"drawn: {path}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    except BenchError as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"bench.py: no plot: {error} (pip install -r tests/benchmarks/requirements.txt)", file=sys.stderr)
        return 1
    return 0 if all(target.ok for part in parts for target in part.targets) else 3


if __name__ == "__main__":
    sys.exit(main())
