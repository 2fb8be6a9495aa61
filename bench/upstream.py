"""The neighbours of what is measured, fast enough not to be the limit: inference and auth.

    python -m bench.upstream --port 9000

One process, plain asyncio protocols. `POST /auth/validate` knows every token: the user is named
like it. `GET …/models` lists one model. Any other POST streams, to `…/chat/completions` in OpenAI's
dialect: the last `rate=R tokens=N` in the request's body asks for N tokens
at R a second (the first at once), `rate=R tokens=N hold=S` for S seconds between the last token and
the end; the rest of the body is ignored. Each token's event carries the
time it was sent, `"sent"`, in seconds of the machine's monotonic clock.
"""

import argparse
import asyncio
import random
import re
import time

import uvloop

_ORDER = re.compile(rb"rate=([0-9.]+) tokens=([0-9]+)(?: hold=([0-9.]+))?")
_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
_TOKEN = re.compile(rb'"token": ?"([^"]*)"')
_WORDS = ("Tea", " is", " a", " warm", " drink", " with", " ginger", " and", " milk", ".")
_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_END = _chunk(b'data: {"done":true}\n\n') + b"0\r\n\r\n"
# As llama.cpp sends it.
_OPENAI = (
    '{"choices":[{"finish_reason":%s,"index":0,"delta":{%s}}],"created":%d,'
    '"id":"chatcmpl-xk4sFCz7RSsrjnVQ8vIKPPb3yTOqHr1y","model":"bench",'
    '"system_fingerprint":"b0-unknown","object":"chat.completion.chunk"}'
)
_MODELS = b'{"object":"list","data":[{"id":"bench","object":"model","owned_by":"bench"}]}'


class Upstream(asyncio.Protocol):
    """One connection; requests one after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._number = 0
        self._is_openai = False
        self._hold = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        if not end or len(body) < length:
            return
        self._received = body[length:]
        line = head.split(b"\r\n", 1)[0]
        self._is_openai = b"/chat/completions" in line
        if b"/auth/validate" in line:
            self._validate(body[:length])
        elif b"/models" in line:
            self._respond(_MODELS)
        else:
            self._generate(body[:length])

    def _validate(self, body: bytes) -> None:
        token = _TOKEN.search(body)
        name = token[1] if token else b"nobody"
        answer = (
            b'{"valid":true,"user":{"id":"%b","email":"%b@bench","name":"%b"},'
            b'"claims":{"sub":"%b","exp":%d}}' % (name, name, name, name, time.time() + 86_400)
        )
        self._respond(answer)

    def _respond(self, answer: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(answer), answer)
        )

    def _generate(self, body: bytes) -> None:
        orders = _ORDER.findall(body)
        rate, tokens, hold = orders[-1] if orders else (b"25", b"50", b"")
        self._pause = 1 / float(rate)
        self._left = int(tokens)
        self._hold = float(hold or 0)
        self._number = 0
        # Streams keep no step with each other.
        self._began = self._loop.time() - random.random() * self._pause
        self._transport.write(_STREAM)
        self._send()

    def _send(self) -> None:
        if self._left == 0:
            if self._hold:
                self._timer = self._loop.call_later(self._hold, self._send)
                self._hold = 0.0
            else:
                self._transport.write(self._end())
            return
        self._left -= 1
        word = _WORDS[self._number % len(_WORDS)]
        if self._is_openai:
            text = f"{word} sent={time.monotonic():.6f}"  # other fields would not be passed on
            event = _OPENAI % ("null", f'"content":"{text}"', time.time())
        else:
            event = f'{{"token":"{word}","gpu":0,"sent":{time.monotonic():.6f}}}'
        self._transport.write(_chunk(f"data: {event}\n\n".encode()))
        self._number += 1
        self._timer = self._loop.call_at(self._began + self._number * self._pause, self._send)

    def _end(self) -> bytes:
        if not self._is_openai:
            return _END
        last = _OPENAI % ('"stop"', "", time.time())
        return _chunk(f"data: {last}\n\ndata: [DONE]\n\n".encode()) + b"0\r\n\r\n"


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", port, backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))
