"""What differs between the systems that batcher runs on: locks, the disk, the clock, the name of a boot.

In: descriptors and paths. Out: the same promise everywhere, kept by what the system at hand has; whatever it lacks has a
branch here, told by the name that is missing and not by the system's own. Called by the journal, the outputs and the
command line; nothing else in the program names what only some systems have.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import time
from pathlib import Path
from typing import IO, Final

from ..core.errors import UsageError
from ..core.facts import FileStat

try:
    import fcntl
except ImportError:  # Windows
    LOCKS = False
else:
    LOCKS = True

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
BOOT_SESSION: Final = b"kern.bootsessionuuid"  # macOS; not kern.boottime, which moves when the clock is set
BOOT_SESSION_BYTES: Final = 37  # a UUID as text, and the NUL
MOST: Final = (1 << 63) - 1  # the journal's integers have 64 bits with their sign
ZEROS: Final = 1 << 16
M_ARENA_MAX: Final = -8  # of glibc's malloc.h
NOT_HERE: Final = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS)  # not on this file system


def check() -> None:
    """Raises UsageError on a system without the locks that one run at a time rests on."""
    if not LOCKS:
        raise UsageError("this system has no fcntl, and so no locks that die with their process",
                         "batcher runs on Linux and macOS; on Windows, run it within WSL")  # fmt: skip


def lock(file: int, *, shared: bool = False, wait: bool = False) -> None:
    """Take the kernel's lock on the file, which dies with the process. Where another process has it: wait for it, or raise
    BlockingIOError."""
    check()
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def allocate(file: int, size: int) -> None:
    """Make the file that long, with room on the disk for all of it: a hole that no disk is left for would be a SIGBUS
    later, in a file that is mapped. What it holds stays where it had that length. Raises OSError."""
    if os.fstat(file).st_size > size:
        os.ftruncate(file, size)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
            return
        except OSError as error:
            if error.errno not in NOT_HERE:
                raise
    if os.fstat(file).st_size == size:
        return  # written by these lines before: it gets its length with its last zero
    os.ftruncate(file, 0)
    written = 0
    while written < size:
        written += os.pwrite(file, bytes(min(ZEROS, size - written)), written)
    to_disk(file)


def to_disk(file: int, *, data_only: bool = False) -> None:
    """Wait until the disk has the file; `data_only`: its content, and its times whenever. Raises OSError."""
    if LOCKS and hasattr(fcntl, "F_FULLFSYNC"):  # macOS, where fsync ends at the disk's own cache
        try:
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in NOT_HERE:
                raise
    if data_only and hasattr(os, "fdatasync"):
        os.fdatasync(file)
    else:
        os.fsync(file)


def folder_to_disk(folder: Path) -> None:
    """Wait until the disk has the names in the folder, as far as its file system can be asked. Raises OSError."""
    file = os.open(folder, os.O_RDONLY)
    try:
        to_disk(file)
    except OSError as error:
        if error.errno not in NOT_HERE:  # as on a share of another machine
            raise
    finally:
        os.close(file)


def stat_of(found: os.stat_result) -> FileStat:
    """A file's stat, bounded as the journal's integers are: of what is beyond (a file of the year 1600 or 2262, an inode of 64
    bits) the last 63 bits are kept, which still tell one file from another. The encoder does the same by itself: it is a
    script that imports nothing of batcher."""
    mtime_ns = found.st_mtime_ns
    return FileStat(found.st_size, mtime_ns if -MOST <= mtime_ns <= MOST else mtime_ns & MOST, found.st_ino & MOST)


def boot() -> bytes | None:
    """A name for the time since the machine was started. None: not known."""
    with contextlib.suppress(OSError):
        return BOOT_ID.read_bytes().strip()
    return _boot_session()


def _boot_session() -> bytes | None:
    """As macOS's kernel names it."""
    try:
        import ctypes  # a hundredth of a second, where it is wanted

        text = ctypes.create_string_buffer(BOOT_SESSION_BYTES)
        size = ctypes.c_size_t(BOOT_SESSION_BYTES)
        failed = ctypes.CDLL(None).sysctlbyname(BOOT_SESSION, text, ctypes.byref(size), None, ctypes.c_size_t(0))
    except (ImportError, OSError, AttributeError):
        return None
    return None if failed else text.value or None


def uptime() -> float:
    """Seconds of a clock that never jumps, counts while the machine sleeps, and is the same for all its processes."""
    if hasattr(time, "CLOCK_BOOTTIME"):  # Linux
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_MONOTONIC_RAW"):  # macOS, where it counts while asleep; time.monotonic stands still then
        return time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    return time.monotonic()


def readable(pipe: IO[bytes]) -> bool:
    """Whether there is something to read, or nobody is left to write."""
    # `poll` where there is one: it takes no descriptor of its own; and never `select`, which takes none beyond 1023.
    with getattr(selectors, "PollSelector", selectors.DefaultSelector)() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return bool(selector.select(0))


def share_memory_between_threads() -> None:
    """Where the C library is glibc: no more than two arenas from now on. Each thread has one of its own else, and keeps what
    passes through it: 64 objects of 64 MB, read by one thread and sent by another, left 161 MiB where two leave 92."""
    import ctypes  # only where it is asked for

    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(ctypes.c_int(M_ARENA_MAX), ctypes.c_int(2))
