"""Endpoints, proxies and certificates that cannot be used are refused before anything is sent."""

from __future__ import annotations

import pytest

from batcher.core.errors import UsageError
from batcher.service.client import FlowsApi
from batcher.service.credentials import Key
from batcher.service.endpoint import check_endpoint, check_proxy

pytestmark = pytest.mark.anyio


async def test_plain_http_is_for_loopback_and_proxies_and_certificates_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    check_endpoint("http://127.0.0.1:80")
    with pytest.raises(UsageError, match="in clear"):
        check_endpoint("http://10.0.0.1")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert FlowsApi("https://flows.example", Key(lambda: None), timeout_s=1, connections=1)._endpoint.proxy == "http://proxy.example:3128"
    assert FlowsApi("http://127.0.0.1", Key(lambda: None), timeout_s=1, connections=1)._endpoint.proxy is None
    with pytest.raises(UsageError, match="--ca-file"):
        async with FlowsApi("https://x.example", Key(lambda: None), timeout_s=1, connections=1, ca_file="/none"):
            pass


PASSWORD = "pass-word-9"


def through(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("proxy", "words"),
    [("127.0.0.1:3128", "no scheme"), (f"me:{PASSWORD}@p:3128", "no scheme: p:3128"), ("socks5://p:1080", "socks5"),
     (f"socks5h://me:{PASSWORD}@p:1", "socks5h"), ("http://p:port", "no address"), ("http://", "no address")],
)  # fmt: skip
async def test_a_proxy_that_cannot_be_used_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, proxy: str, words: str
) -> None:
    through(monkeypatch, proxy)
    with pytest.raises(UsageError, match=words) as error:
        FlowsApi("https://flows.example", Key(lambda: None), timeout_s=1, connections=1)
    assert "HTTPS_PROXY" in str(error.value)
    assert PASSWORD not in str(error.value)
    check_proxy("http://me:p@127.0.0.1:3128", "https")
