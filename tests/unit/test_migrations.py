"""The schema's way forward and back."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support.database import Databases
from tests.support.waiting import eventually
from tests.unit.world import World, connected

from chat_api.db import migrate as module
from chat_api.db.migrate import MigrationRefused, migrate
from chat_api.db.schema import REVISIONS, TABLES, Found, Schema, inspect
from chat_api.errors import DatabaseUnavailable

VERSIONS = Path(module.__file__).parent / "migrations" / "versions"


@pytest.fixture
def empty_url(databases: Databases) -> str:
    return databases.empty()


async def found_in(url: str) -> Found:
    async with connected(url) as connection:
        return await inspect(connection)


async def state_of(url: str) -> Schema:
    return (await found_in(url)).schema


async def schema(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that defines the schema, but for Alembic's own table."""
    statements = {
        "columns": "SELECT table_name, column_name, ordinal_position, data_type, is_nullable, "
        "column_default FROM information_schema.columns WHERE table_schema = 'public' "
        "AND table_name <> 'samosachaat_schema_version' ORDER BY 1, 3",
        "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' "
        "AND tablename <> 'samosachaat_schema_version' ORDER BY 1",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) "
        "FROM pg_constraint WHERE connamespace = 'public'::regnamespace "
        "AND conrelid <> coalesce(to_regclass('samosachaat_schema_version'), 0) ORDER BY 1, 2",
        "others": "SELECT relkind::text, relname, reloptions FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relname !~ 'schema_version' ORDER BY 2",
        "functions": "SELECT proname FROM pg_proc "
        "WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
        "types": "SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace "
        "AND typname !~ 'samosachaat_schema_version' ORDER BY 1",
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


@pytest.mark.case(95)
async def test_what_a_search_reads_stays_in_its_row_as_it_is(world: World) -> None:
    """Of a text of up to 4 KB, neither a compressed nor a distant copy is read."""
    text = "samosa " * 500
    await world.answered(await world.conversation(), text)
    assert await world.value(
        "SELECT pg_column_size(content) >= octet_length(content) FROM messages"
        " WHERE role = 'assistant'"
    )


async def test_an_operator_s_own_storage_stays(empty_url: str) -> None:
    stored = "SELECT reloptions FROM pg_class WHERE relname = 'messages'"
    async with connected(empty_url) as connection:
        await migrate(empty_url, "0013")
        await connection.execute("ALTER TABLE messages SET (toast_tuple_target = 8160)")
        for revision in ("head", "0013", "head"):
            await migrate(empty_url, revision)
            assert await connection.fetchval(stored) == ["toast_tuple_target=8160"]
        await connection.execute("ALTER TABLE messages RESET (toast_tuple_target)")
        await migrate(empty_url, "0013")
        assert await connection.fetchval(stored) is None


async def test_ten_replicas_may_migrate_at_once(empty_url: str) -> None:
    await asyncio.gather(*(migrate(empty_url) for _ in range(10)))
    assert await state_of(empty_url) is Schema.CURRENT
    async with connected(empty_url) as connection:
        assert await connection.fetch("SELECT version_num FROM samosachaat_schema_version") == [
            (REVISIONS[-1],)
        ]
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert await connection.fetchval(held) == 0


async def test_a_failed_migration_leaves_nothing_and_gives_the_lock_back(empty_url: str) -> None:
    async with connected(empty_url) as connection:
        await connection.execute("CREATE TABLE other (in_the_way boolean)")
        await connection.execute("CREATE INDEX generations_running ON other (in_the_way)")
        before = await schema(empty_url)
        with pytest.raises(Exception, match="already exists"):
            await migrate(empty_url)
        assert await schema(empty_url) == before
        await connection.execute("DROP TABLE other")
    await migrate(empty_url)
    assert await state_of(empty_url) is Schema.CURRENT


async def test_a_schema_that_is_ahead_is_left_alone(fresh_database_url: str) -> None:
    async with connected(fresh_database_url) as connection:
        await connection.execute(AHEAD)
        await connection.execute("ALTER TABLE conversations ADD COLUMN of_the_future text")
    before = await schema(fresh_database_url)
    assert await state_of(fresh_database_url) is Schema.AHEAD
    await migrate(fresh_database_url)
    assert await schema(fresh_database_url) == before
    assert await state_of(fresh_database_url) is Schema.AHEAD


async def test_the_tables_that_are_looked_for_are_those_of_the_migrations(
    fresh_database_url: str,
) -> None:
    columns: dict[str, list[str]] = {}
    for table, column, *_ in (await schema(fresh_database_url))["columns"]:
        columns.setdefault(table, []).append(column)
    views_of_former_names = {"answer_log", "listeners"}
    assert {
        table: sorted(names)
        for table, names in columns.items()
        if table not in views_of_former_names
    } == {table: sorted(names) for table, names in TABLES.items()}


AHEAD = "UPDATE samosachaat_schema_version SET version_num = '9999'"
FAULTS = {
    "no revision": ("DELETE FROM samosachaat_schema_version", "names no revision"),
    "two revisions": ("INSERT INTO samosachaat_schema_version VALUES ('9')", "several revisions"),
    "lost table": ("DROP TABLE message_quotas", "lacks: table message_quotas"),
    "lost column": ("ALTER TABLE messages DROP COLUMN model_tag", "column messages.model_tag"),
    "lost index": ("DROP INDEX messages_one_generating", "index messages_one_generating"),
    "lost function": (
        "DROP FUNCTION samosachaat_end_answer_2",
        "function samosachaat_end_answer_2",
    ),
    "ahead and without a column": (
        f"{AHEAD}; ALTER TABLE messages DROP COLUMN token_count",
        "at 9999 but lacks: column messages.token_count",
    ),
}


@pytest.mark.case(54)
@pytest.mark.parametrize(("damage", "said"), FAULTS.values(), ids=FAULTS.keys())
async def test_a_damaged_schema_is_named_and_not_migrated(
    fresh_database_url: str, damage: str, said: str
) -> None:
    async with connected(fresh_database_url) as connection:
        await connection.execute(damage)
    found = await found_in(fresh_database_url)
    assert found.schema is Schema.DAMAGED
    assert found.fault is not None
    assert said in found.fault
    before = await schema(fresh_database_url)
    with pytest.raises(MigrationRefused, match=said):
        await migrate(fresh_database_url)
    assert await schema(fresh_database_url) == before


FOREIGN_TABLES = "CREATE TABLE conversations (id int); CREATE TABLE messages (id int, role text)"
FOREIGN_VERSION = (
    "CREATE TABLE alembic_version (version_num varchar(32)); INSERT INTO alembic_version VALUES "
)


@pytest.mark.case(54)
@pytest.mark.parametrize("version", ["", "('0002')", "('a1b2c3')"])
async def test_tables_of_another_program_are_named_and_left_alone(
    empty_url: str, version: str
) -> None:
    async with connected(empty_url) as connection:
        await connection.execute(FOREIGN_TABLES)
        if version:
            await connection.execute(FOREIGN_VERSION + version)
    found = await found_in(empty_url)
    assert (found.schema, found.fault) == (
        Schema.FOREIGN,
        "Tables of another program have our names: conversations, messages.",
    )
    before = await schema(empty_url)
    with pytest.raises(MigrationRefused, match="another program"):
        await migrate(empty_url)
    assert await schema(empty_url) == before


@pytest.mark.case(54)
@pytest.mark.parametrize("version", ["0002", "a1b2c3"])
async def test_another_program_s_migrations_can_stand_beside_ours(
    empty_url: str, version: str
) -> None:
    async with connected(empty_url) as connection:
        await connection.execute(f"{FOREIGN_VERSION} ('{version}')")
        await migrate(empty_url)
        assert (await inspect(connection)).schema is Schema.CURRENT
        assert await connection.fetchval("SELECT version_num FROM alembic_version") == version


@pytest.mark.parametrize("former", ["0001", "0002"])
async def test_a_database_of_the_first_releases_is_moved_over(empty_url: str, former: str) -> None:
    await migrate(empty_url, former)
    async with connected(empty_url) as connection:
        await connection.execute(
            "ALTER TABLE samosachaat_schema_version RENAME TO alembic_version;"
            "ALTER INDEX samosachaat_schema_version_pkc RENAME TO alembic_version_pkc"
        )
        found = await inspect(connection)
        assert (found.revision, found.is_former) == (former, True)
        await migrate(empty_url)
        assert (await inspect(connection)).schema is Schema.CURRENT
        # Replicas of the first releases read this table: they find nothing to do.
        assert await connection.fetchval("SELECT version_num FROM alembic_version") == "0002"


@pytest.mark.case(54)
@pytest.mark.parametrize(
    ("revoke", "said"),
    [
        ("REVOKE CREATE ON SCHEMA public FROM PUBLIC", "GRANT CREATE ON SCHEMA public TO visitor"),
        ("GRANT CREATE ON SCHEMA public TO visitor", None),
    ],
)
async def test_a_role_without_the_right_to_make_tables_is_told_so(
    databases: Databases, empty_url: str, revoke: str, said: str | None
) -> None:
    async with connected(empty_url) as connection:
        await connection.execute(
            "DO $$ BEGIN CREATE ROLE visitor LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
        )
        await connection.execute(revoke)
    url = empty_url.replace("postgres@", "visitor@")
    if said is None:
        await migrate(url)
        assert await state_of(url) is Schema.CURRENT
    else:
        with pytest.raises(MigrationRefused) as refused:
            await migrate(url)
        assert said in str(refused.value)


@pytest.mark.case(54)
async def test_a_role_that_may_not_use_the_tables_is_named(fresh_database_url: str) -> None:
    async with connected(fresh_database_url) as connection:
        await connection.execute(
            "DO $$ BEGIN CREATE ROLE guest LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
        )
        await connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest")
        await connection.execute("GRANT ALL ON conversations TO guest")
    found = await found_in(fresh_database_url.replace("postgres@", "guest@"))
    assert found.schema is Schema.CURRENT
    assert found.fault is not None
    assert found.fault.startswith("The role guest lacks rights on: messages, generations,")
    assert "conversations" not in found.fault


@pytest.mark.case(54)
async def test_a_role_that_changes_conversations_may_do_what_later_migrations_bring(
    empty_url: str,
) -> None:
    """Also in a database whose new functions are granted to no role by default."""
    await migrate(empty_url, "0006")
    async with connected(empty_url) as connection:
        await connection.execute(
            "DO $$ BEGIN CREATE ROLE tenant LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
        )
        await connection.execute(
            "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;"
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO tenant"
        )
    await migrate(empty_url)
    found = await found_in(empty_url.replace("postgres@", "tenant@"))
    assert (found.schema, found.fault) == (Schema.CURRENT, None)


@pytest.mark.case(54)
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_is_not_utf8_is_refused_by_name(
    databases: Databases, encoding: str
) -> None:
    url = await databases.encoded(encoding)
    found = await found_in(url)
    assert found.refusal is not None
    assert encoding in found.refusal
    with pytest.raises(MigrationRefused, match=encoding):
        await migrate(url)


@pytest.mark.case(54)
async def test_a_server_that_goes_away_while_migrations_wait_is_waited_for(
    empty_url: str,
) -> None:
    async with connected(empty_url) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", module.ADVISORY_LOCK)
        waiting = asyncio.create_task(migrate(empty_url))
        await eventually(
            lambda: connection.fetchval(
                "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name = 'samosachaat-chat-api'"
            )
        )
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE "
            "datname = current_database() AND application_name = 'samosachaat-chat-api'"
        )
        with pytest.raises(DatabaseUnavailable):
            await waiting


async def test_migrating_again_changes_nothing(fresh_database_url: str) -> None:
    before = await schema(fresh_database_url)
    await migrate(fresh_database_url)
    assert await schema(fresh_database_url) == before
