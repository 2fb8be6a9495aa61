"""OpenAI's client, and an answer that survives the server's death.

    python examples/openai_background.py http://127.0.0.1:8002 "$TOKEN" "Tell me about samosas."

The answer is written in the background. When the connection breaks, the script reconnects with the
number of the last event that it received, to any replica. Copy `answer`. It needs the package
openai.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, omit

MOST_WAITING_SECONDS = 10.0


async def answer(client: AsyncOpenAI, question: str) -> AsyncIterator[str]:
    """Ask; yield each piece of the text once, until the answer has ended.

    Raise openai.APIStatusError where a request is refused (4xx).
    """
    created = await client.responses.create(model="default", input=question, background=True)
    last, wait = -1, 0.5
    while True:
        try:
            events = await client.responses.retrieve(
                created.id, stream=True, starting_after=omit if last < 0 else last
            )
            async for event in events:
                last, wait = event.sequence_number, 0.5
                if event.type == "response.output_text.delta":
                    yield event.delta
                elif event.type in FINAL:
                    return
        except APIStatusError as error:
            if error.status_code < 500:
                raise
        except (APIConnectionError, OSError):
            pass  # the connection could not be made
        except Exception as error:  # the HTTP library's own, of any of its versions
            if "Protocol" not in type(error).__name__ and "Read" not in type(error).__name__:
                raise
        await asyncio.sleep(wait)
        wait = min(wait * 2, MOST_WAITING_SECONDS)


FINAL = {"response.completed", "response.incomplete", "response.failed"}


async def main(url: str, token: str, question: str) -> None:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=token, timeout=60) as client:
        async for text in answer(client, question):
            print(text, end="", flush=True)
    print()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
