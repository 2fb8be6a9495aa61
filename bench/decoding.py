"""What an engine's event costs until the service knows its text, in both dialects.

    python -m bench.decoding

Bytes as engines send them, one event in a packet, through the HTTP parser, the event parser and the
decoder. The best of many runs, in turn, so that both see the same machine.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from chat_api.engines.engine import Decoder, Event, EventReceiver
from chat_api.engines.exchange import Exchange
from chat_api.engines.openai_decoder import OpenAIDecoder
from chat_api.engines.samosachaat import SamosachaatDecoder

_EVENTS = 2000
_RUNS = 40
_WORDS = ("Tea", " is", " a", " warm", " drink", " with", " ginger", " and", " milk", ".")
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
# As llama.cpp sends it; the time changes once a second.
_CHUNK = (
    '{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"%s"}}],"created":%d,'
    '"id":"chatcmpl-xk4sFCz7RSsrjnVQ8vIKPPb3yTOqHr1y","model":"SmolLM2-135M-Instruct.Q4_1",'
    '"system_fingerprint":"b0-unknown","object":"chat.completion.chunk"}'
)
_DIALECTS: dict[str, tuple[Callable[[int], Decoder], Callable[[int], str]]] = {
    "samosachaat": (
        SamosachaatDecoder,
        lambda number: f'{{"token":"{_WORDS[number % len(_WORDS)]}","gpu":0}}',
    ),
    "openai": (
        OpenAIDecoder,
        lambda number: _CHUNK % (_WORDS[number % len(_WORDS)], 1_795_621_212 + number // 25),
    ),
}


class _Counter(EventReceiver):
    def __init__(self) -> None:
        self.count = 0

    def take(self, arrived: list[Event], /) -> None:
        self.count += sum(bool(event.text) for event in arrived)

    def take_token(self, _data: bytes, _text: str, /) -> None:
        self.count += 1


def _packets(text_of: Callable[[int], str]) -> list[bytes]:
    bodies = [f"data: {text_of(number)}\n\n".encode() for number in range(_EVENTS)]
    return [b"%x\r\n%b\r\n" % (len(body), body) for body in bodies]


def _microseconds(decoder: Decoder, packets: Sequence[bytes]) -> float:
    receiver = _Counter()
    exchange = Exchange(b"", decoder=decoder, receiver=receiver, max_idle_bytes=1_000_000)
    exchange.data_received(_HEAD)
    began = time.process_time()
    for packet in packets:
        exchange.data_received(packet)
    took = time.process_time() - began
    assert receiver.count == len(packets)
    exchange.ended.cancel()
    return took / len(packets) * 1e6


async def main() -> None:
    best: dict[str, float] = {}
    packets = {name: _packets(text_of) for name, (_, text_of) in _DIALECTS.items()}
    for _ in range(_RUNS):
        for name, (make, _text_of) in _DIALECTS.items():
            took = _microseconds(make(1_000_000), packets[name])
            best[name] = min(best.get(name, took), took)
    first = best["samosachaat"]
    for name, took in best.items():
        print(f"{name:12} {took:6.2f} µs an event, {took / first:.2f} × the first dialect's")


if __name__ == "__main__":
    asyncio.run(main())
