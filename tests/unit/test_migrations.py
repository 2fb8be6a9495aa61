"""The schema's way forward and back."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support.database import Databases
from tests.unit.world import connected

from chat_api.db import migrate as module
from chat_api.db.migrate import REVISIONS, Schema, migrate, schema_of

VERSIONS = Path(module.__file__).parent / "migrations" / "versions"


@pytest.fixture
def empty_url(databases: Databases) -> str:
    return databases.empty()


async def state_of(url: str) -> Schema:
    async with connected(url) as connection:
        return await schema_of(connection)


async def schema(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that defines the schema, but for Alembic's own table."""
    statements = {
        "columns": "SELECT table_name, column_name, ordinal_position, data_type, is_nullable, "
        "column_default FROM information_schema.columns WHERE table_schema = 'public' "
        "AND table_name <> 'alembic_version' ORDER BY 1, 3",
        "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' "
        "AND tablename <> 'alembic_version' ORDER BY 1",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) "
        "FROM pg_constraint WHERE connamespace = 'public'::regnamespace "
        "AND conrelid <> coalesce(to_regclass('alembic_version'), 0) ORDER BY 1, 2",
        "others": "SELECT relkind::text, relname FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relname !~ 'alembic_version' ORDER BY 2",
        "functions": "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
        "types": "SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace "
        "AND typname !~ 'alembic_version' ORDER BY 1",
    }
    async with connected(url) as connection:
        return {
            name: [tuple(row) for row in await connection.fetch(statement)]
            for name, statement in statements.items()
        }


def test_the_revisions_are_those_in_the_folder_in_their_order() -> None:
    files = sorted(VERSIONS.glob("*.py"))
    assert tuple(file.name.split("_")[0] for file in files) == REVISIONS
    before = None
    for file, revision in zip(files, REVISIONS, strict=True):
        names: dict[str, Any] = {}
        exec(compile(file.read_text("utf-8"), file.name, "exec"), names)  # noqa: S102  # ours
        assert (names["revision"], names["down_revision"]) == (revision, before)
        assert names["__doc__"]
        before = revision


async def test_forward_back_and_forward_again_is_the_same_schema(empty_url: str) -> None:
    nothing = await schema(empty_url)
    assert await state_of(empty_url) is Schema.BEHIND
    await migrate(empty_url)
    first = await schema(empty_url)
    assert await state_of(empty_url) is Schema.CURRENT
    await migrate(empty_url, "base")
    assert await schema(empty_url) == nothing
    assert await state_of(empty_url) is Schema.BEHIND
    await migrate(empty_url)
    assert await schema(empty_url) == first
    assert await state_of(empty_url) is Schema.CURRENT


async def test_every_revision_can_be_left_and_taken_again(empty_url: str) -> None:
    await migrate(empty_url)
    for revision in reversed(REVISIONS):
        await migrate(empty_url, revision)
        expected = Schema.CURRENT if revision == REVISIONS[-1] else Schema.BEHIND
        assert await state_of(empty_url) is expected
    await migrate(empty_url)
    assert await state_of(empty_url) is Schema.CURRENT


async def test_the_operator_s_command_makes_the_same_schema(
    empty_url: str, fresh_database_url: str
) -> None:
    await migrate(empty_url)
    assert await schema(empty_url) == await schema(fresh_database_url)


async def test_ten_replicas_may_migrate_at_once(empty_url: str) -> None:
    await asyncio.gather(*(migrate(empty_url) for _ in range(10)))
    assert await state_of(empty_url) is Schema.CURRENT
    async with connected(empty_url) as connection:
        assert await connection.fetch("SELECT version_num FROM alembic_version") == [
            (REVISIONS[-1],)
        ]
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert await connection.fetchval(held) == 0


async def test_a_failed_migration_leaves_nothing_and_gives_the_lock_back(empty_url: str) -> None:
    async with connected(empty_url) as connection:
        await connection.execute("CREATE TABLE listeners (in_the_way boolean)")
        before = await schema(empty_url)
        with pytest.raises(Exception, match="already exists"):
            await migrate(empty_url)
        assert await schema(empty_url) == before
        await connection.execute("DROP TABLE listeners")
    await migrate(empty_url)
    assert await state_of(empty_url) is Schema.CURRENT


async def test_a_schema_that_is_ahead_is_left_alone(fresh_database_url: str) -> None:
    async with connected(fresh_database_url) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = '9999'")
        await connection.execute("ALTER TABLE conversations ADD COLUMN of_the_future text")
    before = await schema(fresh_database_url)
    assert await state_of(fresh_database_url) is Schema.AHEAD
    await migrate(fresh_database_url)
    assert await schema(fresh_database_url) == before
    assert await state_of(fresh_database_url) is Schema.AHEAD


async def test_an_emptied_version_is_behind(fresh_database_url: str) -> None:
    async with connected(fresh_database_url) as connection:
        await connection.execute("DELETE FROM alembic_version")
        assert await schema_of(connection) is Schema.BEHIND


async def test_migrating_again_changes_nothing(fresh_database_url: str) -> None:
    before = await schema(fresh_database_url)
    await migrate(fresh_database_url)
    assert await schema(fresh_database_url) == before
