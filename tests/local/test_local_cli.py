"""The command line, as far as it does not need the service."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.support.ports import free_ports

from chat_api.local.settings import LocalSettings
from chat_api.local.state import State
from chat_api.local.tokens import read_token

PORTS = ("LOCAL_API_PORT", "LOCAL_PAGE_PORT", "LOCAL_AUTH_PORT", "LOCAL_INFERENCE_PORT")


def run(*arguments: str, cwd: Path | None = None, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "chat_api.cli", *arguments],
        env=_environment(env),
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    ours = {name.upper() for name in LocalSettings.model_fields} | {"INTERNAL_API_KEY"}
    return {name: value for name, value in os.environ.items() if name not in ours} | dict(env)


def test_a_token_is_all_that_is_printed(tmp_path: Path) -> None:
    done = run("token", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    token = done.stdout.removesuffix("\n")
    claims = read_token(State(tmp_path / ".samosachaat").secret("auth"), token)
    assert claims["name"] == "samosa"
    assert claims["is_admin"] is False
    assert claims["exp"] - claims["iat"] == 24 * 3600


@pytest.mark.parametrize(("ttl", "seconds"), [("90m", 5400), ("3600", 3600), ("7D", 604_800)])
def test_a_token_is_for_whom_and_as_long_as_wanted(tmp_path: Path, ttl: str, seconds: int) -> None:
    state = tmp_path / "state"
    done = run("token", "--name", "Chütney", "--admin", "--ttl", ttl, LOCAL_DATA_DIR=str(state))
    claims = read_token(State(state).secret("auth"), done.stdout.strip())
    assert (claims["name"], claims["is_admin"]) == ("Chütney", True)
    assert claims["exp"] - claims["iat"] == seconds


@pytest.mark.parametrize("ttl", ["", "0", "-1", "soon", "1y", "1e9", "99999999999d"])
def test_a_strange_lifetime_is_refused(tmp_path: Path, ttl: str) -> None:
    done = run("token", "--ttl", ttl, LOCAL_DATA_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "24h" in done.stderr
    assert done.stdout == ""


def test_the_version_is_the_packages() -> None:
    assert version("samosachaat-chat-api") in run("--version").stdout


@pytest.mark.parametrize("command", ["serve", "up", "migrate", "token"])
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    assert command in run("--help").stdout
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"samosachaat {command}" in done.stdout


def test_serving_without_the_key_is_refused() -> None:
    done = run("serve")
    assert done.returncode == 2
    assert done.stderr.startswith("INTERNAL_API_KEY is not set.")


def test_migrating_no_database_says_so(tmp_path: Path) -> None:
    done = run("migrate", DATABASE_URL=f"postgresql+asyncpg://postgres@/x?host={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.startswith("The database cannot be migrated now: ")
    assert "Traceback" not in done.stderr


class TestUpRefuses:
    """`up`, with one sentence and nothing started."""

    @pytest.fixture
    def env(self, tmp_path: Path) -> dict[str, str]:
        names = ("LOCAL_API_PORT", "LOCAL_PAGE_PORT", "LOCAL_AUTH_PORT", "LOCAL_INFERENCE_PORT")
        ports = map(str, free_ports(len(names)))
        return {"LOCAL_DATA_DIR": str(tmp_path / "state"), **dict(zip(names, ports, strict=True))}

    def refusal(self, env: dict[str, str]) -> str:
        done = run("up", cwd=None, **env)
        assert done.returncode == 1
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.stderr

    @pytest.mark.parametrize("which", PORTS)
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_a_taken_port(self, env: dict[str, str], which: str, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as other:
            env[which] = str(other.getsockname()[1])
            refusal = self.refusal(env)
        assert f"Port {env[which]} is taken" in refusal
        assert f"set {which}" in refusal

    def test_one_port_twice(self, env: dict[str, str]) -> None:
        for which in ("LOCAL_AUTH_PORT", "LOCAL_PAGE_PORT"):
            refusal = self.refusal({**env, which: env["LOCAL_API_PORT"]})
            assert "a port of its own" in refusal
            assert f"{which}={env['LOCAL_API_PORT']}" in refusal

    def test_a_port_that_is_none(self, env: dict[str, str]) -> None:
        assert self.refusal({**env, "LOCAL_API_PORT": "99999"}).startswith("LOCAL_API_PORT: ")

    def test_a_folder_that_another_stack_has(self, env: dict[str, str]) -> None:
        with State(Path(env["LOCAL_DATA_DIR"])).locked():
            assert "already running" in self.refusal(env)

    def test_a_folder_that_cannot_be_one(self, env: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        refusal = self.refusal({**env, "LOCAL_DATA_DIR": str(tmp_path / "file")})
        assert "LOCAL_DATA_DIR" in refusal

    def test_an_unknown_model(self, env: dict[str, str]) -> None:
        assert "There is no model 'nope'" in self.refusal({**env, "LOCAL_MODEL": "nope"})
