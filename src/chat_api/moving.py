"""Moving one user from one cell to another, while the user's clients go on (docs/scaling.md).

    draining   here: nothing of the user's can be changed (503), answers that run may end
    frozen     here: none runs; the rows are copied in one transaction, and both sides compared
    moved      here: for good. Only now may the user's data be changed there, and the edge is told

Each step is a row in `frozen_users` of one of the two databases, so a move that is cut off anywhere
is taken up again by the same command, and at no time may both databases be written to.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from chat_api.db import moves
from chat_api.db.connecting import Connection, Connector
from chat_api.db.moves import Frozen
from chat_api.edge_map import EdgeMap

# Copying the rows of a user with a gigabyte takes minutes.
_STATEMENT_SECONDS = 3600.0
_SETTINGS = {"lock_timeout": "10s", "idle_in_transaction_session_timeout": "60s"}
_POLL_SECONDS = 0.1
# An answer that is asked to stop ends within seconds; if its process is gone, after the takeover.
_STOP_SECONDS = 60.0


class MoveRefused(Exception):
    """The user cannot be moved, or not now. The text is a sentence for an operator."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be moved where."""

    user_id: str
    source_url: str
    target_url: str
    cell: str
    """What the edge's map calls the target."""
    drain_seconds: float = 60.0
    """How long running answers may take to end before they are stopped."""
    grace_seconds: float = 60.0
    """How long the old rows can still be read, after the edge has been told."""


class Move:
    """One move; `say` is told of each step."""

    def __init__(
        self,
        plan: Plan,
        edge: EdgeMap | None,
        say: Callable[[str], None] = lambda _line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._edge = edge
        self._say = say
        self._clock = clock

    async def run(self) -> None:
        """Move the user, from wherever an earlier run was cut off.

        Raise MoveRefused, CopyDiffers, EdgeRefused or what the driver raises; the same command
        goes on after each.
        """
        if self._edge is not None:
            self._edge.check(self._plan.user_id, self._plan.cell)
        async with self._connected() as (source, target):
            frozen = await self._checked(source, target)
            if frozen is None or frozen.state != "moved":
                await self._drain(source)
                await self._copy(source, target)
                await moves.freeze(source, self._plan.user_id, "moved", self._plan.cell)
            # From here on the user's data is there.
            await moves.thaw(target, self._plan.user_id)
            self._say("the user's data is in the new cell")
            if self._edge is not None:
                await self._edge.put(self._plan.user_id, self._plan.cell)
                self._say(f"the edge sends the user to {self._plan.cell}")
            if await moves.has_rows(source, self._plan.user_id):
                await asyncio.sleep(self._plan.grace_seconds)
            await moves.erase(source, self._plan.user_id)
            self._say("the old rows are erased")

    async def abort(self) -> None:
        """Leave the user where they are. Raise MoveRefused where the move is past that."""
        user_id = self._plan.user_id
        async with self._connected() as (source, target):
            here = await moves.read_frozen(source, user_id)
            if here is None or here.state not in {"draining", "frozen"}:
                raise MoveRefused("There is no move that could be given up.")
            there = await moves.read_frozen(target, user_id)
            if there is not None and there.state == "arriving":
                await moves.erase(target, user_id)
                await moves.thaw(target, user_id)
            await moves.thaw(source, user_id)
            self._say("given up: the user stays in the old cell")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[Connection, Connection]]:
        """Open both databases, with the only right to move this user from the source."""
        source = await _connect(self._plan.source_url)
        try:
            target = await _connect(self._plan.target_url)
            try:
                await self._check_cells(source, target)
                yield source, target
            finally:
                await _close(target)
        finally:
            await _close(source)

    async def _check_cells(self, source: Connection, target: Connection) -> None:
        if not await moves.lock_move(source, self._plan.user_id):
            raise MoveRefused("Another process is moving this user.")
        if not await moves.lock_move(target, self._plan.user_id):
            raise MoveRefused("Another process is moving this user, or both cells are the same.")
        here, there = await moves.revision(source), await moves.revision(target)
        different = await moves.columns_that_differ(source, target)
        if here != there or different:
            raise MoveRefused(
                f"The schemas differ ({here}, {there}). Bring both cells to the same release."
            )

    async def _checked(self, source: Connection, target: Connection) -> Frozen | None:
        """Return how far an earlier run has come, or raise MoveRefused."""
        user_id = self._plan.user_id
        here = await moves.read_frozen(source, user_id)
        there = await moves.read_frozen(target, user_id)
        if here is not None:
            if here.state == "arriving":
                raise MoveRefused(
                    "The user is being moved to the cell that is named as the old one."
                )
            if here.cell != self._plan.cell:
                raise MoveRefused(f"The user has been moved, or is being moved, to {here.cell}.")
        if here is not None and here.state == "moved":
            if there is not None and there.state != "arriving":
                raise MoveRefused(f"The user has been moved on from {self._plan.cell}.")
            return here
        if there is not None and there.state in {"draining", "frozen"}:
            raise MoveRefused("The user is being moved from the cell that is named as the new one.")
        if there is None and await moves.has_rows(target, user_id):
            raise MoveRefused("The user has data in the new cell already.")
        if here is None and not await moves.has_rows(source, user_id):
            raise MoveRefused("The user has no data in the old cell.")
        return here

    async def _drain(self, source: Connection) -> None:
        """Freeze the user, and wait until no answer of theirs runs; stop those that take long."""
        user_id, cell = self._plan.user_id, self._plan.cell
        await moves.freeze(source, user_id, "draining", cell)
        self._say("frozen: changes are refused, running answers may end")
        if not await self._ended(source, self._plan.drain_seconds):
            await moves.stop_running(source, user_id)
            self._say("running answers are stopped")
            if not await self._ended(source, _STOP_SECONDS):
                raise MoveRefused(
                    "An answer does not end. Repeat the command, or give up with --abort."
                )
        await moves.freeze(source, user_id, "frozen", cell)

    async def _ended(self, source: Connection, seconds: float) -> bool:
        deadline = self._clock() + seconds
        while await moves.count_running(source, self._plan.user_id):
            if self._clock() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def _copy(self, source: Connection, target: Connection) -> None:
        """Copy all rows, and compare both sides once that is committed."""
        user_id = self._plan.user_id
        # Of an earlier run that was cut off, or of a time when the user lived there.
        await moves.freeze(target, user_id, "arriving", self._plan.cell)
        await moves.erase(target, user_id)
        counts = await moves.copy(source, target, user_id)
        here = await moves.digests(source, user_id, moves.LASTING)
        there = await moves.digests(target, user_id, moves.LASTING)
        if here != there:
            raise moves.CopyDiffers([table for table in here if here[table] != there[table]])
        self._say(
            f"copied and compared: {counts['conversations']} conversations, "
            f"{counts['messages']} messages"
        )


async def _connect(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    connector = Connector(url, timeout_seconds=_STATEMENT_SECONDS, settings=_SETTINGS)
    return await connector.connect()


async def _close(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    try:
        await connection.close(timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
