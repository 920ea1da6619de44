"""The command on systems that are not at hand: macOS, as far as what it lacks can be taken away, and one without fcntl.

A `sitecustomize` takes the names away, or gives others, before the process imports anything of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Service, environment, service, write_batch

pytestmark = pytest.mark.slow

__all__ = ["service"]

SESSION = b"6F9A1E0C-8B5D-4E3A-9F10-2B7C44D0A8E1"
MACOS = '''
import builtins, ctypes, errno, fcntl, io, os, pathlib, time
for module, names in ((os, "posix_fallocate posix_fadvise fdatasync memfd_create O_TMPFILE O_PATH O_DIRECT"),
                      (time, "CLOCK_BOOTTIME"), (fcntl, "F_OFD_SETLK")):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

real_open, real_stat = io.open, os.stat
def opened(file, *more, **named):
    if isinstance(file, (str, os.PathLike)) and os.fspath(file).startswith("/proc/"):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", file)
    return real_open(file, *more, **named)
io.open = builtins.open = opened

fcntl.F_FULLFSYNC = 51
real_fcntl = fcntl.fcntl
def controlled(file, command, *more):
    if command == fcntl.F_FULLFSYNC:
        if REFUSED:
            raise OSError(errno.ENOTSUP, "Operation not supported")
        with real_open(NOTED, "a") as noted:
            noted.write("flushed\\n")
        return os.fsync(file)
    return real_fcntl(file, command, *more)
fcntl.fcntl = controlled

@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.c_void_p,
                  ctypes.c_size_t)
def sysctlbyname(name, into, size, new, new_size):
    if SESSION is None or name != b"kern.bootsessionuuid" or size[0] < len(SESSION) + 1 or new or new_size:
        return -1
    ctypes.memmove(into, SESSION + b"\\0", len(SESSION) + 1)
    size[0] = len(SESSION) + 1
    return 0
class C:
    def __init__(self, name):
        assert name is None
    sysctlbyname = staticmethod(sysctlbyname)
ctypes.CDLL = C
'''
WITHOUT_FCNTL = '''
import sys
sys.modules["fcntl"] = None  # whoever imports it gets an ImportError
'''


class System:
    """The command in a folder, as a process of such a system."""

    def __init__(self, folder: Path, startup: str) -> None:
        self.folder = folder
        (folder / "startup").mkdir()
        (folder / "startup" / "sitecustomize.py").write_text(startup)
        path = os.pathsep.join(filter(None, (str(folder / "startup"), os.environ.get("PYTHONPATH"))))
        self.env = environment(PYTHONPATH=path)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=pipe, stderr=pipe, text=True)

    def batcher(self, *words: str, module: str = "batcher") -> tuple[int, str, str]:
        with self.begin(module, *words) as process:
            out, errors = process.communicate(timeout=50)
        return process.returncode, out, errors

    def ask(self, code: str) -> str:
        return subprocess.run([sys.executable, "-c", code], env=self.env, check=True, capture_output=True, text=True).stdout


@pytest.fixture(params=["all there", "refused"])
def macos(request: pytest.FixtureRequest, tmp_path: Path) -> System:
    """`refused`: a file system without F_FULLFSYNC, a boot without a name."""
    refused = request.param == "refused"
    session = None if refused else SESSION
    return System(tmp_path, f"REFUSED, SESSION, NOTED = {refused}, {session!r}, {str(tmp_path / 'noted')!r}\n{MACOS}")


def test_batch_on_macos_is_killed_goes_on_and_is_collected(service: Service, tmp_path: Path, macos: System) -> None:
    write_batch(tmp_path, 4, 3)
    where = ("m.yaml", "--endpoint", service.url)
    service.order("*:latency=80ms")
    with macos.begin("batcher", "run", *where, "--concurrency", "2") as run:
        deadline = time.monotonic() + 30
        while service.requests().count("upload") < 4:
            assert time.monotonic() < deadline
            assert run.poll() is None, run.communicate()
            time.sleep(0.02)
        run.kill()
    (left,) = (tmp_path / ".batcher").glob("*.left")
    assert left.stat().st_blocks * 512 >= left.stat().st_size > 4096, "a hole in what is mapped"
    service.order()
    assert macos.batcher("run", *where)[0] == 0
    code, out, _ = macos.batcher("run", *where, "--json")
    assert (code, json.loads(out)["flows"]["started_now"]) == (0, 0)
    code, out, _ = macos.batcher("status", *where, "--json")
    assert (code, json.loads(out)["flows"]["started"]) == (0, 4)
    code, _, errors = macos.batcher("collect", *where, "--to", "out")
    assert code == 0, errors
    assert len(list((tmp_path / "out").rglob("*.glb"))) == 12
    flows = [flow for flow in service.record()["flows"] if not flow["deleted"]]
    assert [(flow["starts"], len(flow["inputs"])) for flow in flows] == [(1, 3)] * 4
    flushed = (tmp_path / "noted").read_text().count("flushed") if (tmp_path / "noted").exists() else 0
    refused = "REFUSED, SESSION, NOTED = True" in (tmp_path / "startup" / "sitecustomize.py").read_text()
    assert (flushed > 12) is not refused, "each output, and each commit that was waited for, has reached the disk"


def test_boot_and_clock_of_macos(macos: System) -> None:
    code = "from batcher.host.system import boot, uptime; import time; print(boot(), uptime(), time.clock_gettime(4))"
    name, up, raw = macos.ask(code).split()
    assert time.CLOCK_MONOTONIC_RAW == 4
    assert name in (repr(SESSION), "None")
    assert abs(float(up) - float(raw)) < 1


@pytest.mark.parametrize("words", ["run", "plan", "status", "report", "collect --to out", "clean", "cron", "sandbox"])
def test_without_fcntl_one_line_names_what_to_use(tmp_path: Path, words: str) -> None:
    write_batch(tmp_path, 1, 1)
    name, *more = words.split()
    code, out, errors = System(tmp_path, WITHOUT_FCNTL).batcher(name, *(["m.yaml"] if name != "sandbox" else []), *more)
    assert (code, out, errors.count("\n")) == (2, "", 1), errors
    assert "WSL" in errors


def test_without_fcntl_what_needs_none_works(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    system = System(tmp_path, WITHOUT_FCNTL)
    for words in (["--help"], ["--version"], ["run", "--help"], ["schema"], ["init", "0", "-o", "-"]):
        code, out, errors = system.batcher(*words)
        assert (code, bool(out)) == (0, True), (words, errors)
    code, out, errors = system.batcher("--dir", "store", module="batcher.sandbox")
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert "WSL" in errors
