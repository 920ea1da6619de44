"""`batcher run` with its journal in memory: the same command line and the same way through the program, bar the disk.

For the figure of what the journal costs, and for nothing else: what it does cannot be resumed. Called by bench.py,
with the interpreter that batcher is installed for: `python memory_journal.py run MANIFEST …`
"""

from __future__ import annotations

import sys
from typing import Any

import batcher.api

on_disk = batcher.api.run


async def in_memory(*args: Any, **kwargs: Any) -> Any:
    return await on_disk(*args, **kwargs, journal=batcher.api.MemoryJournal())


batcher.api.run = in_memory  # before the command is imported, which binds it

from batcher.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
