"""The settings: their defaults, and what an operator is told."""

import secrets
from typing import Any

import pytest

from chat_api.settings import Settings, SettingsError, load_settings
from chat_api.shared_keys import is_weak

KEY = "the-key-that-nobody-knows"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("INTERNAL_API_KEY", KEY)


def complaint(monkeypatch: pytest.MonkeyPatch, **env: str) -> list[str]:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.__cause__ is None
    return str(caught.value).splitlines()


CONTRACT: dict[str, Any] = {
    "database_url": "postgresql+asyncpg://localhost/samosachaat",
    "auth_service_url": "http://auth:8001",
    "inference_service_url": "http://inference:8000",
    "max_conversation_history": 50,
    "max_token_budget": 6000,
    "frontend_url": "http://localhost:3000",
    "log_level": "INFO",
    "system_prompt": "",
    "drain_seconds": 20,
    "heartbeat_seconds": 15,
    "migrate_on_start": True,
    "on_crash": "rerun",
}


@pytest.mark.parametrize(("name", "default"), list(CONTRACT.items()))
def test_a_default_is_the_contract_s(name: str, default: object) -> None:
    assert getattr(load_settings(), name) == default


def test_only_the_key_has_no_default() -> None:
    required = [name for name, field in Settings.model_fields.items() if field.is_required()]
    assert required == ["internal_api_key"]


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_says_what_it_is_for(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    assert "\n" not in description
    assert "|" not in description  # it stands in a table


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_read_from_its_variable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no setting takes is complained about under the variable's name."""
    texts = {"system_prompt", "thinking_prompt", "title_model"}
    if name == "frontend_url":
        monkeypatch.setenv("FRONTEND_URL", "https://a.example/ , https://b.example,,")
        assert load_settings().origins == ["https://a.example", "https://b.example"]
        return
    wrong = "x" * 5000 if name in texts else " sentinel\u2028"
    lines = complaint(monkeypatch, **{name.upper(): wrong})
    assert any(line.startswith(f"{name.upper()}: ") for line in lines)
    assert "sentinel" not in "".join(lines)
    assert "xxxx" not in "".join(lines)


def test_without_the_key_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTERNAL_API_KEY")
    (line,) = complaint(monkeypatch)
    assert line.startswith("INTERNAL_API_KEY is not set.")


WRONG = (
    ("INTERNAL_API_KEY", ""),
    ("INTERNAL_API_KEY", "sentinel\u00e4"),
    ("INTERNAL_API_KEY", "sentinel\n"),
    ("INTERNAL_API_KEY", " sentinel"),
    ("INTERNAL_API_KEY", "sentinel\r\nX-Admin: 1"),
    ("INTERNAL_API_KEY", "sentinel-of-16-c,"),
    ("INTERNAL_API_KEY", ",sentinel-of-16-c"),
    ("INTERNAL_API_KEY", "sentinel-2-short"[:15]),
    ("INTERNAL_API_KEY", "sentinel-of-16-c, sentinel"),
    ("INTERNAL_API_KEY", "please-change-me-sentinel"),
    ("INTERNAL_API_KEY", "your-internal-api-key-sentinel"),
    ("TRUSTED_PROXIES", "*"),
    ("TRUSTED_PROXIES", "sentinel"),
    ("TRUSTED_PROXIES", "10.0.0.1/8"),
    ("MESSAGES_PER_MINUTE", "-1"),
    ("MAX_CONNECTIONS", "0"),
    ("DATABASE_URL", ""),
    ("DATABASE_URL", "sentinel"),
    ("DATABASE_URL", "mysql://sentinel@host/db"),
    ("DATABASE_URL", "sqlite:///sentinel"),
    ("AUTH_SERVICE_URL", ""),
    ("AUTH_SERVICE_URL", "sentinel:8000"),
    ("AUTH_SERVICE_URL", "ftp://sentinel"),
    ("AUTH_SERVICE_URL", "http://"),
    ("INFERENCE_SERVICE_URL", "//sentinel"),
    ("INFERENCE_SERVICE_URL", "http:///sentinel"),
    ("MAX_CONVERSATION_HISTORY", "0"),
    ("MAX_CONVERSATION_HISTORY", "-1"),
    ("MAX_CONVERSATION_HISTORY", "1.5"),
    ("MAX_CONVERSATION_HISTORY", "sentinel"),
    ("MAX_TOKEN_BUDGET", "0"),
    ("MAX_TOKEN_BUDGET", ""),
    ("LOG_LEVEL", "sentinel"),
    ("ON_CRASH", "sentinel"),
    ("MIGRATE_ON_START", "sentinel"),
    ("DRAIN_SECONDS", "-1"),
    ("DRAIN_SECONDS", "nan"),
    ("DRAIN_SECONDS", "inf"),
    ("LEASE_SECONDS", "nan"),
    ("LEASE_SECONDS", "0.5"),
    ("TOKEN_TIMEOUT_SECONDS", "nan"),
    ("TOKEN_TIMEOUT_SECONDS", "inf"),
    ("TOKEN_TIMEOUT_SECONDS", "0"),
    ("LOG_FLUSH_SECONDS", "0"),
)


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_named_and_not_repeated(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = complaint(monkeypatch, **{name: value})
    assert line.startswith(f"{name}")
    assert "sentinel" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://user:sentinel\u2100@host/db"),
        ("DATABASE_URL", "postgresql://user:pass@[sentinel]/db"),
        ("DATABASE_URL", "postgresql://user:pass@host:sentinel/db"),
        ("AUTH_SERVICE_URL", "http://user:sentinel\u2100@host"),
        ("INFERENCE_SERVICE_URL", "http://host:sentinel"),
        ("INFERENCE_SERVICE_URL", "http://[sentinel]:8000"),
    ],
)
def test_an_address_that_cannot_be_read_is_not_repeated(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = complaint(monkeypatch, **{name: value})
    assert line.startswith(f"{name}: ")
    assert "sentinel" not in line


def test_all_wrong_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = complaint(monkeypatch, LOG_LEVEL="loud", ON_CRASH="cry", DATABASE_URL="x")
    assert sorted(line.split(":")[0] for line in lines) == ["DATABASE_URL", "LOG_LEVEL", "ON_CRASH"]


def test_prompts_that_do_not_fit_a_message_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = complaint(monkeypatch, SYSTEM_PROMPT="s" * 2000, THINKING_PROMPT="t" * 1999)
    assert "SYSTEM_PROMPT and THINKING_PROMPT" in line
    monkeypatch.setenv("THINKING_PROMPT", "t" * 1998)
    load_settings()


@pytest.mark.parametrize(
    "key",
    [
        "short",
        "a" * 40,
        "abababababababababababab",
        "1234567890123456",
        "0123456789abcdef",
        "0123456789ABCDEF0123456789ABCDEF",
        "abcdefghijklmnopqrstuvwxyz",
        "qwertyuiopasdfgh",
        "changemechangeme",
        "CHANGE-ME-IN-PRODUCTION",
        "replace-with-a-real-key",
        "<internal-api-key>",
        "${INTERNAL_API_KEY}",
        "your-secret-goes-here",
        "an-example-of-a-key-1234",
    ],
)
def test_a_key_that_could_be_guessed_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (key, f"{KEY},{key}", f"{key},{KEY}"):
        (line,) = complaint(monkeypatch, INTERNAL_API_KEY=value)
        assert line.startswith("INTERNAL_API_KEY: is too easy to guess; ")
        assert key not in line


def test_random_keys_are_strong_enough() -> None:
    for _ in range(200):
        for key in (secrets.token_hex(16), secrets.token_urlsafe(16), secrets.token_hex(32)):
            assert not is_weak(key)


def test_of_several_keys_the_first_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().internal_api_keys == (KEY,)
    monkeypatch.setenv("INTERNAL_API_KEY", f"a-new-key-for-everybody-93 , {KEY}")
    assert load_settings().internal_api_keys == ("a-new-key-for-everybody-93", KEY)


def test_networks_are_read_kindly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", " 10.0.0.0/8 ,192.0.2.1, fd00::/8,")
    assert load_settings().trusted_proxies == "10.0.0.0/8,192.0.2.1/32,fd00::/8"


def test_the_key_is_not_in_the_settings_text() -> None:
    settings = load_settings()
    assert KEY not in f"{settings!r}{settings}{settings.model_dump()}{settings.model_dump_json()}"
    assert settings.internal_api_key.get_secret_value() == KEY


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.log_level = "DEBUG"


def test_other_variables_are_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING_ELSE", "x")
    assert not hasattr(load_settings(), "something_else")


def test_log_level_and_addresses_are_read_kindly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "debug")
    monkeypatch.setenv("AUTH_SERVICE_URL", "https://auth.example/base/")
    assert load_settings().log_level == "DEBUG"
    assert load_settings().auth_service_url == "https://auth.example/base"


MAY_BE_NONE = {"drain_seconds", "auth_clock_skew_seconds"}


def absurd(name: str) -> list[str]:
    """Values that the setting cannot have meant."""
    field = Settings.model_fields[name]
    special = {
        "database_url": ["", "sqlite:///x", "mysql://h/d", "http://host/x", "postgresql://h:x/d"],
        "internal_api_key": ["", " ", "a,,b", "x" * 64, "clé-0123456789abcdef", "a\tb" * 16],
        "frontend_url": [
            *("abc", "null", "//host", "ftp://host", "http://", "https://", "http:///x", "*,null"),
            *("https://a.example/path", "https://a.example?x", "https://a.example#", "**"),
            *(
                "https://u:p@a.example",
                "https://*.example",
                "http://a b",
                "http://a:x",
                "http://a:-1",
            ),
            *("http://a:65536", "http://[::1", "http://[10.0.0.1]", "http://münchen.example"),
            *("https://a.example,*", "javascript:alert(1)", "file:///etc/passwd", "http://-a"),
            *("http://a\tb", "http://[fe80::1%25eth0]", "http://127.1", "http://0x7f.0.0.1"),
        ],
        "web_sign_in_url": ["/sign-in", "ftp://host", "http://", "http://u@h", "http://h?x#y"],
        "inference_api": ["", " ", "OpenAI", "a b", "9", "-"],
        "inference_api_key": [" ", " k", "clé", "a\tb", "a\r\nX-Admin: 1"],
        "engines_file": [" ", " x", "x ", "a\nb", "a\tb"],
        "default_model": [" ", " x", "a\nb", "x" * 101],
        "trusted_proxies": ["*", "10.0.0.0/33", "10.0.0.1/8", "host", "10.0.0.0-10.0.0.9"],
        "system_prompt": ["x" * 4001, "x" * 10**6],
        "thinking_prompt": ["x" * 3901, "x" * 10**6],
        "title_model": [" ", "a b", "ä", "x" * 101],
        "auth_issuer": [" ", " x", "a\nb", "x" * 1001],
        "auth_audience": [" ", "x ", "a\tb", "x" * 1001],
        "auth_jwks_url": [" ", "host", "ftp://h", "http://", "http://u:p@h", "http://h#f"],
        "auth_user_claim": ["", " ", "a\nb", "x" * 201],
        "auth_admin_claim": [" ", "=", "=x", "roles=", "a\nb", "x" * 401],
    }
    if name in special:
        return [*special[name], "\udcff"]
    if field.annotation is str:
        return [
            *("", " ", "host", "ftp://host", "http://", "http://u:p@h", "http://h/?q", "\udcff"),
            *("http://a..b", f"http://{'h' * 64}.example"),
        ]
    wrong = ["", " ", "x", "-1", "nan", "inf", "-inf", "1e999", "9" * 400, "1 2", "0x10", "\udcff"]
    if field.annotation is int:
        wrong += ["1.5", "1e1000000"]
    if field.annotation is float:
        wrong += ["1e-300", "1e300"]
        wrong += [] if name in MAY_BE_NONE else ["0"]
    return wrong


@pytest.mark.case(57)
@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_an_absurd_value_stops_the_start_with_a_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = absurd(name)
    if name in MAY_BE_NONE:
        values.remove("1e-300")  # as good as 0
    for value in values:
        try:
            lines = complaint(monkeypatch, **{name.upper(): value})
        except pytest.fail.Exception:
            raise AssertionError(f"{name.upper()}={value[:60]!r} is taken") from None
        assert all(line.startswith((f"{name.upper()}:", "SYSTEM_PROMPT")) for line in lines), lines
        assert len(value) < 9 or value not in "".join(lines)
        assert "Traceback" not in "".join(lines)


@pytest.mark.case(53)
@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("", []),
        (" , ,", []),
        ("*", ["*"]),
        (" * ,", ["*"]),
        ("HTTPS://Chat.Example.ORG", ["https://chat.example.org"]),
        ("https://a.example/", ["https://a.example"]),
        ("https://a.example:443,http://a.example:80", ["https://a.example", "http://a.example"]),
        ("http://a.example:8080, http://A.example:8080", ["http://a.example:8080"]),
        ("http://127.0.0.1:3000,http://[::1]:3000", ["http://127.0.0.1:3000", "http://[::1]:3000"]),
        (
            "http://[0:0::0:1], http://[::FFFF:127.0.0.1]",
            ["http://[::1]", "http://[::ffff:7f00:1]"],
        ),
        ("https://xn--mnchen-3ya.example", ["https://xn--mnchen-3ya.example"]),
        ("http://chat_web:3000", ["http://chat_web:3000"]),
    ],
)
def test_origins_are_written_as_browsers_write_them(
    value: str, origins: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRONTEND_URL", value)
    assert load_settings().origins == origins
