"""Proxies of the environment: local addresses never use a proxy, and proxies that no client can use are removed.

Every HTTP client here reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY in its own way. urllib, requests and boto3
prefer the lower-case names. httpx fails for every address if one proxy is of a kind that httpx does not support.
Therefore the environment itself is corrected once, at the start of a process; child processes inherit it.
"""

import ipaddress
from collections.abc import Iterator, Mapping, MutableMapping
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit

from absa.errors import UnavailableError

LOCAL: Final = ("127.0.0.1", "localhost", "::1")
UNUSABLE: Final = "EVERGREEN_UNUSABLE_PROXIES"
"""Variable with the proxies that were removed from the environment, for child processes and messages."""
_EXEMPT: Final = ("NO_PROXY", "no_proxy")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
_SOCKS: Final = ("socks5", "socks5h")
_SOCKS_MODULES: Final = ("socksio", "socks")  # modules that httpx and requests need for SOCKS


def keep_local_direct(environment: MutableMapping[str, str], *hosts: str) -> None:
    """Exempt local addresses from every proxy, and remove proxies that no client can use. Idempotent.

    Args:
        environment: of this process (`os.environ`) or of a child process; changed in place. The user's exemptions are
            kept.
        hosts: further addresses of local servers.
    """
    given = [entry for name in _EXEMPT for entry in _entries(environment.get(name, ""))]
    exempt = "*" if "*" in given else ",".join(dict.fromkeys((*given, *LOCAL, *hosts)))
    for name in _EXEMPT:
        environment[name] = exempt
    refused = [name for name in environment if name.lower() in _PROXIES and not _is_usable(environment[name])]
    if refused:
        named = [f"{name}={_without_password(environment.pop(name))}" for name in sorted(refused)]
        environment[UNUSABLE] = " ".join(dict.fromkeys([*environment.get(UNUSABLE, "").split(), *named]))


def require_route(url: str, environment: Mapping[str, str]) -> None:
    """Check that an address does not need a proxy that was removed from the environment.

    Args:
        url: address of a server that is about to be called.
        environment: after `keep_local_direct`.

    Raises:
        UnavailableError: the address needs such a proxy; the message names the proxy and the remedy.
    """
    parts = urlsplit(url)
    if is_local(url) or parts.scheme not in {"http", "https"}:
        return
    names = (f"{parts.scheme}_proxy", "all_proxy")
    if any(environment.get(variant) for name in names for variant in (name, name.upper())):
        return
    unusable = [each for each in environment.get(UNUSABLE, "").split() if each.partition("=")[0].lower() in names]
    if unusable and not _is_exempt(parts.netloc.rpartition("@")[2].lower(), environment.get("NO_PROXY", "")):
        raise UnavailableError(
            f"{parts.hostname} cannot be reached through {unusable[0]}: expected a proxy http://HOST:PORT, or "
            f"`pip install socksio PySocks` for a SOCKS proxy; a host that needs no proxy belongs in NO_PROXY"
        )


def is_local(url: str) -> bool:
    """Return True if the address is on this machine: a loopback address or localhost."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_exempt(place: str, exempt: str) -> bool:
    """Return True if HOST or HOST:PORT is an entry of NO_PROXY, or in the domain of an entry."""
    host = place.partition(":")[0]
    named = [entry.strip().lower().lstrip(".") for entry in exempt.split(",") if entry.strip()]
    return any(entry in {"*", host, place} or host.endswith(f".{entry}") for entry in named)


def _entries(value: str) -> Iterator[str]:
    """Yield exemptions in a form that every client reads: IPv6 without brackets, no entry that makes httpx fail."""
    for part in value.split(","):
        entry = part.strip().removeprefix("[").removesuffix("]")
        if not entry:
            continue
        if ":" in entry and "://" not in entry and not _is_address(entry) and not entry.rpartition(":")[2].isdigit():
            continue  # an IPv6 network or an invalid port: no client here supports it, and httpx fails
        if entry.isascii():
            yield entry
        else:
            yield ".".join(_ascii(label) for label in entry.split("."))


def _ascii(label: str) -> str:
    """Return a part of a host name in the ASCII form that name servers use."""
    return label if label.isascii() else f"xn--{label.lower().encode('punycode').decode('ascii')}"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_usable(proxy: str) -> bool:
    """Return True if every client can use the proxy, or if it is empty, which means no proxy."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        port = parts.port
    except ValueError:
        return False
    if parts.scheme in _SOCKS:
        return all(find_spec(module) is not None for module in _SOCKS_MODULES)
    return not proxy or (parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0)


def _without_password(proxy: str) -> str:
    scheme, separator, rest = proxy.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}".replace(" ", "")
