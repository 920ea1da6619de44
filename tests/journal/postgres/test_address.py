"""Addresses: read as libpq reads them, and never shown with a password."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.core.errors import UsageError
from batcher.journal.postgres.address import DatabaseAddress, is_address

from ..test_open import manifest_of

SECRET = "ge%40he/im"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:ge%40heim@h:5433/db?schema=x&sslmode=require", "postgresql://u@h:5433/db?sslmode=require&schema=x"),
        ("postgres://u@h1,h2:77/db", "postgresql://u@h1,h2:77/db"),
        ("postgresql:///db?host=/run/pg&password=geheim", "postgresql:///db?host=/run/pg"),
        ("postgresql://u:geheim@[::1]:5/d%2Fb", "postgresql://u@[::1]:5/d%2Fb"),
        ("postgresql://?service=batches&sslpassword=geheim", "postgresql:///?service=batches"),
        ("postgresql://u:geheim@h/db?schema=%61", "postgresql://u@h/db?schema=a"),
    ],
)
def test_address_is_shown_without_a_password_and_can_be_read_again(text: str, shown: str) -> None:
    address = DatabaseAddress.parse(text)
    assert str(address) == shown
    assert repr(address) == f"DatabaseAddress({shown})"
    again = DatabaseAddress.parse(shown)
    assert str(again) == shown
    assert not again.has_password
    assert address.has_password == ("eim" in text)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:geheim%zz@h/d",
        "postgresql://u:geheim%00@h/d",
        "postgresql://u:ge@heim@h/d",  # what follows the first @ would be a host
        "postgresql://u:ge/heim@h/d",  # and what follows the / a database
        "postgresql://u:geheim/1@h/d",
        "postgresql://u:ge?heim@h/d?schema=s",
        "postgresql://u:geheim@h/d?geheim=1",
        "postgresql://u:geheim@h:geheim/d",
        "postgresql://u:geheim@h/d?schema=",
        "postgresql://u:geheim@h/d?schema=pg_geheim",
        f"postgresql://u:geheim@h/d?schema={'x' * 64}",
        "postgresql://u:geheim@h/d?schema=a%00b",
        "postgresql://u:geheim@h/d?password=%ff",
    ],
)
def test_address_that_is_none_is_told_without_its_password(text: str) -> None:
    with pytest.raises(UsageError) as error:
        DatabaseAddress.parse(text)
    assert error.value.hint
    assert error.value.__cause__ is None
    assert "heim" not in str(error.value).replace("pg_geheim", "")


def test_message_of_anybody_is_told_without_a_password() -> None:
    address = DatabaseAddress.parse(f"postgresql://u:{SECRET.replace('/', '%2F')}@h/db")
    assert address.hidden("no: ge@he/im\n  (ge%40he%2Fim)") == "no: *** (***)"


def test_schema_is_that_of_the_batch_and_its_endpoint_wherever_the_manifest_lies(tmp_path: Path) -> None:
    manifest = replace(manifest_of(tmp_path), batch="Autumn Chairs, 2. Lauf – " + "x" * 60)
    address = DatabaseAddress.parse("postgresql://h/db").of(manifest)
    assert address.schema.startswith("batcher_autumn_chairs_2_lauf_xxx")
    assert len(address.schema) <= 63
    assert DatabaseAddress.parse("postgresql://h/db").of(replace(manifest, path="/elsewhere/m.yaml")) == address
    assert DatabaseAddress.parse("postgresql://h/db").of(replace(manifest, endpoint="http://127.0.0.1:8")) != address
    assert DatabaseAddress.parse("postgresql://h/db").of(replace(manifest, batch=manifest.batch + ".")) != address
    assert DatabaseAddress.parse("postgresql://h/db?schema=own").of(manifest).schema == "own"


def test_what_is_an_address() -> None:
    assert is_address("postgresql://h/db")
    assert is_address("POSTGRES://h/db")
    assert not is_address("postgresql")
    assert not is_address("./postgresql://")


def test_without_the_extra_it_is_said_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('no pq wrapper available')")
    (tmp_path / "m.yaml").write_text("version: 1\nflows: []\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from batcher.cli import main; main()"
    words = ["status", str(tmp_path / "m.yaml"), "--state", "postgresql://u:geheim@h/d"]
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "pip install 'batcher[hosts]'" in ended.stderr
    assert "geheim" not in ended.stderr
