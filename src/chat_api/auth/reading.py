"""Bodies of other services, read up to a limit."""

import aiohttp


async def read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the body; nothing (and so no JSON) where it is longer than `limit` bytes."""
    body = bytearray()
    while len(body) <= limit and (chunk := await response.content.read(limit)):
        body += chunk
    return bytes(body) if len(body) <= limit else b""
