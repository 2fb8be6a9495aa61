"""Moving a user's rows between two databases: nothing lost or doubled, wherever it is cut off."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.support.database import Database, Databases
from tests.support.waiting import eventually
from tests.unit.world import opened

from chat_api.db import erasure, expiry, limits, moves
from chat_api.db.schema import TABLES
from chat_api.edge_map import EdgeMap
from chat_api.errors import UserMoving
from chat_api.moving import Move, MoveRefused, Plan

USER = "user-1"
NEIGHBOUR = "user-2"
# Everything that a user can have: versions of messages, what a dialect keeps, usage, changes.
_ROWS = """
INSERT INTO conversations (id, user_id, title, title_given, model_tag, is_favorited, created_at,
    updated_at, instructions, options, tags, metadata)
SELECT gen_random_uuid(), $1, 'Title ' || n, true, 'default', n = 1, now(), now(), 'Be brief',
    '{"top_p": 0.5}', '{a,b}', '{"k": "v"}' FROM generate_series(1, 60) AS n;
INSERT INTO messages (id, conversation_id, parent_id, position, version, replaces, role, content,
    status, model_tag, reasoning, input_tokens, output_tokens)
SELECT md5(c.id::text || 'q')::uuid, c.id, c.id, 0, 1, NULL, 'user',
    E'Question\\n\\t\\\\ ü ' || c.title, 'complete', 'default', NULL, NULL, NULL
FROM conversations c WHERE c.user_id = $1;
INSERT INTO messages (id, conversation_id, parent_id, position, version, replaces, role, content,
    status, model_tag, reasoning, input_tokens, output_tokens)
SELECT a.id, c.id, md5(c.id::text || 'q')::uuid, 1, n, CASE WHEN n = 1 THEN a.id END,
    'assistant', repeat('Answer ', 50), 'complete', 'default', 'Thought', 3, 4
FROM conversations c CROSS JOIN generate_series(1, 2) AS n
CROSS JOIN LATERAL (SELECT md5(c.id::text || n)::uuid AS id) AS a
WHERE c.user_id = $1;
INSERT INTO generations (message_id, conversation_id, question_id, options, trace_id, owner,
    lease_until, user_id, ended_at, status, last_event, done)
SELECT m.id, m.conversation_id, m.parent_id, '{}', 'trace', gen_random_uuid(), now(), $1, now(),
    'complete', 3, '{}'
FROM messages m JOIN conversations c ON c.id = m.conversation_id
WHERE c.user_id = $1 AND m.version = 2 AND c.title = 'Title 1';
INSERT INTO event_log (message_id, attempt, first_event, last_event, events)
SELECT message_id, 1, 0, 3, 'events' FROM generations WHERE user_id = $1;
INSERT INTO idempotency_keys (user_id, key, fingerprint, conversation_id, message_id)
SELECT $1, 'key', '\\x00'::bytea, conversation_id, message_id FROM generations WHERE user_id = $1;
INSERT INTO responses (message_id, user_id, echo, is_background, fingerprint)
SELECT message_id, $1, '{}', false, '\\x01'::bytea FROM generations WHERE user_id = $1;
INSERT INTO usage_ledger VALUES ($1, '2026-01-02', 'default', 'complete', 7, 70, 700, 1);
INSERT INTO message_quotas (user_id, began, sent) VALUES ($1, now(), 5);
INSERT INTO user_limits (user_id, tokens_per_day) VALUES ($1, 1000)
"""


class Cells:
    """Two databases, and a user in the first of them."""

    def __init__(self, source: str, target: str, edge: EdgeMap) -> None:
        self.source = Database(source)
        self.target = Database(target)
        self.edge = edge
        self.lines: list[str] = []

    def move(self, **changes: Any) -> Move:
        plan = {
            "user_id": USER,
            "source_url": self.source.url,
            "target_url": self.target.url,
            "cell": "two",
            "drain_seconds": 0.1,
            "grace_seconds": 0,
        }
        return Move(Plan(**{**plan, **changes}), self.edge, self.lines.append)

    def back(self) -> Move:
        return self.move(source_url=self.target.url, target_url=self.source.url, cell="one")

    async def contents(self, database: Database, user: str = USER) -> dict[str, tuple[int, str]]:
        connection = await database.connect()
        try:
            tables = [name for name in moves.COPIED if name not in {"changes", "change_counters"}]
            return await moves.digests(connection, user, tables)
        finally:
            await connection.close()

    async def writable(self) -> list[str]:
        """The cells in which the user's data can be changed."""
        found = []
        for name, database in (("source", self.source), ("target", self.target)):
            connection = await database.connect()
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(
                    "INSERT INTO conversations (id, user_id, title, title_given, model_tag) "
                    "VALUES (gen_random_uuid(), $1, 'New', true, 'default')",
                    USER,
                )
                found.append(name)
            except asyncpg.LockNotAvailableError:
                pass
            finally:
                await transaction.rollback()
                await connection.close()
        return found


@pytest.fixture
async def cells(databases: Databases, tmp_path: Path) -> Cells:
    made = Cells(databases.migrated(), databases.migrated(), EdgeMap(tmp_path / "cells.map"))
    connection = await made.source.connect()
    for user in (USER, NEIGHBOUR):
        for statement in _ROWS.split(";\n"):
            await connection.execute(statement, user)
    await connection.close()
    return made


def test_every_table_is_copied_or_left_out_on_purpose() -> None:
    assert set(moves.COPIED) | moves.NOT_COPIED == set(TABLES)
    assert not set(moves.COPIED) & moves.NOT_COPIED


@pytest.mark.case(91)
async def test_a_move_keeps_every_row_and_its_ids_and_can_be_repeated_and_undone(
    cells: Cells,
) -> None:
    before = await cells.contents(cells.source)
    neighbour = await cells.contents(cells.source, NEIGHBOUR)
    nothing = dict.fromkeys(before, (0, ""))
    assert all(count for count, _ in before.values())
    for _ in range(2):
        await cells.move().run()
        assert await cells.contents(cells.target) == before
        assert await cells.contents(cells.source) == nothing
        assert await cells.writable() == ["target"]
        assert cells.edge.read() == {USER: "two"}
    await cells.back().run()
    assert await cells.contents(cells.source) == before
    assert await cells.contents(cells.target) == nothing
    assert await cells.writable() == ["source"]
    assert cells.edge.read() == {USER: "one"}
    assert await cells.contents(cells.source, NEIGHBOUR) == neighbour
    ledger = "SELECT count(*) FROM usage_ledger WHERE user_id = ''"
    assert await cells.source.value(ledger) == await cells.target.value(ledger) == 0


class CutOffError(Exception):
    pass


_STEPS = ("freeze", "copy", "thaw", "erase", "digests", "put")


@pytest.mark.case(91)
@pytest.mark.parametrize("done_first", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", _STEPS)
async def test_a_move_that_is_cut_off_anywhere_is_taken_up_by_the_same_command(
    cells: Cells, monkeypatch: pytest.MonkeyPatch, step: str, *, done_first: bool
) -> None:
    """At no time can both databases be changed."""
    before = await cells.contents(cells.source)
    place: Any = EdgeMap if step == "put" else moves
    function: Callable[..., Awaitable[Any]] = getattr(place, step)
    calls = left = 0

    @functools.wraps(function)
    async def cut(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == left and not done_first:
            raise CutOffError
        result = await function(*arguments, **named)
        if calls == left:
            raise CutOffError
        return result

    monkeypatch.setattr(place, step, cut)
    while True:
        calls, left = 0, left + 1
        try:
            await cells.move().run()
        except CutOffError:
            monkeypatch.setattr(place, step, function)
            begun = await cells.source.value("SELECT count(*) FROM frozen_users")
            assert len(await cells.writable()) < 2 or not begun
            merged = [await cells.contents(side) for side in (cells.source, cells.target)]
            assert before in merged, "half of the data on each side"
            monkeypatch.setattr(place, step, cut)
        else:
            break
    assert left > 1, "the step was never reached"
    monkeypatch.undo()
    assert await cells.contents(cells.target) == before
    assert await cells.writable() == ["target"]
    assert cells.edge.read() == {USER: "two"}


@pytest.mark.case(91)
async def test_a_move_is_given_up_only_before_the_data_has_moved(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await cells.contents(cells.source)
    with pytest.raises(MoveRefused):
        await cells.move().abort()

    async def cut(*_: Any) -> None:
        raise CutOffError

    with monkeypatch.context() as patched:
        patched.setattr(moves, "digests", cut)
        with pytest.raises(CutOffError):
            await cells.move().run()
    assert await cells.writable() == []
    await cells.move().abort()
    assert await cells.contents(cells.source) == before
    assert await cells.writable() == ["source", "target"]
    await cells.move().run()
    with pytest.raises(MoveRefused):
        await cells.move().abort()


@pytest.mark.case(91)
async def test_a_copy_that_differs_is_not_kept(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cells.target.execute(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.content := NEW.content || '.'; RETURN NEW; END $$"
    )
    await cells.target.execute(
        "CREATE TRIGGER spoil BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION spoil()"
    )
    before = await cells.contents(cells.source)
    with pytest.raises(moves.CopyDiffers, match="messages"):
        await cells.move().run()
    assert await cells.contents(cells.source) == before
    assert await cells.target.value("SELECT count(*) FROM conversations") == 0
    assert await cells.writable() == []
    await cells.target.execute("DROP TRIGGER spoil ON messages")
    await cells.move().run()
    assert await cells.contents(cells.target) == before


@pytest.mark.case(91)
async def test_moves_that_would_mix_or_hide_data_are_refused(
    cells: Cells, databases: Databases
) -> None:
    third = databases.migrated()
    with pytest.raises(MoveRefused, match="no data in the old"):
        await cells.move(user_id="unknown").run()
    with pytest.raises(MoveRefused, match="same"):
        await cells.move(target_url=cells.source.url).run()
    await cells.move().run()
    with pytest.raises(MoveRefused, match="to two"):
        await cells.move(target_url=third, cell="three").run()
    await cells.move(source_url=cells.target.url, target_url=third, cell="three").run()
    with pytest.raises(MoveRefused, match="moved on"):
        await cells.move().run()
    assert cells.edge.read() == {USER: "three"}
    await cells.target.execute("DELETE FROM frozen_users")
    await cells.target.execute(
        "INSERT INTO conversations (id, user_id, title, title_given, model_tag) "
        "VALUES (gen_random_uuid(), $1, 'There', true, 'default')",
        USER,
    )
    with pytest.raises(MoveRefused, match="already"):
        await cells.move(source_url=third, cell="two").run()
    await Database(third).execute("ALTER TABLE messages ADD COLUMN further text")
    with pytest.raises(MoveRefused, match="schemas"):
        await cells.move(source_url=third, cell="two").run()


@pytest.mark.case(91)
async def test_a_running_answer_that_does_not_end_stops_the_move(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_api.moving._STOP_SECONDS", 0.1)
    await cells.source.execute("UPDATE generations SET ended_at = NULL, status = 'generating'")
    with pytest.raises(MoveRefused, match="does not end"):
        await cells.move().run()
    stopped = "SELECT array_agg(DISTINCT user_id) FROM generations WHERE stop_requested"
    assert await cells.source.value(stopped) == [USER]
    await cells.move().abort()
    assert "source" in await cells.writable()


@pytest.mark.case(92)
async def test_what_runs_by_itself_and_what_administrators_do_leave_a_frozen_user_alone(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(*_: Any) -> None:
        raise CutOffError

    with monkeypatch.context() as patched:
        patched.setattr(moves, "copy", cut)
        with pytest.raises(CutOffError):
            await cells.move().run()
    connection = await cells.source.connect()
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("UPDATE conversations SET expires_at = now(), updated_at = now()")
    await connection.execute("SET session_replication_role = origin")
    async with opened(cells.source.url) as pool:
        expired = await expiry.find_expired(pool)
        neighbours = "SELECT array_agg(id::text) FROM conversations WHERE user_id = $1"
        assert set(expired) == set(await cells.source.value(neighbours, NEIGHBOUR))
        [own, *_] = await cells.source.value(neighbours, USER)
        assert not await expiry.delete_expired(pool, own)
        assert await expiry.delete_expired(pool, expired[0])
        for change in (limits.remove, lambda at, user: limits.write(at, user, limits.UserLimits())):
            with pytest.raises(UserMoving):
                async with pool.transaction() as at:
                    await change(at, USER)
    await connection.close()


@pytest.mark.case(91)
async def test_the_audit_log_stays_until_the_user_is_erased_there(cells: Cells) -> None:
    await cells.source.execute(
        "INSERT INTO audit_log (administrator_id, act, user_id, details, trace_id) "
        "VALUES ('admin', 'limits', $1, '{}', 't')",
        USER,
    )
    await cells.move().run()
    audited = "SELECT array_agg(user_id) FROM audit_log"
    assert await cells.source.value(audited) == [USER]
    async with opened(cells.source.url) as pool, pool.transaction() as connection:
        await erasure.erase_rest(connection, USER, [])
    assert await cells.source.value(audited) == [None]
    assert await cells.source.value("SELECT count(*) FROM frozen_users") == 0
    assert await cells.target.value("SELECT count(*) FROM usage_ledger WHERE user_id = ''") == 0


@pytest.mark.case(92)
async def test_a_freeze_waits_for_changes_under_way_and_they_are_copied(cells: Cells) -> None:
    connection = await cells.source.connect()
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "INSERT INTO conversations (id, user_id, title, title_given, model_tag) "
        "VALUES (gen_random_uuid(), $1, 'Under way', true, 'default')",
        USER,
    )
    moving = asyncio.create_task(cells.move().run())

    async def waits() -> bool:
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return bool(await cells.source.value(waiting))

    await eventually(waits)
    assert await cells.source.value("SELECT count(*) FROM frozen_users") == 0
    await transaction.commit()
    await connection.close()
    await moving
    found = "SELECT count(*) FROM conversations WHERE user_id = $1 AND title = 'Under way'"
    assert await cells.target.value(found, USER) == 1
