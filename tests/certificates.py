"""Certificates that sign themselves, made by `openssl` for the names of a test's own servers."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


def certificate(name: str, folder: Path) -> Path:
    """Certificate and key in one PEM file. `name`: as `DNS:localhost` or `IP:10.0.0.1`. Skips where there is no `openssl`."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    host = name.partition(":")[2]
    pem, alone = folder / f"{host}.pem", folder / "c.pem"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={host}"
    subprocess.run(["openssl", *words.split(), "-addext", f"subjectAltName={name}", "-keyout", pem, "-out", alone],
                   check=True, capture_output=True)  # fmt: skip
    pem.write_bytes(alone.read_bytes() + pem.read_bytes())
    return pem


def serving_as(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
