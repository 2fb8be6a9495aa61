"""Reading a ZIP archive as it arrives: nothing of it is kept, in memory or on a disk.

The list at an archive's end is not read: each member is preceded by a header of its own
(APPNOTE.TXT 6.3.10, sections 4.3.7 to 4.3.9).
"""

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator

# How much of a member is given at once.
PIECE_BYTES = 65_536
# JSON becomes five to twenty times smaller; a deflated bomb is a thousand times.
MOST_RATIO = 100
_SMALL_BYTES = 1_000_000
MOST_MEMBERS = 100_000

_HEADER = struct.Struct("<4s5H3I2H")
_MEMBER = b"PK\x03\x04"
# What follows the last member: the list of all members, or the end of an empty archive.
_AFTER_MEMBERS = (b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x08")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _SIZES_FOLLOW = 1, 8
_IN_ZIP64 = 0xFFFF_FFFF

_UNPACK = "Unpack it, and send the files in it."
_DAMAGED = f"The archive is damaged, or unusual. {_UNPACK}"
_CUT_OFF = "The archive is incomplete."


class NotAnArchive(ValueError):
    """The archive cannot be read; the text says why."""


class Archive:
    """Takes an archive in pieces, and gives the members and their contents in turn."""

    def __init__(self, pieces: AsyncIterator[bytes], *, most_bytes: int) -> None:
        """All members together may have `most_bytes`."""
        self._pieces = pieces
        self._most_bytes = most_bytes
        self._waiting = bytearray()
        self._taken = 0  # bytes of the archive
        self._given = 0  # bytes of its members
        self._members = 0
        self._skipped: _Member | None = None
        self._contents: AsyncIterator[bytes] | None = None

    async def next(self) -> str | None:
        """Return the name of the next member, with its folders; None at the end.

        Raise NotAnArchive. What is left of the member before is passed over.
        """
        await self._pass_over()
        signature = await self._peek(4)
        if signature in _AFTER_MEMBERS:
            self._waiting.clear()
            async for _ in self._pieces:  # a client may not read before it has sent everything
                pass
            return None
        if signature != _MEMBER:
            raise NotAnArchive(_CUT_OFF if len(signature) < 4 else _DAMAGED)
        _, _, flags, method, _, _, crc, packed, size, of_name, of_extra = _HEADER.unpack(
            await self._exactly(_HEADER.size)
        )
        name = (await self._exactly(of_name)).decode("utf-8", "replace")
        extra = await self._exactly(of_extra)
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise NotAnArchive(f"The archive has too many files. {_UNPACK}")
        if flags & _ENCRYPTED:
            raise NotAnArchive(f"The archive is encrypted. {_UNPACK}")
        if _IN_ZIP64 in (packed, size):
            size, packed = _sizes_of_zip64(extra, size, packed)
        self._skipped = _Member(method, packed, crc, size, bool(flags & _SIZES_FOLLOW))
        return name

    def read(self) -> AsyncIterator[bytes]:
        """Return the contents of the member, in pieces that raise NotAnArchive. Call it once."""
        member, self._skipped = self._skipped, None
        assert member is not None  # noqa: S101  # `next` has returned its name
        self._contents = self._read(member)
        return self._contents

    async def _pass_over(self) -> None:
        member, self._skipped = self._skipped, None
        if member is not None and not member.sizes_follow:
            async for _ in self._stored(member):
                await asyncio.sleep(0)
        elif member is not None:
            self._contents = self._read(member)
        contents, self._contents = self._contents, None
        if contents is not None:
            async for _ in contents:
                pass

    async def _read(self, member: "_Member") -> AsyncIterator[bytes]:
        if member.method == _DEFLATED:
            contents = self._inflated(member)
        elif member.method == _STORED:
            contents = self._stored(member)
        else:
            raise NotAnArchive(f"The archive is compressed in an unusual way. {_UNPACK}")
        crc = size = 0
        async for piece in contents:
            crc = zlib.crc32(piece, crc)
            size += len(piece)
            self._count(len(piece))
            yield piece
            await asyncio.sleep(0)
        if member.sizes_follow:
            await self._take_sizes(crc, member.packed, size)
        elif (crc, size) != (member.crc, member.size):
            raise NotAnArchive(_DAMAGED)

    def _count(self, size: int) -> None:
        """Count contents before they are given on. Raise NotAnArchive for a bomb."""
        self._given += size
        if self._given > min(self._most_bytes, MOST_RATIO * self._taken + _SMALL_BYTES):
            raise NotAnArchive(f"The archive contains too much. {_UNPACK}")

    async def _stored(self, member: "_Member") -> AsyncIterator[bytes]:
        left = member.packed
        while left:
            piece = await self._some(left)
            left -= len(piece)
            yield piece

    async def _inflated(self, member: "_Member") -> AsyncIterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        taken, rest, is_hungry = 0, b"", True
        try:
            while not inflater.eof:
                if is_hungry:
                    most = PIECE_BYTES if member.sizes_follow else member.packed - taken
                    rest = await self._some(most)
                    taken += len(rest)
                piece = inflater.decompress(rest, PIECE_BYTES)
                rest = inflater.unconsumed_tail
                is_hungry = not rest and len(piece) < PIECE_BYTES
                yield piece
        except zlib.error:
            raise NotAnArchive(_DAMAGED) from None
        self._waiting[:0] = inflater.unused_data
        taken -= len(inflater.unused_data)
        if not member.sizes_follow and taken != member.packed:
            raise NotAnArchive(_DAMAGED)
        member.packed = taken

    async def _take_sizes(self, crc: int, packed: int, size: int) -> None:
        """Pass over what follows a member whose sizes its header does not have."""
        following = await self._peek(24)
        for signature in (b"PK\x07\x08", b""):
            for form in ("<IQQ", "<III"):
                try:
                    expected = signature + struct.pack(form, crc, packed, size)
                except struct.error:  # larger than the older form can say
                    continue
                if following.startswith(expected):
                    del self._waiting[: len(expected)]
                    return
        raise NotAnArchive(_DAMAGED)

    async def _peek(self, size: int) -> bytes:
        """Return the next bytes without taking them; fewer at the end."""
        while len(self._waiting) < size:
            piece = await anext(self._pieces, None)
            if piece is None:
                break
            self._taken += len(piece)
            self._waiting += piece
        return bytes(self._waiting[:size])

    async def _exactly(self, size: int) -> bytes:
        taken = await self._peek(size)
        if len(taken) < size:
            raise NotAnArchive(_CUT_OFF)
        del self._waiting[:size]
        return taken

    async def _some(self, most: int) -> bytes:
        """Take at least one byte and at most `most`."""
        if most <= 0:
            raise NotAnArchive(_DAMAGED)
        await self._peek(1)
        taken = bytes(self._waiting[: min(most, PIECE_BYTES)])
        if not taken:
            raise NotAnArchive(_CUT_OFF)
        del self._waiting[: len(taken)]
        return taken


class _Member:
    """What the header of a member says of it; `packed` is its size in the archive."""

    __slots__ = ("crc", "method", "packed", "size", "sizes_follow")

    def __init__(self, method: int, packed: int, crc: int, size: int, sizes_follow: bool) -> None:
        self.method = method
        self.packed = packed
        self.crc = crc
        self.size = size
        self.sizes_follow = sizes_follow


def _sizes_of_zip64(extra: bytes, size: int, packed: int) -> tuple[int, int]:
    """Return both sizes, each from the extra field (section 4.5.3) if the header has no room."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind != 1:
            continue
        large = [value for (value,) in struct.iter_unpack("<Q", field[: len(field) // 8 * 8])]
        if size == _IN_ZIP64 and large:
            size = large.pop(0)
        if packed == _IN_ZIP64 and large:
            packed = large.pop(0)
        break
    return size, packed
