"""What a command that has little to do does not import: each of these costs more than the command itself.

Nothing is timed here; `tests/benchmarks/bench.py --only startup` does that.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
MANIFEST = """\
version: 1
batch: small
endpoint: sandbox
defaults: {template: model_generate_fromimage, parameters: {quality: high}}
limits: {concurrency: 8, rate: 200/s, timeout: 30s, memory: 16MiB}
notify: {command: {on_failure: echo}}
flows:
- name: chairs
  inputs: [a.png, {file: b.png, additional: {sku: B}}]
- each: {glob: "in/*.png"}
  name: "{stem}"
  inputs: ["{path}"]
"""

EDGES = {  # the network, other formats and engines, and what draws
    "aiohttp", "obstore", "psycopg", "pgqueuer", "prometheus_client", "tqdm", "wcwidth", "aiofiles", "pyarrow", "PIL",
    "multiprocessing", "http.client", "urllib.request", "email", "batcher.sandbox", "batcher.objects", "batcher.gallery",
    "batcher.cli.page", "batcher.service.transport", "batcher.outputs.folder", "batcher.journal.postgres.journal",
}  # fmt: skip
MODELS = {"pydantic", "pydantic_core", "batcher.manifest.shape", "batcher.manifest.keys"}
WORK = {f"batcher.pipeline.{name}" for name in ("chunks", "feeder", "producer", "workers", "finalizer", "verifier")}
STAGES = WORK | {"batcher.pipeline.collect"}
OPERATION = {"asyncio", "ssl", "batcher.api", "batcher.assembly", "batcher.pipeline", "batcher.journal.sqlite"}
READING = {"yaml", "sqlite3", "batcher.manifest", "batcher.journal.open", "hashlib"}

SPARED = {
    "run m.yaml": EDGES | MODELS | STAGES,
    "run m.yaml --json": EDGES | MODELS | STAGES,
    "plan m.yaml": EDGES | MODELS | STAGES,
    "status m.yaml": EDGES | MODELS | OPERATION,
    "status m.yaml --json": EDGES | MODELS | OPERATION,
    "--help": EDGES | MODELS | OPERATION | READING,
    "--version": EDGES | MODELS | OPERATION | READING,
}

SEEN = """\
import sys
from batcher.cli import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
print("\\n".join(["MODULES", *sys.modules]), file=sys.stderr)
sys.exit(code)
"""


def imported(folder: Path, *words: str) -> set[str]:
    """The modules that the command has imported."""
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = [sys.executable, "-c", SEEN, *words]
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 0, ended.stderr
    return set(ended.stderr.rpartition("MODULES\n")[2].split())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small batch of which all is started."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "in").mkdir()
    for name in ("a.png", "b.png", "in/c.png"):
        (folder / name).write_bytes(PNG + name.encode())
    (folder / "m.yaml").write_text(MANIFEST)
    subprocess.run([sys.executable, "-m", "batcher", "run", "m.yaml", "--quiet"], cwd=folder, check=True, timeout=50)
    return folder


@pytest.mark.parametrize("command", SPARED)
def test_what_is_not_needed_is_not_imported(done: Path, command: str) -> None:
    found = imported(done, *command.split())
    assert "batcher.cli" in found
    assert found & SPARED[command] == set()


def test_what_is_needed_is_imported(done: Path) -> None:
    """So that the names above are names of modules."""
    found = imported(done, "run", "m.yaml", "--state", "another")
    assert found >= WORK | {"aiohttp", "batcher.sandbox", "batcher.service.transport"}
    assert imported(done, "status", "m.yaml", "--refresh") >= OPERATION
    assert imported(done, "schema") >= MODELS - {"batcher.manifest.shape"}


def test_a_sandbox_that_another_command_serves_is_missed_only_where_it_is_asked(done: Path) -> None:
    with (done / ".batcher/sandbox/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for words, code in (("run", 0), ("plan", 0), ("run --redo chairs", 2), ("plan --redo chairs", 2)):
            command = [sys.executable, "-m", "batcher", *words.split(), "m.yaml"]
            ended = subprocess.run(command, cwd=done, capture_output=True, text=True, timeout=50)
            assert ended.returncode == code, ended.stderr
            assert ("the embedded sandbox is in use by another command" in ended.stderr) is (code == 2)
