"""`DATABASE_URL`: libpq's parameters, and those of them that the service supports.

The driver hands parameters that it does not know to the server, which refuses the connection, and
reads wrong values only when it connects. So every parameter is checked here, before the start.
"""

import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

_SCHEMES = frozenset({"postgresql+asyncpg", "postgresql", "postgres"})
_MOST_SECONDS = 86_400
_NO_ADDRESS = "must be an address such as postgresql+asyncpg://host/database"

# Taken by the driver as they are. Values are checked where a set of them is given.
_DRIVER: Mapping[str, frozenset[str] | None] = {
    "host": None,
    "port": None,
    "dbname": None,
    "database": None,
    "user": None,
    "password": None,
    "passfile": None,
    "sslmode": frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}),
    "sslcert": None,
    "sslkey": None,
    "sslpassword": None,
    "sslrootcert": None,
    "sslcrl": None,
    "sslnegotiation": frozenset({"postgres", "direct"}),
    "ssl_min_protocol_version": frozenset({"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}),
    "ssl_max_protocol_version": frozenset({"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}),
    "target_session_attrs": frozenset({"any", "primary", "read-write"}),
    "krbsrvname": None,
    "gsslib": frozenset({"gssapi", "sspi"}),
}
# Settings of the server, sent when a session starts.
_SERVER = frozenset(
    {"application_name", "options", "plan_cache_mode", "role", "search_path", "work_mem"}
)
# Accepted with these values (None: any), and without effect.
_WITHOUT_EFFECT: Mapping[str, frozenset[str] | None] = {
    "channel_binding": frozenset({"disable", "prefer"}),
    "fallback_application_name": None,
    "gssdelegation": frozenset({"0"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "jit": None,  # off: statements are short
    # Every statement has a time limit of its own, so that a dead connection is noticed.
    "keepalives": None,
    "keepalives_count": None,
    "keepalives_idle": None,
    "keepalives_interval": None,
    "load_balance_hosts": frozenset({"disable"}),
    "max_protocol_version": frozenset({"3.0", "3.2", "latest"}),
    "min_protocol_version": frozenset({"3.0"}),
    "sslcertmode": frozenset({"allow"}),
    "sslcompression": frozenset({"0"}),
    "sslsni": frozenset({"1"}),
    "tcp_user_timeout": None,
}
_UTF8 = frozenset({"auto", "utf8", "utf-8", "unicode"})
_CACHE_SIZES = ("statement_cache_size", "prepared_statement_cache_size")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.%]+\]|[^\s:\[\],]*)(?::(?P<port>[^:]*))?")


class AddressError(ValueError):
    """The address is not usable. The text is a sentence without the address's values."""


@dataclass(frozen=True, slots=True)
class Address:
    """The hosts of the database, and the options of its sessions."""

    dsn: str
    """The address as asyncpg reads it."""
    hosts: tuple[tuple[str, int], ...] = ()
    """Each host (or socket folder) and its port, if there are several."""
    target: str | None = None
    """Which hosts are acceptable: `target_session_attrs`."""
    connect_seconds: float | None = None
    server_settings: Mapping[str, str] = field(default_factory=dict)
    system_certificates: bool = False
    """TLS with the certificates that this machine trusts: `sslrootcert=system`."""
    transaction_pooler: bool = False
    """A pooler gives another session to each transaction: `pgbouncer=true`."""
    without_effect: tuple[str, ...] = ()
    """Names of accepted parameters that change nothing."""


def parse(url: str) -> Address:
    """Return the parts of an address as libpq or SQLAlchemy write it. Raise AddressError."""
    parts = _split(url)
    host_list = _check_authority(parts.netloc)
    given = _parameters(parts.query)
    without_effect = []
    for name, value in given.items():
        if name in _WITHOUT_EFFECT:
            _check_value(name, value, _WITHOUT_EFFECT[name])
            without_effect.append(name)
        elif name in _DRIVER:
            _check_value(name, value, _DRIVER[name])
        elif name not in _SERVER and name not in _READERS and "." not in name:
            raise AddressError(
                f"the parameter {_shown(name)} is not supported; settings of the server can be "
                "given as options=-c%20name%3Dvalue"
            )
    read: dict[str, Any] = {}
    for name, reader in _READERS.items():
        if name in given:
            read.update(reader(given[name], name))
    hosts = _hosts(given["host"], given.get("port"), encoded=False) if "host" in given else ()
    hosts = hosts or _hosts(host_list, given.get("port"), encoded=True)
    if not all(name.startswith("/") or is_host(name) for name, _ in hosts):
        raise AddressError("has a host that cannot be looked up")
    read["system_certificates"] = _check_tls(given)
    driver = {name: value for name, value in given.items() if name in _DRIVER}
    if read["system_certificates"]:
        del driver["sslrootcert"]
    query = urlencode(driver, quote_via=quote)
    dsn = f"postgresql://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")
    several = len(hosts) > 1
    return Address(
        dsn=dsn,
        hosts=hosts if several else (),
        # Of several hosts only the one that takes writes is of use.
        target=given.get("target_session_attrs", "read-write" if several else None),
        server_settings={
            name: value for name, value in given.items() if name in _SERVER or "." in name
        },
        without_effect=tuple(without_effect),
        **read,
    )


def _split(url: str) -> Any:
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise AddressError("must not contain blanks; write them as %20")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise AddressError(
            "must be an address such as postgresql+asyncpg://host/database"
        ) from None
    if parts.scheme not in _SCHEMES or not url[len(parts.scheme) :].startswith("://"):
        raise AddressError(_NO_ADDRESS)
    if "#" in url:
        raise AddressError("must not contain #; in a password, write it as %23")
    try:
        if "\0" in unquote(url, errors="strict"):
            raise AddressError("must not contain %00")
    except UnicodeDecodeError:
        raise AddressError("has %-escapes that are not UTF-8") from None
    return parts


def _check_authority(netloc: str) -> str:
    """Return the list of hosts in `user:password@hosts`."""
    login, at, hosts = netloc.rpartition("@")
    if "@" in login or (at and not login):
        raise AddressError("has an @ too many; in a user or password, write it as %40")
    return hosts


def _parameters(query: str) -> dict[str, str]:
    """Return a query's parameters that are not empty; SQLAlchemy's `ssl` becomes `sslmode`."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise AddressError("has a parameter without a value") from None
    return {("sslmode" if name == "ssl" else name): value for name, value in pairs if value}


def _shown(name: str) -> str:
    """Return a parameter's name for a sentence, or other words for an unusual one."""
    return name if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,40}", name) else "with an unusual name"


def _check_value(name: str, value: str, allowed: frozenset[str] | None) -> None:
    if allowed is None or value in allowed:
        return
    if name == "target_session_attrs" and value in {"standby", "prefer-standby", "read-only"}:
        raise AddressError("target_session_attrs names servers that take no writes")
    raise AddressError(f"the parameter {name} supports only {', '.join(sorted(allowed))}")


def is_host(name: str) -> bool:
    """Return whether a name can be looked up: no part is empty or too long (RFC 1035, 2.3.4)."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def _hosts(text: str, ports: str | None, *, encoded: bool) -> tuple[tuple[str, int], ...]:
    """Return each host of a comma-separated list with its port."""
    if not text:
        _ports(ports, 1)
        return ()
    found = [_HOST.fullmatch(part) for part in text.split(",")]
    if not encoded:
        names = text.split(",")
        if any(not name or (":" in name and not name.startswith("/")) for name in names):
            found = [_HOST.fullmatch(part) for part in names]
        else:
            return tuple(zip(names, _ports(ports, len(names)), strict=True))
    if any(part is None or (len(found) > 1 and not part["name"]) for part in found):
        raise AddressError("has a host that cannot be read")
    listed = [part for part in found if part is not None]
    own = _ports(ports, len(listed))
    return tuple(
        (
            unquote(part["name"]).strip("[]"),
            _port(part["port"]) if part["port"] else own[number],
        )
        for number, part in enumerate(listed)
    )


def _ports(text: str | None, hosts: int) -> list[int]:
    listed = [_port(port) for port in text.split(",")] if text else [5432]
    if len(listed) == 1:
        return listed * hosts
    if len(listed) != hosts:
        raise AddressError("has another number of ports than of hosts")
    return listed


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65_535:
        raise AddressError(
            "has a port that is not one of 1 to 65535; in a password, write : as %3A and / as %2F"
        )
    return int(text)


def _check_tls(given: Mapping[str, str]) -> bool:
    """Read the certificate files. Return whether the system's certificates are to be used."""
    mode = given.get("sslmode", "prefer")
    system = given.get("sslrootcert") == "system"
    if given.get("sslnegotiation") == "direct" and mode in {"disable", "allow", "prefer"}:
        raise AddressError("sslnegotiation=direct needs sslmode=require or more")
    if system and (mode != "verify-full" or "sslcert" in given or "sslcrl" in given):
        raise AddressError("sslrootcert=system needs sslmode=verify-full, without sslcert, sslcrl")
    if mode == "disable":
        return system
    if mode.startswith("verify-") and "sslrootcert" not in given and not _has_root_certificate():
        raise AddressError(f"sslmode={mode} needs sslrootcert")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    loads: dict[str, Callable[[str], object]] = {
        "sslrootcert": lambda path: None if system else context.load_verify_locations(cafile=path),
        "sslcrl": lambda path: context.load_verify_locations(cafile=path),
        "sslcert": lambda path: context.load_cert_chain(
            path, given.get("sslkey"), lambda: given.get("sslpassword", "")
        ),
    }
    for name, load in loads.items():
        if name in given:
            try:
                load(given[name])
            except OSError:  # ssl.SSLError is one
                raise AddressError(
                    f"the file that {name} names cannot be read as a certificate"
                ) from None
    return system


def _has_root_certificate() -> bool:
    """Return whether there is a root certificate at the driver's default path."""
    named = os.environ.get("PGSSLROOTCERT")
    return bool(named) or Path("~/.postgresql/root.crt").expanduser().exists()


def _connect_timeout(value: str, _name: str) -> dict[str, Any]:
    if not re.fullmatch(r"-?[0-9]{1,6}", value) or int(value) > _MOST_SECONDS:
        raise AddressError("connect_timeout must be a number of seconds")
    return {"connect_seconds": float(value)} if int(value) > 0 else {}


def _client_encoding(value: str, _name: str) -> dict[str, Any]:
    if value.strip("'\"").lower() not in _UTF8:
        raise AddressError("client_encoding must be UTF8")
    return {}


def _pgbouncer(value: str, name: str) -> dict[str, Any]:
    if value.lower() not in {"true", "false"}:
        raise AddressError(f"the parameter {name} supports only false, true")
    return {"transaction_pooler": True} if value.lower() == "true" else {}


def _cache_size(value: str, name: str) -> dict[str, Any]:
    if not re.fullmatch(r"[0-9]{1,6}", value):
        raise AddressError(f"the parameter {name} must be a number")
    return {"transaction_pooler": True} if int(value) == 0 else {}


_READERS: Mapping[str, Callable[[str, str], dict[str, Any]]] = {
    "connect_timeout": _connect_timeout,
    "client_encoding": _client_encoding,
    **dict.fromkeys(_CACHE_SIZES, _cache_size),
    "pgbouncer": _pgbouncer,
}
