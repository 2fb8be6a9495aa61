"""Runs the OpenAI Agents SDK against the service; prints what it had as one JSON object."""

import asyncio
import json
import sys
from typing import Any

from agents import (
    Agent,
    ModelSettings,
    OpenAIConversationsSession,
    Runner,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

AGENT: Any = Agent(name="Cook", instructions="Be brief.", model="m")


async def main(url: str, token: str) -> dict[str, Any]:
    client: Any = AsyncOpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
    set_default_openai_client(client, use_for_tracing=False)
    set_tracing_disabled(True)
    said: dict[str, Any] = {}

    first = await Runner.run(AGENT, "One")
    said["run"] = first.final_output
    history = [*first.to_input_list(), {"role": "user", "content": "Two"}]
    said["history"] = (await Runner.run(AGENT, history)).final_output
    chained = await Runner.run(AGENT, "Three", previous_response_id=first.last_response_id)
    said["chained"] = chained.final_output
    thrifty = Agent(
        name="Cook",
        model="m",
        model_settings=ModelSettings(
            temperature=0.5,
            top_p=0.9,
            max_tokens=64,
            truncation="auto",
            parallel_tool_calls=False,
            metadata={"a": "b"},
            verbosity="low",
            response_include=["message.output_text.logprobs"],
            extra_body={"user": "u", "prompt_cache_key": "k", "safety_identifier": "s"},
        ),
    )
    said["settings"] = (await Runner.run(thrifty, "Four")).final_output

    streamed = Runner.run_streamed(AGENT, "Five")
    said["deltas"] = [
        event.data.delta
        async for event in streamed.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    said["streamed"] = streamed.final_output

    conversation = await client.conversations.create()
    for text in ("Six", "Seven"):
        await Runner.run(AGENT, text, conversation_id=conversation.id)
    listed = await client.conversations.items.list(conversation.id, order="asc")
    said["conversation"] = [item.content[0].text for item in listed.data]

    session = OpenAIConversationsSession()
    await Runner.run(AGENT, "Eight", session=session)
    for text in ("Nine", "Ten"):
        result = Runner.run_streamed(AGENT, text, session=session)
        async for _ in result.stream_events():
            pass
    said["session_id"] = session.session_id
    said["session"] = [_text(item) for item in await session.get_items()]
    said["popped"] = _text(await session.pop_item())
    said["rest"] = len(await session.get_items())
    other = OpenAIConversationsSession()
    await other.add_items([{"role": "user", "content": "Eleven"}])
    said["cleared_id"] = other.session_id
    await other.clear_session()
    return said


def _text(item: Any) -> str:
    content = item["content"]
    return str(content if isinstance(content, str) else content[0]["text"])


print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
