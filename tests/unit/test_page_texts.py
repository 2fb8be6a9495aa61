"""The page's texts and the service's names belong together."""

import re
from pathlib import Path

from chat_api.errors import ApiError

TEXTS = Path(__file__).parents[2] / "web" / "src" / "texts"


def codes(error: type[ApiError] = ApiError) -> set[str]:
    """The names of this error and of all below it."""
    return {error.code}.union(*(codes(below) for below in error.__subclasses__()))


def test_every_refusal_has_a_sentence_in_other_languages() -> None:
    union = re.search(r"type Refusal =(.*?);", (TEXTS / "en.ts").read_text("utf-8"), re.DOTALL)
    assert union is not None
    assert codes() - set(re.findall(r'"(\w+)"', union[1])) == set()
