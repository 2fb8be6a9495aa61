"""A client that shows every token exactly once.

    python examples/client.py http://127.0.0.1:8002 "$TOKEN" "Tell me about samosas."

It sends a message and shows the answer as it grows. When the connection breaks, it reconnects with
the id of the last event. Copy `answer`; the rest only calls it. It needs the package httpx2.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2

MOST_WAITING_SECONDS = 10.0


async def events(response: httpx2.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Yield the id and the JSON of each event of a response. The service ends lines with LF."""
    event_id = ""
    rest = ""
    async for text in response.aiter_text():
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            if line.startswith("id: "):
                event_id = line[4:]
            elif line.startswith("data: "):
                yield event_id, json.loads(line[6:])


async def answer(
    http: httpx2.AsyncClient, conversation_id: str, content: str
) -> AsyncIterator[str]:
    """Send a message; yield the whole text so far after each change, until it is saved.

    Raise httpx2.HTTPStatusError if the message is refused (4xx).
    """
    path = f"/api/conversations/{conversation_id}"
    key = str(uuid4())  # makes sending again harmless: the same key joins the same answer
    text, cursor, wait = "", "", 0.5
    while True:
        try:
            if cursor:
                request = http.stream("GET", f"{path}/stream", headers={"Last-Event-ID": cursor})
            else:
                request = http.stream(
                    "POST",
                    f"{path}/messages",
                    json={"content": content},
                    headers={"Idempotency-Key": key},
                )
            async with request as response:
                if response.status_code == 204:
                    return  # the answer has been read to its end
                if response.status_code < 500:
                    response.raise_for_status()
                if response.status_code == 200:
                    async for event_id, event in events(response):
                        cursor, wait = event_id, 0.5
                        if "token" in event:
                            text += event["token"]
                        elif "reset" in event:
                            text = ""
                        elif "snapshot" in event:
                            text = event["snapshot"]["content"]
                        elif "done" in event:
                            return
                        else:
                            continue
                        yield text
        except httpx2.TransportError:
            pass  # the connection broke, or could not be made
        # Closed without `done`, or unreachable: reconnect with the last received id.
        await asyncio.sleep(wait)
        wait = min(wait * 2, MOST_WAITING_SECONDS)


async def main(url: str, token: str, content: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    # A heartbeat comes every 15 seconds; a minute of silence means that the connection is dead.
    timeout = httpx2.Timeout(10, read=60)
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=timeout) as http:
        created = await http.post("/api/conversations")
        created.raise_for_status()
        shown = ""
        async for text in answer(http, created.json()["id"], content):
            if not text.startswith(shown):  # the answer began again
                print("\n---")
                shown = ""
            print(text[len(shown) :], end="", flush=True)
            shown = text
    print()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
