"""The state folder: keys that only their owner can read, and one stack at a time."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from chat_api.local.errors import LocalError
from chat_api.local.state import State


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_secret_is_made_once_and_is_its_owners_only(tmp_path: Path) -> None:
    state = State(tmp_path / "a" / "state")
    secret = state.secret("auth")
    assert len(secret) >= 64
    assert state.secret("auth") == State(tmp_path / "a" / "state").secret("auth") == secret
    assert state.secret("internal") != secret
    assert (state.root / "auth.key").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in state.root.iterdir()) == ["auth.key", "internal.key"]


def test_whoever_asks_at_the_same_time_gets_the_same_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        secrets = set(pool.map(lambda _: State(tmp_path / "s").secret("auth"), range(64)))
    assert len(secrets) == 1
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["auth.key"]


def test_a_damaged_key_is_reported(tmp_path: Path) -> None:
    (tmp_path / "auth.key").write_text("short")
    with pytest.raises(LocalError, match=r"auth\.key does not hold a key"):
        State(tmp_path).secret("auth")


def test_a_folder_is_for_one_stack(tmp_path: Path) -> None:
    with (
        State(tmp_path).locked(),
        pytest.raises(LocalError, match="already running"),
        State(tmp_path).locked(),
    ):
        pass
    with State(tmp_path).locked():
        pass


def test_what_is_not_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state = State(tmp_path / "file" / "state")
    for use in (state.check_space, lambda: state.secret("auth"), state.locked().__enter__):
        with pytest.raises(LocalError, match="cannot be used"):
            use()


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(10**12, 10**12, 312_000_000))
    with pytest.raises(LocalError, match="Only 312 MB are free"):
        State(tmp_path).check_space()


def test_a_log_begins_anew_and_the_last_one_is_kept(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.new_log("auth").write_text("first")
    path = state.new_log("auth")
    assert path.read_text() == ""
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_suffix(".log.old").read_text() == "first"
