"""The edge's map from users to cells: a file of HAProxy, and its copy in running processes."""

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path

# What HAProxy reads as one word, in the file and on its socket.
_WORD = re.compile(r"[!-~]+")
_SPECIAL = re.compile(r"[;\\#\"']")
_ANSWER_SECONDS = 10.0


class EdgeRefused(Exception):
    """The map cannot be changed; the text is a sentence for an operator."""


class EdgeMap:
    """One map file, and the sockets of the HAProxy processes that have read it."""

    def __init__(self, path: Path, sockets: Sequence[str] = ()) -> None:
        """`sockets` are paths of Unix sockets, or host:port, of `stats socket … level admin`.

        `path` is written as in HAProxy's configuration, which knows its maps by that.
        """
        self._path = path
        self._sockets = tuple(sockets)

    @staticmethod
    def check(user_id: str, cell: str) -> None:
        """Raise EdgeRefused for names that a map cannot hold."""
        for name in (user_id, cell):
            if _WORD.fullmatch(name) is None or _SPECIAL.search(name):
                raise EdgeRefused(f"{name!r} cannot stand in a map: it must be one plain word.")

    async def put(self, user_id: str, cell: str) -> None:
        """Route the user to the cell, in the file and then in each process. Idempotent."""
        self.check(user_id, cell)
        await asyncio.to_thread(self._write, user_id, cell)
        for socket in self._sockets:
            await self._tell(socket, user_id, cell)

    def read(self) -> dict[str, str]:
        """Return the map in the file."""
        if not self._path.exists():
            return {}
        pairs = (line.split() for line in self._path.read_text("utf-8").splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) >= 2 and pair[0][0] != "#"}

    def _write(self, user_id: str, cell: str) -> None:
        """Replace the file at once: a reload never sees half of it."""
        lines = self._path.read_text("utf-8").splitlines() if self._path.exists() else []
        kept = [line for line in lines if line.split()[:1] != [user_id]]
        new = self._path.with_name(self._path.name + ".new")
        with new.open("w", encoding="utf-8") as file:
            file.write("\n".join([*kept, f"{user_id} {cell}"]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self._path.exists():
            found = self._path.stat()
            new.chmod(found.st_mode & 0o777)
            if os.geteuid() == 0:
                os.chown(new, found.st_uid, found.st_gid)
        new.replace(self._path)

    async def _tell(self, socket: str, user_id: str, cell: str) -> None:
        answer = await _ask(socket, f"set map {self._path} {user_id} {cell}")
        if "not found" in answer:
            answer = await _ask(socket, f"add map {self._path} {user_id} {cell}")
        if answer:
            raise EdgeRefused(f"HAProxy at {socket} says: {answer}")


async def _ask(socket: str, command: str) -> str:
    """Return the answer of HAProxy's runtime API to one command; empty where it is done."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            host, colon, port = socket.rpartition(":")
            if colon and "/" not in socket:
                reader, writer = await asyncio.open_connection(host, int(port))
            else:
                reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(command.encode() + b"\n")
                await writer.drain()
                return (await reader.read()).decode("utf-8", "replace").strip()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as error:
        raise EdgeRefused(f"HAProxy at {socket} does not answer: {error}") from None
