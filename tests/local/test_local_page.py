"""The chat page of the local stack, on a port of its own."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.local.helpers import service
from tests.support.ports import free_ports

from chat_api import frontend
from chat_api.local import stack
from chat_api.local.errors import LocalError
from chat_api.local.page import create_page_app
from chat_api.local.settings import LocalSettings


@pytest.fixture(scope="module")
def page() -> Iterator[httpx2.Client]:
    assert frontend.is_built(), frontend.NOT_BUILT
    env = {"LOCAL_API_PORT": "4242", "LOCAL_AUTH_PORT": "4141"}
    with service("chat_api.local.page", env, health="/") as client:
        yield client


def test_the_page_knows_its_neighbours(page: httpx2.Client) -> None:
    assert page.get("/config.json").json() == {
        "api": "http://localhost:4242",
        "signIn": "http://localhost:4141/auth/sign-in",
    }


def test_it_may_talk_to_them_and_to_nobody_else(page: httpx2.Client) -> None:
    policy = page.get("/").headers["content-security-policy"]
    assert "connect-src 'self' http://localhost:4242 http://localhost:4141;" in policy


def test_a_conversations_address_is_the_page(page: httpx2.Client) -> None:
    assert page.get("/c/019aab5c").text == page.get("/").text


def test_there_is_nothing_else(page: httpx2.Client) -> None:
    for path in ("/nothing", "/assets/nothing.js", "/api/health", "/assets/%2e%2e/index.html"):
        assert page.get(path).status_code == 404
    assert page.post("/").status_code == 405


def test_without_a_built_page_it_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="make page"):
        create_page_app(LocalSettings(), tmp_path)


def test_a_stack_without_a_page_needs_no_port_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        api, auth, inference = free_ports(3)
        settings = LocalSettings(
            local_page_port=other.getsockname()[1],
            local_api_port=api,
            local_auth_port=auth,
            local_inference_port=inference,
        )
        with pytest.raises(LocalError, match="LOCAL_PAGE_PORT"):
            stack._require_ports(settings)
        monkeypatch.setattr(frontend, "is_built", lambda: False)
        stack._require_ports(settings)
    assert "Chat here" not in stack._how_to_use(settings, "a-token")


def test_the_page_may_come_from_its_own_port_and_from_where_the_caller_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FRONTEND_URL", "http://localhost:5173")
    assert stack._origins(LocalSettings(local_page_port=4300)) == [
        "http://localhost:4300",
        "http://127.0.0.1:4300",
        "http://localhost:5173",
    ]
