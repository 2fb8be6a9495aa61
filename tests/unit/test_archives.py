"""ZIP archives, read while they arrive."""

import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from chat_api.conversations import archives
from chat_api.conversations.archives import Archive, NotAnArchive

FILES = {
    "export/": b"",
    "export/conversations.json": json.dumps([{"text": f"line {n}"} for n in range(9000)]).encode(),
    "export/image.png": bytes(range(256)) * 40,
    "export/empty.json": b"",
    "ü.json": b"{}",
}


class Unseekable(io.RawIOBase):
    """A pipe: the archive's headers are written before the sizes are known."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(cast("bytes", data))
        self.written += piece
        return len(piece)


def packed(
    *, method: int = zipfile.ZIP_DEFLATED, zip64: bool = False, piped: bool = False
) -> bytes:
    pipe, file = Unseekable(), io.BytesIO()
    with zipfile.ZipFile(cast("io.BytesIO", pipe) if piped else file, "w") as archive:
        for name, content in FILES.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=zip64) as member:
                member.write(content)
    return bytes(pipe.written) if piped else file.getvalue()


async def read(
    data: bytes,
    *,
    size: int = 65_536,
    most_bytes: int = 10**9,
    wanted: Callable[[str], bool] = lambda _: True,
    most_pieces: int | None = None,
) -> dict[str, bytes]:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    archive, found = Archive(pieces(), most_bytes=most_bytes), dict[str, bytes]()
    while (name := await archive.next()) is not None:
        found[name] = b""
        if wanted(name):
            taken = 0
            async for piece in archive.read():
                assert len(piece) <= archives.PIECE_BYTES
                found[name] += piece
                taken += 1
                if taken == most_pieces:
                    break
    return found


def archive_of(name: bytes, method: int, data: bytes, size: int, *, flags: int = 0) -> bytes:
    header = struct.pack(
        "<4s5H3I2H", b"PK\3\4", 20, flags, method, 0, 0, 0, len(data), size, len(name), 0
    )
    return header + name + data + b"PK\5\6" + bytes(18)


@pytest.mark.case(99)
@pytest.mark.parametrize("size", [1, 7, 65_536])
@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize(
    ("method", "piped"),
    [(zipfile.ZIP_DEFLATED, False), (zipfile.ZIP_STORED, False), (zipfile.ZIP_DEFLATED, True)],
)
async def test_an_archive_cut_anywhere_is_the_same_files(
    size: int, zip64: bool, method: int, piped: bool
) -> None:
    data = packed(method=method, zip64=zip64, piped=piped)
    assert await read(data, size=size) == FILES
    begun = await read(data, size=size, most_pieces=1)
    assert begun.keys() == FILES.keys(), "what is left of a file is passed over"
    assert await read(data, size=size, wanted=lambda _: False) == dict.fromkeys(FILES, b"")


def header(data: bytes, method: int, size: int, *, flags: int = 0, crc: int = 0) -> bytes:
    return struct.pack("<4s5H3I2H", b"PK\3\4", 20, flags, method, 0, 0, crc, len(data), size, 1, 0)


def deflated(size: int) -> bytes:
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    zeros = bytes(1_000_000)
    made = b"".join(compressor.compress(zeros) for _ in range(size // len(zeros)))
    return made + compressor.flush()


BOMB = deflated(100_000_000)
END = b"PK\5\6" + bytes(18)


@pytest.mark.case(99)
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (packed(method=zipfile.ZIP_STORED, piped=True), "damaged"),
        (packed(method=zipfile.ZIP_BZIP2), "unusual"),
        (header(b"x", 0, 1, flags=1) + b"ax" + END, "encrypted"),
        (header(b"x", 0, 1) + b"ax" + END, "damaged"),
        (header(b"x", 0, 2, crc=zlib.crc32(b"x")) + b"ax" + END, "damaged"),
        (header(b"\xff\xff", 8, 2) + b"a\xff\xff" + END, "damaged"),
        (header(BOMB, 8, 1) + b"a" + BOMB + END, "too much"),
        (header(b"", 8, 0, flags=8) + b"a" + BOMB + END, "too much"),
        (header(b"", 8, 0, flags=8) + b"b" + BOMB + END, "too much"),
        (packed() + packed(), ""),
        (header(b"", 0, 0) + b"a", "incomplete"),
        (b"PK", "incomplete"),
        (b"PK\3\4", "incomplete"),
        (b"PKxx", "damaged"),
    ],
)
async def test_what_cannot_be_read_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    if not reason:  # what follows the list of files is passed over
        assert await read(data) == FILES
        return
    tracemalloc.start()
    with pytest.raises(NotAnArchive, match=reason):
        await read(data, wanted=lambda name: name != "b")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30_000_000


@pytest.mark.case(99)
async def test_the_files_of_an_archive_are_bounded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = sum(map(len, FILES.values()))
    assert await read(packed(), most_bytes=size) == FILES
    with pytest.raises(NotAnArchive, match="too much"):
        await read(packed(), most_bytes=size - 1)
    monkeypatch.setattr(archives, "MOST_MEMBERS", len(FILES))
    assert await read(packed()) == FILES
    monkeypatch.setattr(archives, "MOST_MEMBERS", len(FILES) - 1)
    with pytest.raises(NotAnArchive, match="too many files"):
        await read(packed())


@pytest.mark.case(99)
@pytest.mark.parametrize("piped", [False, True])
async def test_no_damage_is_read_as_something_else(
    monkeypatch: pytest.MonkeyPatch, piped: bool
) -> None:
    """Every byte changed, every length: it is refused, or its files are the same."""
    monkeypatch.setitem(FILES, "export/conversations.json", b"[" + b"1," * 30 + b"1]")
    monkeypatch.setitem(FILES, "export/image.png", bytes(range(60)))
    whole = packed(piped=piped)
    members = whole.index(b"PK\1\2")
    damaged = [whole[:length] for length in range(members)]
    for place in range(members):
        damaged += [
            whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :]
            for change in (1, 8, 0x80, 0xFF)
        ]
    for data in damaged:
        try:
            found = await read(data)
        except NotAnArchive:
            continue
        assert set(found.values()) == set(FILES.values())
