"""The proxy that the environment names, for whom it names it."""

from __future__ import annotations

import pytest

from batcher.host.proxies import proxy_for


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("https_proxy", "http://tls.example:1")
    monkeypatch.setenv("http_proxy", "http://plain.example:2")
    monkeypatch.setenv("no_proxy", "inside.example")


@pytest.mark.parametrize(
    ("url", "proxy"),
    [("https://flows.example", "http://tls.example:1"), ("http://flows.example:8000/v1", "http://plain.example:2"),
     ("https://inside.example", None), ("https://a.inside.example", None), ("http://127.0.0.1:80", None),
     ("https://localhost", None), ("http://[::1]:80", None)],
)  # fmt: skip
def test_proxy_is_that_of_the_scheme_and_none_for_loopback_or_whom_no_proxy_names(url: str, proxy: str | None) -> None:
    assert proxy_for(url) == proxy
