"""Reading the input for a title, and replacing a title that the user did not give."""

from dataclasses import dataclass

from chat_api.db.database import Database


@dataclass(frozen=True, slots=True)
class Opening:
    """The beginning of a conversation that has no title of its user's."""

    title: str
    question: str  # the first message
    answer: str


# Read the title, the first message and the answer, where this is the only complete answer that is
# shown in a conversation whose user gave it no title.
_READ_OPENING = """
SELECT c.title, question.content AS question, left(answer.content, $3) AS answer
FROM conversations c
JOIN messages answer ON answer.id = $2 AND answer.conversation_id = c.id
    AND answer.status = 'complete' AND answer.replaces IS NULL
CROSS JOIN LATERAL (
    SELECT content FROM messages
    WHERE conversation_id = c.id AND role = 'user' AND replaces IS NULL
    ORDER BY position LIMIT 1) question
WHERE c.id = $1 AND NOT c.title_given AND NOT EXISTS (
    SELECT FROM messages WHERE conversation_id = c.id AND id <> $2 AND replaces IS NULL
        AND role = 'assistant' AND status = 'complete')
"""

# Replace a title, unless the user has given one meanwhile. The order of the list stays.
_REPLACE_TITLE = """
UPDATE conversations SET title = $3 WHERE id = $1 AND NOT title_given AND title = $2
"""


async def read_opening(
    db: Database, conversation_id: str, message_id: str, *, chars: int
) -> Opening | None:
    """Return the opening, with so many characters of the answer; None if no title is needed."""
    row = await db.fetchrow(_READ_OPENING, conversation_id, message_id, chars)
    return None if row is None else Opening(row["title"], row["question"], row["answer"])


async def replace_title(db: Database, conversation_id: str, *, old: str, new: str) -> None:
    """Replace a title that the user did not give."""
    await db.fetch(_REPLACE_TITLE, conversation_id, old, new)
