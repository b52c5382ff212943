"""Where an endpoint is and what it takes to get there: its URL in one spelling, the key, a proxy."""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import urlsplit

from personahub.core.config import read_secret
from personahub.core.engines.base import EngineUnavailable
from personahub.core.errors import UserError


def one_spelling(base_url: str) -> str:
    """The same endpoint has the same identity, and no secret hides in it.

    Raises:
        ValueError: no request can be sent there, or it says more than where.
    """
    try:
        url = urlsplit(base_url.strip())
        host, port = url.hostname or "", url.port  # raises for a port that is none
        host.encode("idna")  # raises for a label that is empty or longer than 63 characters
    except ValueError:  # UnicodeError is one
        raise ValueError("a base_url has a host name and a port below 65536, as in http://127.0.0.1:8000/v1") from None
    if url.scheme not in ("http", "https") or not host or port == 0 or not host.isprintable() or " " in host:
        raise ValueError("a base_url looks like http://127.0.0.1:8000/v1")
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("a base_url has no user, password, query or fragment: it is written to files")
    return f"{url.scheme}://{url.netloc.lower()}{url.path.rstrip('/')}"


def read_key(variable: str | None, base_url: str) -> str | None:
    """The key from the environment.

    Raises:
        EngineUnavailable: there is none, or it is none.
    """
    if variable is None:
        return None
    try:
        key = read_secret(variable, base_url)
    except UserError as error:
        if _is_loopback(base_url):
            return None
        raise EngineUnavailable(f"{error} (or api_key_env: null, if the endpoint needs none)") from None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise EngineUnavailable(f"{variable}: holds characters that no key has; copy it again")
    return key


def proxy_of(base_url: str) -> str | None:
    """The environment's proxy for the endpoint, `http://` put before a bare host and port as curl does.

    (aiohttp's `trust_env` would also send ~/.netrc passwords.)

    Raises:
        EngineUnavailable: the variable names none that can be asked. What it says is not repeated: passwords stand in it.
    """
    url = urlsplit(base_url)
    if _is_loopback(base_url) or urllib.request.proxy_bypass(url.netloc):
        return None
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy is None:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:
        usable = False
    if not usable:
        raise EngineUnavailable(
            f"{url.scheme}_proxy: names no proxy for {base_url}; one looks like http://127.0.0.1:3128 "
            f"(SOCKS is not spoken). Mend or unset it, or add {url.hostname} to no_proxy"
        )
    return proxy


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
