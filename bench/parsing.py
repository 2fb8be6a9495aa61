"""How long the parser of an engine's stream takes, by the way in which the bytes are cut.

    python -m bench.parsing

Each shape is measured at a size and at four times that size: linear work takes four times as long.
"""

import time
from collections.abc import Callable

from chat_api.sse import Parser

_SIZE = 250_000
_SHAPES: dict[str, Callable[[int], list[bytes]]] = {
    "one event a piece": lambda size: [b'data: {"token":"abc"}\n\n'] * (size // 23),
    "many events a piece": lambda size: [b'data: {"token":"abc"}\n\n' * (size // 23)],
    "one line, byte by byte": lambda size: [b"data: ", *([b"x"] * size)],
    "a long line, then single bytes": lambda size: [b"data: " + b"x" * size, *([b"x"] * 50_000)],
    "one event of many lines": lambda size: [b"data:\n"] * (size // 6),
    "many comments": lambda size: [b":\n"] * (size // 2),
    "line ends cut in two": lambda size: [b"data: x\r", b"\n\r", b"\n"] * (size // 11),
}


def _seconds(chunks: list[bytes]) -> float:
    parser = Parser(100_000_000)
    began = time.process_time()
    for chunk in chunks:
        for _ in parser.feed(chunk):
            pass
    return time.process_time() - began


def main() -> None:
    print(f"{'shape':32}{_SIZE:>12,} bytes{4 * _SIZE:>12,} bytes   ratio")
    for name, shape in _SHAPES.items():
        small, large = (min(_seconds(shape(size)) for _ in range(3)) for size in (_SIZE, 4 * _SIZE))
        print(f"{name:32}{small * 1000:>15.1f} ms{large * 1000:>15.1f} ms{large / small:>8.1f}")


if __name__ == "__main__":
    main()
