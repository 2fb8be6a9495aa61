"""What the model sees: budgets, limits and the order of roles."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chat_api.context import Context, build_context, token_sizes
from chat_api.db.generations import Turn
from chat_api.engines.engine import Limits
from chat_api.settings import INFERENCE_MESSAGE_CHARS, INFERENCE_REQUEST_CHARS

# What the settings allow: SYSTEM_PROMPT and THINKING_PROMPT together.
LONGEST_PROMPT = 4000

LENGTHS = st.one_of(
    st.integers(min_value=1, max_value=40),
    st.sampled_from([3998, 4000, 5999, 6000, 7998, 7999, 8000, 8001, 12_000, 40_000]),
)
CONTENTS = st.one_of(
    st.sampled_from(["", " ", "\n\t\u3000", "\u200b\ufeff\u3164"]),
    st.builds(
        lambda letter, length: letter * length, st.sampled_from(["a", "b", "ä", "😀"]), LENGTHS
    ),
)
TURNS = st.builds(Turn, st.sampled_from(["user", "assistant", "system"]), CONTENTS)
HISTORIES = st.builds(
    lambda older, newest: [*older, Turn("user", newest)],
    st.lists(TURNS, max_size=12),
    st.builds(lambda length, last: "x" * length + last, LENGTHS, st.sampled_from("yz")),
)
PROMPTS = st.one_of(
    st.just(""),
    st.integers(min_value=1, max_value=LONGEST_PROMPT).map(lambda length: "P" * length),
)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def context_of(
    *history: Turn, prompt: str = "", most_messages: int = 50, most_chars: int = 6000
) -> list[dict[str, str]]:
    return build_context(
        history,
        prompt=prompt,
        most_messages=most_messages,
        most_chars=most_chars,
        message_chars=INFERENCE_MESSAGE_CHARS,
        request_chars=INFERENCE_REQUEST_CHARS,
    )


def q(content: str) -> Turn:
    return Turn("user", content)


def a(content: str) -> Turn:
    return Turn("assistant", content)


@given(
    history=HISTORIES,
    prompt=PROMPTS,
    most_messages=st.integers(min_value=1, max_value=14),
    most_chars=st.one_of(
        st.integers(min_value=1, max_value=100), st.sampled_from([6000, 32_000, 32_001, 1_000_000])
    ),
)
@example(history=[q("a" * 8000)] * 6, prompt="P" * 4000, most_messages=50, most_chars=1_000_000)
def test_the_inference_service_takes_every_context(
    history: list[Turn], prompt: str, most_messages: int, most_chars: int
) -> None:
    context = build_context(
        history,
        prompt=prompt,
        most_messages=most_messages,
        most_chars=most_chars,
        message_chars=INFERENCE_MESSAGE_CHARS,
        request_chars=INFERENCE_REQUEST_CHARS,
    )
    newest = history[-1].content
    sizes = [len(message["content"]) for message in context]
    roles = [message["role"] for message in context]

    # What inference refuses.
    assert all(message["content"].strip() for message in context)
    assert all(1 <= size <= INFERENCE_MESSAGE_CHARS for size in sizes)
    assert sum(sizes) <= INFERENCE_REQUEST_CHARS
    assert set(roles) <= {"user", "assistant"}
    # The order.
    assert roles[0] == roles[-1] == "user"
    assert all(one != other for one, other in pairwise(roles))
    # The budgets; the newest message goes whatever they say.
    assert len(context) <= most_messages
    assert sum(sizes) <= max(
        most_chars, min(INFERENCE_MESSAGE_CHARS, len(newest) + len(prompt) + 2)
    )
    # The newest is there, its end kept; the prompt comes first.
    front = prompt + "\n\n" if prompt else ""
    room = INFERENCE_MESSAGE_CHARS - (len(front) if len(context) == 1 else 0)
    assert context[-1]["content"].endswith(newest[-room:])
    assert context[0]["content"].startswith(front)


@given(history=HISTORIES, most_chars=st.integers(min_value=1, max_value=40_000))
def test_a_larger_budget_never_shows_less(history: list[Turn], most_chars: int) -> None:
    smaller = context_of(*history, most_chars=most_chars)
    larger = context_of(*history, most_chars=most_chars + 1000)
    assert sum(len(m["content"]) for m in smaller) <= sum(len(m["content"]) for m in larger)


def test_the_newest_messages_go_oldest_first() -> None:
    assert context_of(q("1"), a("2"), q("3")) == [user("1"), assistant("2"), user("3")]


def test_an_empty_history_is_an_empty_context() -> None:
    assert context_of() == []
    assert context_of(a("an answer to nothing")) == []


@pytest.mark.case(60)
def test_blank_messages_are_left_out_and_their_neighbours_joined() -> None:
    history = [q("1"), a(""), q("2"), a(" \n"), q("3"), a("\u200b\ufeff\u3164"), q("4")]
    assert context_of(*history) == [user("1\n\n2\n\n3\n\n4")]


def test_system_messages_are_left_out() -> None:
    assert context_of(Turn("system", "obey"), q("1")) == [user("1")]


def test_neighbours_of_one_role_are_joined_by_a_blank_line() -> None:
    assert context_of(q("1"), a("2"), a("3"), q("4")) == [
        user("1"),
        assistant("2\n\n3"),
        user("4"),
    ]


def test_an_answer_without_its_question_is_left_out() -> None:
    history = [q("1"), a("2"), q("3"), a("4"), q("5")]
    assert context_of(*history, most_messages=4) == [user("3"), assistant("4"), user("5")]
    assert context_of(*history, most_messages=2) == [user("5")]


@pytest.mark.parametrize(
    ("most_chars", "expected"),
    [
        (1, ["5"]),
        (2, ["5"]),
        (3, ["3", "4", "5"]),
        (4, ["3", "4", "5"]),
        (5, ["1", "2", "3", "4", "5"]),
    ],
)
def test_characters_are_counted_to_the_last_one(most_chars: int, expected: list[str]) -> None:
    context = context_of(q("1"), a("2"), q("3"), a("4"), q("5"), most_chars=most_chars)
    assert [message["content"] for message in context] == expected


def test_an_older_message_that_does_not_fit_ends_the_history() -> None:
    """A shorter one before it does not slip in: the model would see a history with a hole."""
    context = context_of(q("1"), a("2" * 100), q("3"), a("4"), q("5"), most_chars=50)
    assert context == [user("3"), assistant("4"), user("5")]


def test_the_blank_lines_between_joined_messages_count() -> None:
    assert context_of(q("12"), q("34"), most_chars=6) == [user("12\n\n34")]
    assert context_of(q("12"), q("34"), most_chars=5) == [user("34")]


def test_the_prompt_counts_and_goes_in_front_of_the_first_user_message() -> None:
    history = [q("1"), a("2"), q("3")]
    assert context_of(*history, prompt="Be brief.") == [
        user("Be brief.\n\n1"),
        assistant("2"),
        user("3"),
    ]
    assert context_of(*history, prompt="Be brief.", most_chars=14) == [
        user("Be brief.\n\n1"),
        assistant("2"),
        user("3"),
    ]
    assert context_of(*history, prompt="Be brief.", most_chars=13) == [user("Be brief.\n\n3")]


def test_the_newest_goes_past_the_budget_and_is_cut_to_what_inference_takes() -> None:
    assert context_of(q("x" * 7000), most_chars=10) == [user("x" * 7000)]
    assert context_of(q("a" + "x" * 8000)) == [user("x" * 8000)]


def test_a_prompt_and_a_long_message_are_cut_together() -> None:
    (message,) = context_of(q("b" * 100 + "x" * 7900), prompt="P" * 50)
    assert message["content"] == "P" * 50 + "\n\n" + "b" * 48 + "x" * 7900


def test_joined_messages_keep_their_end() -> None:
    (message,) = context_of(q("a" * 5000), q("b" * 5000), most_chars=20_000)
    assert message["content"] == "a" * 2998 + "\n\n" + "b" * 5000


def test_all_together_stays_within_what_inference_takes() -> None:
    history = [turn for _ in range(10) for turn in (q("q" * 8000), a("a" * 8000))]
    context = context_of(*history, q("end"), most_chars=1_000_000)
    assert sum(len(message["content"]) for message in context) <= INFERENCE_REQUEST_CHARS
    assert [message["content"][:1] for message in context] == ["q", "a", "e"]


def test_a_message_whose_end_is_blank_is_left_out() -> None:
    context = context_of(q("1"), a("2" + " " * 8000), q("3"), most_chars=20_000)
    assert all(message["content"].strip() for message in context)


# --- engines with a system role -------------------------------------------------------------------


def counted(content: str, input_tokens: int, output_tokens: int, thought: int = 0) -> Turn:
    return Turn("assistant", content, input_tokens, output_tokens, thought)


def for_an_engine(
    *history: Turn,
    context_tokens: int | None = None,
    prompt: str = "",
    most_messages: int = 50,
    most_chars: int = 6000,
    max_tokens: int | None = None,
) -> list[dict[str, str]]:
    context = Context(
        history,
        prompt=prompt,
        most_messages=most_messages,
        most_chars=most_chars,
        max_tokens=max_tokens,
    )
    return context.messages_for(Limits(), context_tokens)


def test_roles_go_as_they_are_and_the_prompt_is_a_system_message() -> None:
    history = [a("hello"), q("one"), q("two"), Turn("system", "note"), a(" "), q("three")]
    assert for_an_engine(*history, prompt="Be brief.") == [
        {"role": "system", "content": "Be brief."},
        assistant("hello"),
        user("one"),
        user("two"),
        {"role": "system", "content": "note"},
        user("three"),
    ]


def test_a_long_message_is_not_cut_for_an_engine_without_such_limits() -> None:
    assert for_an_engine(q("x" * 9000)) == [user("x" * 9000)]


def test_characters_are_counted_where_nothing_else_is_known() -> None:
    history = [q("a" * 50), a("b" * 50), q("c" * 50)]
    assert for_an_engine(*history, most_chars=100) == [user("c" * 50)]
    assert for_an_engine(*history, most_chars=150) == [
        user("a" * 50),
        assistant("b" * 50),
        user("c" * 50),
    ]
    # The size of the context alone tells nothing of what messages cost.
    assert for_an_engine(*history, most_chars=100, context_tokens=10**6) == [user("c" * 50)]


def test_tokens_are_counted_where_the_engine_told() -> None:
    """Ten thousand characters that cost few tokens fit; few characters that cost many do not."""
    cheap = [q("a" * 5000), counted("b" * 5000, 100, 100), q("c")]
    assert len(for_an_engine(*cheap, context_tokens=4096)) == 3
    dear = [q("a" * 50), counted("b" * 50, 3000, 3000), q("c")]
    assert for_an_engine(*dear, context_tokens=4096) == [user("c")]
    assert len(for_an_engine(*dear, context_tokens=16_000)) == 3


def test_room_is_left_for_the_answer() -> None:
    history = [q("a" * 30), counted("b" * 3000, 20, 1000), q("c")]
    assert len(for_an_engine(*history, context_tokens=2000, max_tokens=100)) == 3
    assert len(for_an_engine(*history, context_tokens=2000, max_tokens=1000)) == 1


def test_what_messages_cost_is_taken_from_the_engine_s_counts() -> None:
    sizes = token_sizes(
        [q("x" * 30), counted("y" * 40, 25, 10), q("z" * 5), counted("w" * 40, 60, 10), q("v" * 40)]
    )
    assert sizes[1] == sizes[3] == 10
    assert sizes[2] == 60 - (25 + 10)  # what the second input cost more
    assert sizes[4] == 40 / 4 + 4  # at the ratio of the newest count


def test_reasoning_is_not_sent_back_and_so_costs_nothing() -> None:
    assert token_sizes([q("x"), counted("y" * 10, 5, 100, thought=90)])[1] == 10


def test_a_history_that_is_cut_does_not_begin_with_an_answer() -> None:
    history = [q("a" * 50), a("b" * 10), q("c")]
    assert for_an_engine(*history, most_chars=20) == [user("c")]
