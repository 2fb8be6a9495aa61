"""Runs the Python example: prints each text that it would show, a JSON line each."""

import asyncio
import json
import sys
from pathlib import Path

import httpx2

sys.path.insert(0, str(Path(__file__).parents[2]))
from examples.client import answer


async def main(url: str, token: str, conversation_id: str, content: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
        async for text in answer(http, conversation_id, content):
            print(json.dumps({"text": text}), flush=True)


asyncio.run(main(*sys.argv[1:5]))
