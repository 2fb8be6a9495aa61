"""Coverage-guided fuzzing of the SSE parser, with atheris: what `make fuzz` runs.

    python tests/fuzz/parser.py -max_total_time=60 .fuzz/parser

Any split of any bytes gives the same events, those of the standard; with a limit, what comes before
TooLong are the first of them, and no more is kept than the limit and one piece. The options are
libFuzzer's; what fails is written to a file, which as an argument repeats it.
"""

import contextlib
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

with atheris.instrument_imports():
    from tests.support.sse import cut, parsed, read_by_the_book

    from chat_api import sse

SEEDS = (
    b"data: a\r\n\r\ndata: b\n\ndata: c\r\r",
    b"\xef\xbb\xbfdata\ndata: \ndata:x\n\n: comment\nid: 1\nevent: e\nretry: 1\n\n",
    'data: {"token":"\u2028\u0085"}\n\ndata: [DONE]\n\n'.encode(),
)


def once(data: bytes) -> None:
    """One input: where to cut, the limit, and the stream."""
    source = atheris.FuzzedDataProvider(data)
    places = [source.ConsumeUInt(2) for _ in range(source.ConsumeIntInRange(0, 8))]
    limit = source.ConsumeIntInRange(1, 300)
    stream = source.ConsumeBytes(source.remaining_bytes())
    pieces = cut(stream, places)
    events = read_by_the_book(stream)
    assert parsed([stream]) == events
    assert parsed(pieces) == events
    assert parsed(stream[at : at + 1] for at in range(len(stream))) == events
    parser = sse.Parser(limit)
    found: list[bytes] = []
    with contextlib.suppress(sse.TooLong):
        for piece in pieces:
            found.extend(parser.feed(piece))
            assert len(parser._rest) + sum(map(len, parser._data)) <= limit + len(piece)
    assert found == events[: len(found)]


def main() -> None:
    """Fuzz, beginning with the seeds where the folder that is named is new."""
    folders = [Path(name) for name in sys.argv[1:] if not name.startswith("-")]
    for folder in folders:
        if not folder.exists():
            folder.mkdir(parents=True)
            for number, seed in enumerate(SEEDS):
                # What is cut and how comes from the end of the input.
                (folder / f"seed-{number}").write_bytes(seed + bytes(20))
    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
