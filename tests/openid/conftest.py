"""An OpenID provider that runs here: node-oidc-provider, in a process of its own."""

import json
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest
from tests.support.keys import private_jwk

HERE = Path(__file__).parent
AUDIENCE = "https://chat.example.org/api"
CLIENTS = ("alice", "bob", "root")


class Provider:
    """The provider. Restarted with other keys, it has rotated them."""

    def __init__(self) -> None:
        with socket.socket() as claim:
            claim.bind(("127.0.0.1", 0))
            self._port: int = claim.getsockname()[1]
        self.issuer = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *keys: dict[str, Any], lifetime: int = 3600) -> "Provider":
        """Start with these private keys, the first of which signs."""
        assert (HERE / "node_modules").exists(), "run `make test` once, which installs the provider"
        self.stop()
        self._process = subprocess.Popen(
            ["node", str(HERE / "provider.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        configuration = {
            "port": self._port,
            "keys": keys,
            "audience": AUDIENCE,
            "clients": CLIENTS,
            "admins": ["root"],
            "lifetime": lifetime,
        }
        self._process.stdin.write(json.dumps(configuration).encode() + b"\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().startswith(self.issuer.encode())
        return self

    def stop(self) -> None:
        """End the provider."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None

    def token(self, client: str, audience: str = AUDIENCE) -> str:
        """Sign in as a client, and return its access token."""
        response = httpx2.post(
            f"{self.issuer}/token",
            data={"grant_type": "client_credentials", "scope": "chat", "resource": audience},
            auth=(client, client),
            trust_env=False,
        )
        assert response.status_code == 200, response.text
        token: str = response.json()["access_token"]
        return token


class NewKey(Protocol):
    def __call__(self, algorithm: str) -> dict[str, Any]: ...


@pytest.fixture(scope="session")
def new_key() -> NewKey:
    """Makes private keys for an algorithm, each with an id of its own."""
    return lambda algorithm: private_jwk(algorithm, uuid.uuid4().hex)


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    try:
        yield provider
    finally:
        provider.stop()
