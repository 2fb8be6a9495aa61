"""The prompt of a generation: read from the database, cut to the budgets."""

from collections.abc import Sequence

from chat_api.context import Context
from chat_api.db import generations as db_generations
from chat_api.db.database import Connection
from chat_api.db.generations import Turn
from chat_api.db.sends import HistoryBounds
from chat_api.generation.options import Options


class Prompts:
    """Reads the history of a generation, and builds the messages for the model."""

    def __init__(
        self,
        *,
        system_prompt: str,
        thinking_prompt: str,
        max_messages: int,
        max_chars: int,
        max_message_chars: int,
    ) -> None:
        self._system_prompt = system_prompt
        self._thinking_prompt = thinking_prompt
        self._max_messages = max_messages
        self._max_chars = max_chars
        self.bounds = HistoryBounds(max_messages, max_message_chars)
        """How much of a history is read."""

    async def read_history(
        self, connection: Connection, conversation_id: str, question_id: str
    ) -> list[Turn]:
        """Return the newest messages up to the generation's question, oldest first."""
        return await db_generations.read_history(
            connection,
            conversation_id,
            question_id,
            limit=self.bounds.messages,
            chars=self.bounds.chars,
        )

    def build(self, history: Sequence[Turn], options: Options, instructions: str | None) -> Context:
        """Return the context from which the messages of the engine's request are built.

        Instructions of the generation, or else of the conversation, replace the system prompt.
        """
        if options.instructions is not None:
            instructions = options.instructions
        prompts = [self._system_prompt if instructions is None else instructions]
        if options.thinking_mode:
            prompts.append(self._thinking_prompt)
        return Context(
            history,
            prompt="\n\n".join(prompt for prompt in prompts if prompt),
            most_messages=self._max_messages,
            most_chars=self._max_chars,
            max_tokens=options.max_tokens,
        )
