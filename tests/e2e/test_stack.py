"""The whole stack, as `make run` starts it: a real model answers, and PostgreSQL keeps it."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import asyncpg
import httpx2
import pytest
from playwright.async_api import expect
from tests.browser.chromium import running_chromium
from tests.support.service import COMMAND
from tests.support.stack import Stack, started

from chat_api.local.postgres import EmbeddedPostgres


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with started(COMMAND, tmp_path_factory.mktemp("a stack")) as running:
        yield running


def test_the_printed_lines_stream_an_answer_when_pasted(stack: Stack) -> None:
    result = stack.paste()
    assert result.startswith("retry: 1000\n\nid: ")
    assert '"done":true' in result
    assert '"status":"complete"' in result


async def test_the_capital_of_france_is_in_the_answer_and_in_the_database(stack: Stack) -> None:
    token = stack.lines(r"^TOKEN=(\S+)$")[0]
    headers = {"Authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{stack.ports[2]}/api/conversations"
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        conversation_id = (await http.post(url)).json()["id"]
        sent = {"content": "What is the capital of France?", "temperature": 0, "max_tokens": 40}
        async with http.stream("POST", f"{url}/{conversation_id}/messages", json=sent) as response:
            streamed = "".join([text async for text in response.aiter_text()])
    tokens = re.findall(r'^data: \{"token":"((?:[^"\\]|\\.)*)"', streamed, re.MULTILINE)
    assert len(tokens) > 3
    assert "Paris" in "".join(tokens)
    database = EmbeddedPostgres(stack.folder / ".samosachaat" / "postgres").url("samosachaat")
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    try:
        saved = await connection.fetchrow(
            "SELECT content, status, token_count FROM messages "
            "WHERE conversation_id = $1 AND role = 'assistant'",
            conversation_id,
        )
    finally:
        await connection.close()
    assert saved is not None
    assert "Paris" in saved["content"]
    assert (saved["status"], saved["token_count"]) == ("complete", len(tokens))


def test_the_page_is_the_first_thing_that_it_tells_of(stack: Stack) -> None:
    _, said = stack.said.split("\n\n", 1)
    assert said.startswith(f"Chat here: http://localhost:{stack.ports[3]}\n")


def test_the_page_signs_people_in_and_may_use_the_api(stack: Stack) -> None:
    origin = f"http://localhost:{stack.ports[3]}"
    with httpx2.Client(headers={"origin": origin}, timeout=30) as http:
        page = http.get(f"http://127.0.0.1:{stack.ports[3]}/")
        config = http.get(f"http://127.0.0.1:{stack.ports[3]}/config.json").json()
        signed_in = http.post(config["signIn"], json={"name": "chutney"})
        token = signed_in.json()["token"]
        bearer = {"authorization": f"Bearer {token}"}
        listed = http.get(f"{config['api']}/api/conversations", headers=bearer)
    assert page.headers["content-type"].startswith("text/html")
    for response in (signed_in, listed):
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == origin


async def test_a_person_chats_with_the_model_in_a_browser(stack: Stack) -> None:
    async with running_chromium() as browser:
        page = await browser.new_page()
        await page.goto(f"http://localhost:{stack.ports[3]}")
        await page.get_by_role("textbox", name="Your name").fill("Chutney")
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("textbox", name="Message").fill("What is the capital of France?")
        await page.keyboard.press("Enter")
        answer = page.get_by_role("article", name="samosaChaat")
        await expect(answer).to_contain_text(re.compile(r"\d+ tokens"), timeout=60_000)
        said = await answer.locator("p").first.inner_text()
        await page.reload()
        await expect(answer.locator("p").first).to_have_text(said)


def test_a_second_stack_over_the_same_folder_says_so(stack: Stack) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "chat_api.cli", "up"],
        cwd=stack.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert len((second.stdout + second.stderr).strip().splitlines()) == 1
    assert "Traceback" not in second.stderr


def test_the_stack_ends_in_order_and_leaves_nothing_running(stack: Stack) -> None:
    stack.process.send_signal(signal.SIGTERM)
    assert stack.process.wait(60) == 0
    for port in stack.ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1).close()
    assert not (stack.folder / ".samosachaat" / "postgres" / "data" / "postmaster.pid").exists()
