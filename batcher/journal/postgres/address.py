"""Where a journal in PostgreSQL lies.

In: `postgresql://USER@HOST/DB?schema=…`, as `--state` has it. Out: a `DatabaseAddress`, which shows itself without a
password. All of it but `schema` is libpq's affair, so that PGPASSFILE, services and sslmode work as everywhere. Called by
`open.py` and the command line; psycopg is imported where an address is really one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote, unquote

from ...core.errors import UsageError
from ...core.model import Manifest

SCHEMES: Final = ("postgresql://", "postgres://")
FORM: Final = "as postgresql://USER@HOST/DB, the password in ~/.pgpass or PGPASSFILE"
NAME_BYTES: Final = 63  # of a name in PostgreSQL; it would cut a longer one
SLUG_CHARS: Final = 40
_SECRET: Final = ("password", "sslpassword", "oauth_client_secret")
_QUOTED: Final = re.compile(r'"[^"]*"')


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A database, and the schema in it ("": made from the batch and its endpoint, see `of`). `parameters` are libpq's, and
    may hold a password: they are never shown. `primary`: of its servers only one that takes writes will do."""

    parameters: tuple[tuple[str, str], ...] = field(repr=False)
    schema: str = ""
    primary: bool = False

    @classmethod
    def parse(cls, text: str) -> DatabaseAddress:
        """Raises UsageError, without a password in it, where this is no address, or the extra is not installed."""
        base, _, query = text.partition("?")
        parts = [part for part in query.split("&") if part]
        schema = ""
        for part in parts:
            name, _, value = part.partition("=")
            if unquote(name) == "schema":
                schema = _checked(unquote(value, errors="replace"))
        rest = "&".join(part for part in parts if unquote(part.partition("=")[0]) != "schema")
        return cls(tuple(_parameters(f"{base}?{rest}" if rest else base).items()), schema)

    def of(self, manifest: Manifest) -> DatabaseAddress:
        """With the schema of this batch at this endpoint: the same on every host, wherever the manifest lies there."""
        if self.schema:
            return self
        slug = re.sub("[^a-z0-9]+", "_", manifest.batch.lower()).strip("_")[:SLUG_CHARS]
        text = f"{manifest.batch}\0{manifest.endpoint}"
        return replace(self, schema=f"batcher_{slug}_{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}")

    def at_primary(self) -> DatabaseAddress:
        """For whoever writes, or decides by what he reads what is paid for: a hot standby may not know yet what was started."""
        return replace(self, primary=True)

    def connecting(self, ours: Mapping[str, str]) -> dict[str, str]:
        """What libpq is given: `ours` where the address says nothing else. Where only the primary will do that is no matter of
        taste, so neither the address, nor a service file, nor PGTARGETSESSIONATTRS is asked for it."""
        given = {**ours, **dict(self.parameters)}
        return {**given, "target_session_attrs": "read-write"} if self.primary else given

    @property
    def has_password(self) -> bool:
        return any(name in _SECRET for name, _ in self.parameters)

    def hidden(self, message: str) -> str:
        """The message in one line, and without a password, whoever made it."""
        for name, value in self.parameters:
            if name in _SECRET and value:
                message = message.replace(value, "***").replace(quote(value, safe=""), "***")
        return " ".join(message.split())

    def __str__(self) -> str:
        """As a user would write it, without a password."""
        shown = {name: value for name, value in self.parameters if name not in _SECRET}
        user = quote(shown.pop("user", ""), safe="")
        hosts, ports = shown.pop("host", ""), shown.pop("port", "")
        database = quote(shown.pop("dbname", ""), safe="")
        if hosts.startswith(("/", "@")):  # a socket
            shown |= {"host": hosts} | ({"port": ports} if ports else {})
            hosts = ports = ""
        at = _with_ports(hosts, ports)
        if self.schema:
            shown["schema"] = self.schema
        query = "&".join(f"{name}={quote(value, safe='/,')}" for name, value in shown.items())
        return f"postgresql://{user + '@' if user else ''}{at}/{database}{'?' + query if query else ''}"

    def __repr__(self) -> str:
        return f"DatabaseAddress({self})"


def is_address(text: str) -> bool:
    return text.lower().startswith(SCHEMES)


def _with_ports(hosts: str, ports: str) -> str:
    """`a:1,b:2`; one port may be that of all hosts."""
    names = [f"[{host}]" if ":" in host else quote(host, safe="") for host in hosts.split(",")]
    numbers = ports.split(",")
    if len(numbers) == 1:
        numbers *= len(names)
    return ",".join(f"{name}:{port}" if port else name for name, port in zip(names, numbers, strict=False))


def _checked(schema: str) -> str:
    reserved = schema.startswith("pg_") or schema == "information_schema"
    if not schema or len(schema.encode(errors="replace")) > NAME_BYTES or reserved or not schema.isprintable():
        raise UsageError(f"no schema can have the name in ?schema= ({schema[:80]!r})", f"1 to {NAME_BYTES} bytes, not pg_…")
    return schema


def _parameters(url: str) -> Mapping[str, str]:
    """As libpq reads them. What it says of a mistake may quote a piece of the password: that is left out."""
    require_extra()
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        found = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except (ProgrammingError, UnicodeError) as error:
        what = _QUOTED.sub("…", str(error)).strip() if isinstance(error, ProgrammingError) else "it is not UTF-8"
        raise UsageError(f"the address of the journal in PostgreSQL is none: {what}", FORM) from None
    ports = found.get("port", "").split(",")
    if (
        "@" in found.get("host", "").lstrip("@")
        or "@" in found.get("dbname", "")
        or not all(p.isdecimal() or not p for p in ports)
    ):
        # A password with an @ or a / in it, which is cut there: its rest would be shown as a host, a port or a database.
        raise UsageError("the address of the journal in PostgreSQL is none: its parts cannot be told apart",
                         f"{FORM}; within a part @ is written %40, / %2F and : %3A")  # fmt: skip
    return found


def require_extra() -> None:
    """Raises UsageError without the extra."""
    try:
        import psycopg  # noqa: F401 - whether it is there, with a libpq that it can use
    except ImportError:
        raise UsageError("a journal in PostgreSQL needs packages that are not installed",
                         "pip install 'batcher[hosts]'") from None  # fmt: skip
