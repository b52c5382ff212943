"""How to reach an endpoint: its normalized URL, the API key and the proxy."""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import urlsplit

from personahub.core.config import read_secret
from personahub.core.engines.base import EngineUnavailable
from personahub.core.errors import UserError


def normalize_url(base_url: str) -> str:
    """Return the URL in one spelling.

    The same endpoint then always has the same identity.

    Raises:
        ValueError: the URL is not valid, or it contains a user, password, query or fragment.
    """
    try:
        url = urlsplit(base_url.strip())
        host, port = url.hostname or "", url.port  # raises if the port is not valid
        host.encode("idna")  # raises if a label is empty or longer than 63 characters
    except ValueError:  # includes UnicodeError
        raise ValueError("base_url needs a host name and a port below 65536, as in http://127.0.0.1:8000/v1") from None
    if url.scheme not in ("http", "https") or not host or port == 0 or not host.isprintable() or " " in host:
        raise ValueError("base_url must look like http://127.0.0.1:8000/v1")
    if url.username or url.password or url.query or url.fragment:
        raise ValueError(
            "base_url must not contain a user, password, query or fragment, because it is written to files"
        )
    return f"{url.scheme}://{url.netloc.lower()}{url.path.rstrip('/')}"


def read_key(variable: str | None, base_url: str) -> str | None:
    """Read the API key from the environment. A loopback endpoint needs none.

    Raises:
        EngineUnavailable: no key was given, or the value is not a key.
    """
    if variable is None:
        return None
    try:
        key = read_secret(variable, base_url)
    except UserError as error:
        if _is_loopback(base_url):
            return None
        raise EngineUnavailable(f"{error} (or set api_key_env: null if the endpoint needs no key)") from None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise EngineUnavailable(f"{variable} contains characters that are not allowed in a key. Copy the key again")
    return key


def find_proxy(base_url: str) -> str | None:
    """Return the environment's proxy for the endpoint.

    A bare host and port gets `http://`, as in curl. aiohttp's `trust_env` is not used because it would also send
    passwords from ~/.netrc.

    Raises:
        EngineUnavailable: the variable is not a valid proxy URL. The message omits its value, which may
            contain a password.
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
            f"{url.scheme}_proxy, needed for {base_url}, is not a valid HTTP proxy URL such as http://127.0.0.1:3128 "
            f"(SOCKS is not supported). Fix or unset the variable, or add {url.hostname} to no_proxy"
        )
    return proxy


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
