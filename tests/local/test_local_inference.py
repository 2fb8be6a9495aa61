"""The local inference service, with the real model."""

import concurrent.futures
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from tests.local.helpers import INTERNAL_KEY, is_alive, script, service
from tests.support.waiting import eventually_sync

from chat_api.local.models import ModelFolder

KEY = {"X-Internal-API-Key": INTERNAL_KEY}
PACKAGED = "SmolLM2-135M-Instruct.Q4_1"
FRANCE = {"role": "user", "content": "What is the capital of France?"}
# Hardly ever near its end: at this temperature nothing leads up to it.
LONG_ANSWER = {
    "messages": [{"role": "user", "content": "Tell a long story."}],
    "max_tokens": 400,
    "temperature": 2,
    "top_k": 0,
}


@pytest.fixture(scope="module")
def inference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """The service, with a second name for its model and a file that is none."""
    state = tmp_path_factory.mktemp("state")
    folder = state / "models"
    folder.mkdir()
    (folder / "second.gguf").symlink_to(ModelFolder(folder).find(PACKAGED).path)
    (folder / "broken.gguf").write_text("this is not a model")
    (folder / "missing.gguf").symlink_to(folder / "nothing")
    env = {"LOCAL_DATA_DIR": str(state), "LOCAL_CONTEXT_TOKENS": "512"}
    with service("chat_api.local.inference", env) as client:
        yield client


@pytest.fixture(autouse=True)
def _nothing_is_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "inference" in request.fixturenames:
        wait_for_answers(request.getfixturevalue("inference"), 0)


def wait_for_answers(client: httpx2.Client, number: int) -> None:
    """Until llama.cpp is working on exactly so many answers."""
    eventually_sync(
        lambda: client.get("/health").json()["answers"] == number, 30, what=f"{number} answers"
    )


def generate(client: httpx2.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a whole answer."""
    response = client.post("/generate", json=body, headers=KEY)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    return events_of(response.content)


def events_of(body: bytes) -> list[dict[str, Any]]:
    *blocks, rest = body.split(b"\n\n")
    assert rest == b""
    for block in blocks:
        assert block.startswith(b"data: ")
        assert b"\n" not in block
    return [json.loads(block.removeprefix(b"data: ")) for block in blocks]


def text_of(events: list[dict[str, Any]]) -> str:
    assert events[-1] == {"done": True}
    for event in events[:-1]:
        assert event.keys() == {"token", "gpu"}
        assert event["token"]
        assert event["gpu"] == 0
    return "".join(event["token"] for event in events[:-1])


@contextlib.contextmanager
def begun(client: httpx2.Client, body: dict[str, Any]) -> Iterator[Iterator[str]]:
    """An answer after its first token, as the lines that follow; leaving it disconnects."""
    with client.stream("POST", "/generate", json=body, headers=KEY) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["token"]
        yield lines


def test_it_answers_in_pieces(inference: httpx2.Client) -> None:
    body = {"messages": [FRANCE], "temperature": 0, "max_tokens": 30, "force_web_search": True}
    events = generate(inference, body)
    assert len(events) > 3
    assert "Paris" in text_of(events)


def test_it_knows_what_was_said_before(inference: httpx2.Client) -> None:
    messages = [
        {"role": "user", "content": "My name is Chutney."},
        {"role": "assistant", "content": "Nice to meet you, Chutney!"},
        {"role": "user", "content": "What is my name?"},
    ]
    answer = text_of(
        generate(inference, {"messages": messages, "temperature": 0, "max_tokens": 20})
    )
    assert "Chutney" in answer


def test_the_options_may_be_left_to_it(inference: httpx2.Client) -> None:
    body = {"messages": [FRANCE], "temperature": None, "max_tokens": 5, "top_k": None}
    assert len(generate(inference, body)) <= 6
    assert text_of(generate(inference, {"messages": [FRANCE], "max_tokens": 1, "top_k": 0}))


def test_characters_come_whole(inference: httpx2.Client) -> None:
    body = {
        "messages": [{"role": "user", "content": "🥟🥟🥟 नमस्ते 你好 Repeat these words and emoji."}],
        "temperature": 1.5,
        "max_tokens": 20,
    }
    assert "\ufffd" not in text_of(generate(inference, body))


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "samosa " * 1140}] * 3,
        [{"role": "user", "content": "🥟" * 8000}, {"role": "assistant", "content": "漢" * 8000}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2000,
    ],
    ids=["long messages", "many tokens", "many messages"],
)
def test_a_conversation_that_is_too_long_is_answered(
    inference: httpx2.Client, messages: list[dict[str, str]]
) -> None:
    body = {"messages": [*messages, FRANCE], "temperature": 0, "max_tokens": 12}
    assert text_of(generate(inference, body))


def test_a_question_that_is_too_long_is_answered(inference: httpx2.Client) -> None:
    content = "samosa " * 1130 + FRANCE["content"]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 4096}
    with begun(inference, body):
        pass


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": "hello"},
        {"messages": ["hello"]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [FRANCE, {"role": "assistant", "content": ""}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "user", "content": "a" * 8001}]},
        {"messages": [{"role": "user", "content": "a" * 8000}] * 4 + [FRANCE]},
        {"messages": [{"role": "system", "content": "obey"}]},
        {"messages": [{"role": "tool", "content": "obey"}]},
        {"messages": [{"content": "hello"}]},
        {"messages": [FRANCE], "temperature": -0.1},
        {"messages": [FRANCE], "temperature": 2.1},
        {"messages": [FRANCE], "temperature": "hot"},
        {"messages": [FRANCE], "max_tokens": 0},
        {"messages": [FRANCE], "max_tokens": 4097},
        {"messages": [FRANCE], "max_tokens": 1.5},
        {"messages": [FRANCE], "top_k": -1},
        {"messages": [FRANCE], "top_k": 201},
    ],
)
def test_what_the_contract_excludes_is_refused(
    inference: httpx2.Client, body: dict[str, Any]
) -> None:
    response = inference.post("/generate", json=body, headers=KEY)
    assert response.status_code == 400
    assert response.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}'],
)
def test_what_is_not_json_is_refused(inference: httpx2.Client, body: bytes) -> None:
    assert inference.post("/generate", content=body, headers=KEY).status_code == 400


def test_nothing_goes_without_the_key(inference: httpx2.Client) -> None:
    for headers in ({}, {"X-Internal-API-Key": "wrong"}):
        body = {"messages": [FRANCE], "max_tokens": 1}
        assert inference.post("/generate", json=body, headers=headers).status_code == 403
        assert inference.get("/models", headers=headers).status_code == 403
        swap = {"model_tag": "second"}
        assert inference.post("/models/swap", json=swap, headers=headers).status_code == 403


def test_several_answers_are_written_at_once(inference: httpx2.Client) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(begun(inference, LONG_ANSWER))
        wait_for_answers(inference, 3)
    wait_for_answers(inference, 0)


def test_more_answers_than_places_are_all_written(inference: httpx2.Client) -> None:
    body = {"messages": [FRANCE], "temperature": 0, "max_tokens": 8}
    with concurrent.futures.ThreadPoolExecutor(7) as pool:
        answers = pool.map(lambda _: text_of(generate(inference, body)), range(7))
    assert all("Paris" in answer for answer in answers)


def test_a_client_that_leaves_before_the_first_token_frees_its_place(
    inference: httpx2.Client,
) -> None:
    body = {"messages": [{"role": "user", "content": "words and words " * 120}], "max_tokens": 10}
    with inference.stream("POST", "/generate", json=body, headers=KEY) as response:
        assert response.status_code == 200
        wait_for_answers(inference, 1)
    wait_for_answers(inference, 0)


def test_the_models_are_listed(inference: httpx2.Client) -> None:
    body = inference.get("/models", headers=KEY).json()
    models = {model["model_tag"]: model for model in body["models"]}
    assert list(models) == [PACKAGED, "broken", "missing", "second"]
    for model in models.values():
        assert model.keys() == {"model_tag", "source", "path", "available", "loaded"}
        assert Path(model["path"]).name == f"{model['model_tag']}.gguf"
    assert not models["missing"]["available"]
    assert [tag for tag, model in models.items() if model["loaded"]] == [body["current_model"]]


def test_a_swap_lets_running_answers_finish(inference: httpx2.Client) -> None:
    before = inference.get("/models", headers=KEY).json()["current_model"]
    after = PACKAGED if before == "second" else "second"
    with begun(inference, {**LONG_ANSWER, "max_tokens": 40}) as lines:
        response = inference.post("/models/swap", json={"model_tag": after}, headers=KEY)
        assert response.status_code == 200
        assert response.json() == {"status": "ok", "current_model": after}
        assert inference.get("/models", headers=KEY).json()["current_model"] == after
        assert "Paris" in text_of(
            generate(inference, {"messages": [FRANCE], "temperature": 0, "max_tokens": 8})
        )
        assert json.loads([line for line in lines if line][-1].removeprefix("data: ")) == {
            "done": True
        }


def test_a_swap_to_the_same_model_changes_nothing(inference: httpx2.Client) -> None:
    current = inference.get("/models", headers=KEY).json()["current_model"]
    response = inference.post("/models/swap", json={"model_tag": current}, headers=KEY)
    assert response.json() == {"status": "ok", "current_model": current}


@pytest.mark.parametrize("tag", ["unknown", "missing", "../models/second", ""])
def test_a_swap_to_no_model_is_refused(inference: httpx2.Client, tag: str) -> None:
    response = inference.post("/models/swap", json={"model_tag": tag}, headers=KEY)
    assert response.status_code == 404
    assert PACKAGED in response.json()["detail"]


@pytest.mark.parametrize("body", [{}, {"model_tag": 7}, {"model_tag": None}])
def test_a_swap_needs_a_tag(inference: httpx2.Client, body: dict[str, Any]) -> None:
    assert inference.post("/models/swap", json=body, headers=KEY).status_code == 400


def test_a_failed_swap_leaves_the_old_model(inference: httpx2.Client) -> None:
    before = inference.get("/models", headers=KEY).json()["current_model"]
    response = inference.post("/models/swap", json={"model_tag": "broken"}, headers=KEY)
    assert response.status_code == 500
    assert "cannot be loaded" in response.json()["detail"]
    assert inference.get("/models", headers=KEY).json()["current_model"] == before
    assert text_of(generate(inference, {"messages": [FRANCE], "max_tokens": 3}))


_PARENT = """
import os, sys
os.execv(sys.executable, [sys.executable, "-m", "chat_api.local.inference", "--port", "0"])
"""


def test_a_killed_service_leaves_no_model_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("INTERNAL_API_KEY", INTERNAL_KEY)
    with script(_PARENT) as process:

        def children() -> list[psutil.Process]:
            found = psutil.Process(process.pid).children(recursive=True)
            return found if any("chat_api.local.llama" in c.cmdline() for c in found) else []

        descendants = eventually_sync(children, 30, what="the model's process")
        process.kill()
    pids = [descendant.pid for descendant in descendants]
    eventually_sync(lambda: not any(map(is_alive, pids)), 20, what="the end of them all")


def test_it_says_what_is_wrong_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("INTERNAL_API_KEY", INTERNAL_KEY)
    monkeypatch.setenv("LOCAL_MODEL", "unheard-of")
    with script(_PARENT.replace("import os, sys", "import os, sys; os.dup2(1, 2)")) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "There is no model 'unheard-of'" in output
    assert "Traceback" not in output
