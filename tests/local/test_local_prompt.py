"""Making a conversation fit: the newest goes first, and something always goes."""

import random

import pytest

from chat_api.local.prompt import Message, fit


async def count(text: str) -> int:
    """A tokenizer: two bytes a token."""
    return (len(text.encode()) + 1) // 2


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


async def test_what_fits_stays_as_it_is() -> None:
    messages = [user("hello"), assistant("hi"), user("how are you?")]
    assert await fit(messages, 1000, count) == messages


async def test_short_texts_are_not_counted() -> None:
    async def never(text: str) -> int:
        raise AssertionError(text)

    messages = [user("hello"), assistant("hi"), user("how are you?")]
    assert await fit(messages, 1000, never) == messages


async def test_the_oldest_are_left_out() -> None:
    messages = [user("a" * 2000), user("b" * 500), assistant("c" * 100), user("d" * 100)]
    assert await fit(messages, 1000, count) == messages[1:]
    assert await fit(messages, 300, count) == messages[3:]


async def test_the_newest_is_cut_to_its_end() -> None:
    (kept,) = await fit([assistant("b"), user("a" * 5000 + "the question?")], 500, count)
    assert kept.role == "user"
    assert kept.content.endswith("the question?")
    assert 300 < await count(kept.content) <= 500


async def test_neighbours_of_one_role_are_joined() -> None:
    messages = [assistant("x"), user("a"), user("b"), assistant("c"), assistant("d"), user("e")]
    assert await fit(messages, 1000, count) == [user("a\n\nb"), assistant("c\n\nd"), user("e")]


async def test_an_answer_alone_stays() -> None:
    assert await fit([assistant("x")], 1000, count) == [assistant("x")]


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_comes_something_goes_and_fits(seed: int) -> None:
    rng = random.Random(seed)
    messages = [
        Message(rng.choice(["user", "assistant"]), rng.choice("aé漢🥟") * rng.randint(1, 3000))
        for _ in range(rng.randint(1, 12))
    ]
    tokens = rng.randint(100, 6000)
    kept = await fit(messages, tokens, count)
    assert kept
    assert kept[-1].role == messages[-1].role
    assert kept[0].role == "user" or len(kept) == 1
    assert messages[-1].content.endswith(kept[-1].content[-1])
    assert sum([await count(message.content) for message in kept]) <= tokens
