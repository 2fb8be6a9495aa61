"""What `DATABASE_URL` may be: as libpq and SQLAlchemy write it."""

from pathlib import Path
from typing import Any

import pytest

from chat_api.database_url import AddressError, parse


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        ("postgresql+asyncpg://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("postgres://h/d", "postgresql://h/d"),
        ("postgresql://", "postgresql://"),
        ("postgresql:///d", "postgresql:///d"),
        ("postgresql+asyncpg://h/d?ssl=require", "postgresql://h/d?sslmode=require"),
        ("postgresql://h/d?sslmode=disable", "postgresql://h/d?sslmode=disable"),
        (
            "postgresql+asyncpg://u@/d?host=/tmp/a%20b&port=5432",
            "postgresql://u@/d?host=%2Ftmp%2Fa%20b&port=5432",
        ),
        ("postgresql+asyncpg://u:p%40%2F@h/d", "postgresql://u:p%40%2F@h/d"),
        ("postgresql://u@[::1]:5433/d", "postgresql://u@[::1]:5433/d"),
        ("postgresql://%2Fvar%2Frun/d", "postgresql://%2Fvar%2Frun/d"),
        ("postgresql://h/d?connect_timeout=3&keepalives=1&application_name=x", "postgresql://h/d"),
        ("postgresql://h/d?user=u&password=&dbname=e", "postgresql://h/d?user=u&dbname=e"),
    ],
)
def test_an_address_becomes_the_driver_s(url: str, dsn: str) -> None:
    assert parse(url).dsn == dsn


@pytest.mark.parametrize(
    ("parameters", "read"),
    [
        ("connect_timeout=3", {"connect_seconds": 3.0}),
        ("connect_timeout=0", {"connect_seconds": None}),
        ("application_name=mine", {"server_settings": {"application_name": "mine"}}),
        (
            "options=-c%20search_path%3Dchat&my.setting=1",
            {"server_settings": {"options": "-c search_path=chat", "my.setting": "1"}},
        ),
        ("client_encoding=UTF8", {"server_settings": {}}),
        ("pgbouncer=true", {"transaction_pooler": True}),
        ("pgbouncer=false", {"transaction_pooler": False}),
        ("prepared_statement_cache_size=0", {"transaction_pooler": True}),
        ("statement_cache_size=100", {"transaction_pooler": False}),
        ("sslmode=verify-full&sslrootcert=system", {"system_certificates": True}),
        ("target_session_attrs=primary", {"target": "primary"}),
        (
            "keepalives_idle=5&channel_binding=prefer&gssencmode=disable",
            {"without_effect": ("keepalives_idle", "channel_binding", "gssencmode")},
        ),
    ],
)
def test_parameters_of_libpq_are_taken(parameters: str, read: dict[str, Any]) -> None:
    address = parse(f"postgresql://h/d?{parameters}")
    assert {name: getattr(address, name) for name in read} == read


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u@a:1,b:2/d", (("a", 1), ("b", 2))),
        ("postgresql://u@a,b/d", (("a", 5432), ("b", 5432))),
        ("postgresql://u@a,b/d?port=7", (("a", 7), ("b", 7))),
        ("postgresql://u@/d?host=a,b&port=1,2", (("a", 1), ("b", 2))),
        ("postgresql://u@/d?host=/tmp/a,/tmp/b", (("/tmp/a", 5432), ("/tmp/b", 5432))),
        ("postgresql://u@[::1]:1,[::2]:2/d", (("::1", 1), ("::2", 2))),
        ("postgresql://u@%2Ftmp%2Fa,b:2/d", (("/tmp/a", 5432), ("b", 2))),
    ],
)
def test_of_several_hosts_the_one_that_takes_writes_is_wanted(
    url: str, hosts: tuple[tuple[str, int], ...]
) -> None:
    assert (parse(url).hosts, parse(url).target) == (hosts, "read-write")
    assert parse(url + ("&" if "?" in url else "?") + "target_session_attrs=any").target == "any"


WRONG = (
    ("", "such as"),
    ("sentinel", "such as"),
    ("postgresql:sentinel", "such as"),
    ("mysql://sentinel/d", "such as"),
    ("postgresql://u:sentinel@x@h/d", "%40"),
    ("postgresql://@h/d", "%40"),
    ("postgresql://u:senti#nel@h/d", "%23"),
    ("postgresql://u:senti/nel@h/d", "%2F"),
    ("postgresql://h:sentinel/d", "port"),
    ("postgresql://h:0/d", "port"),
    ("postgresql://h:70000/d", "port"),
    ("postgresql://a,,b/d", "host"),
    ("postgresql://sentinel..b/d", "host"),
    ("postgresql:///d?host=sentinel..b", "host"),
    (f"postgresql://a,{'h' * 64}/d", "host"),
    ("postgresql://u:sentinel%00@h/d", "%00"),
    ("postgresql://h/sentinel%00", "%00"),
    ("postgresql://h/d?password=sentinel%00", "%00"),
    ("postgresql://u:sentinel%ff@h/d", "UTF-8"),
    ("postgresql://a:1,b:2,c/d?port=1,2", "number of ports"),
    ("postgresql://h/d sentinel", "%20"),
    ("postgresql://h/d?sentinel", "without a value"),
)
WRONG_PARAMETERS = (
    ("sslmode=sentinel", "sslmode supports only allow, disable, prefer, require, verify-ca"),
    ("ssl=true", "sslmode supports only"),
    ("target_session_attrs=sentinel", "target_session_attrs supports only any, primary"),
    ("target_session_attrs=standby", "take no writes"),
    ("target_session_attrs=prefer-standby", "take no writes"),
    ("sslrootcert=/sentinel/root.crt&sslmode=verify-full", "sslrootcert"),
    ("sslcert=/sentinel/a.crt&sslkey=/sentinel/a.key", "sslcert"),
    ("sslmode=verify-full", "sslrootcert"),
    ("sslcrl=/sentinel", "sslcrl"),
    ("sslnegotiation=direct", "sslmode=require"),
    ("sslrootcert=system", "verify-full"),
    ("ssl_min_protocol_version=SSLv3", "ssl_min_protocol_version"),
    ("channel_binding=require", "channel_binding supports only disable, prefer"),
    ("gssencmode=require", "gssencmode"),
    ("client_encoding=LATIN1", "client_encoding must be UTF8"),
    ("connect_timeout=sentinel", "connect_timeout"),
    ("pgbouncer=sentinel", "pgbouncer"),
    ("statement_cache_size=sentinel", "statement_cache_size"),
    ("load_balance_hosts=random", "load_balance_hosts"),
    ("service=sentinel", "service is not supported"),
    ("hostaddr=127.0.0.1", "hostaddr is not supported"),
    ("requirepeer=sentinel", "requirepeer is not supported"),
    ("replication=database", "replication is not supported"),
    ("connection_limit=5", "connection_limit is not supported"),
    ("schema=sentinel", "schema is not supported"),
    ("pool_size=5", "pool_size is not supported"),
    ("async_fallback=true", "async_fallback is not supported"),
    ("sen%20tinel=1", "unusual name"),
)


@pytest.mark.case(54)
@pytest.mark.parametrize(
    ("url", "said"),
    [*WRONG, *((f"postgresql://h/d?{parameters}", said) for parameters, said in WRONG_PARAMETERS)],
)
def test_what_can_never_work_is_said_without_the_values(
    url: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    with pytest.raises(AddressError) as refused:
        parse(url)
    assert said in str(refused.value)
    assert "sentinel" not in str(refused.value)
    assert refused.value.__cause__ is None
