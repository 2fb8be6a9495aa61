"""The chat page of the local stack, on a port of its own."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.local.helpers import service

from chat_api import frontend
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
