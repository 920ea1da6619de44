"""The service without its wire: the folder with the database and the files, the keys, the readings.

In: a folder. Out: an open `Service` that the calls work on; nothing is lost when its process is killed.
Opened by `server`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from .db import Database
from .readings import Readings
from .refusals import Refusal
from .store import Writes


class Service:
    """What one sandbox serves. Open it in a running event loop. Raises OSError if the folder is in use."""

    def __init__(
        self,
        folder: Path,
        readings: Readings,
        *,
        keys: Collection[str],
        expired_keys: Collection[str],
        processing_s: float,
        max_data_bytes: int | None,
    ) -> None:
        self.readings = readings
        self.keys = frozenset(keys)
        self.expired_keys = frozenset(expired_keys)
        self.processing_s = processing_s
        self.max_data_bytes = max_data_bytes
        self.assets = folder / "assets"
        self._spool = folder / "spool"
        # An asset is renamed from the spool into its place: both must be on one file system.
        self.assets.mkdir(parents=True, exist_ok=True)
        self.db = Database(folder)
        self.writes = Writes(self.assets)
        self._spooled = itertools.count()

    @classmethod
    async def open(
        cls,
        folder: Path,
        readings: Readings,
        *,
        keys: Collection[str] = (),
        expired_keys: Collection[str] = (),
        processing_s: float = 0.2,
        max_data_bytes: int | None = None,
    ) -> Service:
        """The service of `folder`, what half uploads left there removed."""
        service = cls(
            folder,
            readings,
            keys=keys,
            expired_keys=expired_keys,
            processing_s=processing_s,
            max_data_bytes=max_data_bytes,
        )
        await service.db.read(service.writes.sweep)
        await asyncio.to_thread(service._empty_spool)
        return service

    def _empty_spool(self) -> None:
        # Whatever is spooled belongs to an upload that no row names.
        shutil.rmtree(self._spool, ignore_errors=True)
        os.mkdir(self._spool)

    def new_spool_file(self) -> Path:
        """A name for the content of an upload that is under way."""
        return self._spool / str(next(self._spooled))

    def authorize(self, authorization: str | None) -> None:
        """Raises a Refusal (401). Without keys, every caller is let in."""
        if not self.keys and not self.expired_keys:
            return
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refusal(401, "Not authenticated")
        if key in self.expired_keys:
            raise Refusal(401, "API key expired")
        if self.keys and key not in self.keys:
            raise Refusal(401, "Invalid API key")

    async def close(self) -> None:
        await self.db.close()
