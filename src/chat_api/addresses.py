"""Addresses of HTTP services, and origins of pages, as settings name them."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from chat_api import database_url

_HOST = re.compile(
    r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.?"
)
# Browsers take such a host for an IPv4 address, and write it as four decimal numbers.
_ENDS_IN_A_NUMBER = re.compile(r"(^|\.)([0-9]+|0x[0-9a-f]*)\.?$")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NO_ORIGIN = (
    "must be origins such as https://chat.example.org or http://localhost:3000, without a path "
    "and separated by commas, or `*` alone for any origin"
)


def http_address(value: str, *, with_query: bool = False) -> str:
    """Return the address without a slash at its end. Raise ValueError if it is not one.

    With `with_query` it may have a query, and stays as it is.
    """
    parts = _address(value)
    if (
        parts is None
        or parts.scheme not in {"http", "https"}
        or not parts.hostname
        or not database_url.is_host(parts.hostname)
        or "@" in parts.netloc
        or (parts.query and not with_query)
        or parts.fragment
        or not re.fullmatch("[!-~]+", value)
    ):
        raise ValueError("must be an address such as http://host:8000")
    return value if with_query else value.rstrip("/")


def origins_of(frontend_url: str) -> list[str]:
    """Return the origins that a `FRONTEND_URL` names, as browsers write them; `*` is any origin.

    Raise ValueError where it names anything else.
    """
    parts = [part.strip() for part in frontend_url.split(",") if part.strip()]
    if parts == ["*"]:
        return parts
    return list(dict.fromkeys(map(_origin, parts)))


def _origin(text: str) -> str:
    """Return an origin as in RFC 6454, section 6.2: in lower case, without the default port."""
    parts = _address(text.lower())
    host = None if parts is None else _origin_host(parts)
    if (
        parts is None
        or host is None
        or not re.fullmatch("[!-~]+", text)  # urlsplit passes over tabs and line ends
        or parts.scheme not in _DEFAULT_PORTS
        or "@" in parts.netloc
        or parts.path not in {"", "/"}
        or parts.query
        or parts.fragment
        or text.endswith(("?", "#"))
    ):
        raise ValueError(_NO_ORIGIN)
    if parts.port is None or parts.port == _DEFAULT_PORTS[parts.scheme]:
        return f"{parts.scheme}://{host}"
    return f"{parts.scheme}://{host}:{parts.port}"


def _origin_host(parts: SplitResult) -> str | None:
    """Return the host as browsers write it; None for what they never write (WHATWG URL, 3.5)."""
    host = parts.hostname or ""
    try:
        if parts.netloc.startswith("["):
            address = ipaddress.IPv6Address(host)
            mapped = address.ipv4_mapped
            if address.scope_id is not None:
                return None
            return f"[{address.compressed}]" if mapped is None else f"[{_hex_groups(mapped)}]"
        if _ENDS_IN_A_NUMBER.search(host):
            return ipaddress.IPv4Address(host).compressed
    except ValueError:
        return None
    return host if _HOST.fullmatch(host) else None


def _hex_groups(mapped: ipaddress.IPv4Address) -> str:
    """Return an IPv4-mapped IPv6 address without the dots that other notations have."""
    return f"::ffff:{int(mapped) >> 16:x}:{int(mapped) & 0xFFFF:x}"


def _address(value: str) -> SplitResult | None:
    """Return the parts of an address, or None. Python's own error would quote its password."""
    try:
        parts = urlsplit(value)
        _ = parts.port  # checked only when it is read
        return parts
    except ValueError:
        return None
