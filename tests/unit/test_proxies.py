"""Exemptions and proxies of an environment, as pure changes of a mapping."""

import httpx
import pytest

from absa.errors import UnavailableError
from absa.proxies import UNUSABLE, is_local, keep_local_direct, require_route

LOCAL = "127.0.0.1,localhost,::1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, LOCAL),
        ({"NO_PROXY": ""}, LOCAL),
        ({"no_proxy": " a.example , b.example"}, f"a.example,b.example,{LOCAL}"),
        ({"NO_PROXY": "localhost", "no_proxy": "a"}, "localhost,a,127.0.0.1,::1"),
        ({"NO_PROXY": "*"}, "*"),
        ({"NO_PROXY": "a", "no_proxy": "*"}, "*"),
        ({"NO_PROXY": "[::1],fe80::/10,a:8080,b:c,10.0.0.0/8"}, "::1,a:8080,10.0.0.0/8,127.0.0.1,localhost"),
        ({"NO_PROXY": ".münchen.example"}, f".xn--mnchen-3ya.example,{LOCAL}"),
    ],
)
def test_exemptions_are_merged_into_both_names(given: dict[str, str], expected: str) -> None:
    keep_local_direct(given)
    assert (given["NO_PROXY"], given["no_proxy"]) == (expected, expected)


@pytest.mark.parametrize("entries", ["[::1]", "fe80::/10", "::1/128", "ü.example", "a:b", "*.corp", "10.0.0.0/8"])
def test_every_exemption_leaves_httpx_usable(entries: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"NO_PROXY": entries, "HTTP_PROXY": "http://proxy.example:3128"}
    keep_local_direct(environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    httpx.Client().close()


@pytest.mark.parametrize("usable", ["http://p:1", "https://u:p@p:1", "p:3128", "p", ""])
def test_usable_proxies_stay(usable: str) -> None:
    environment = {"https_proxy": usable}
    keep_local_direct(environment)
    assert environment["https_proxy"] == usable
    assert UNUSABLE not in environment


@pytest.mark.parametrize("broken", ["socks5://u:hidden@p:1", "socks5h://p:1", "socks://p:1", "ftp://p", "http://p:x"])
def test_unusable_proxies_are_taken_out_and_noted(broken: str) -> None:
    environment = {"ALL_PROXY": broken, "HTTP_PROXY": "http://p:1"}
    keep_local_direct(environment)
    keep_local_direct(environment)
    assert "ALL_PROXY" not in environment
    assert environment[UNUSABLE].startswith("ALL_PROXY=")
    assert environment[UNUSABLE].count("ALL_PROXY") == 1
    assert "hidden" not in environment[UNUSABLE]


def test_route_without_unusable_proxy_is_free() -> None:
    environment = {UNUSABLE: "ALL_PROXY=socks5://p:1", "HTTP_PROXY": "http://p:1", "NO_PROXY": ".corp.example"}
    for url in (
        "http://127.0.0.9:1", "http://localhost:1", "http://[::1]:1", "http://a.example", "https://x.corp.example:8443",
        "sqlite:///x.db",
    ):  # fmt: skip
        require_route(url, environment)
    with pytest.raises(UnavailableError, match=r"a\.example cannot be reached through ALL_PROXY"):
        require_route("https://a.example", environment)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1", True), ("http://127.8.8.8", True), ("http://localhost/x", True),
        ("http://[::1]:1", True),
        ("http://10.0.0.1", False), ("http://localhost.example", False), ("", False), ("http://[bad", False),
    ],
)  # fmt: skip
def test_local_addresses_are_told_from_others(url: str, local: bool) -> None:
    assert is_local(url) is local
