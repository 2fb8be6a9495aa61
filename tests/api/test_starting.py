"""Starting and stopping: settings, migrations, a database that is late."""

import asyncio
from pathlib import Path

import pytest
from tests.support import predecessor
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.database import FAST, Database, Databases, migrate
from tests.support.gates import Gate
from tests.support.inference import PLAIN_TEXT, Inference, Script
from tests.support.service import StartService
from tests.support.shapes import check_problem
from tests.support.waiting import eventually, eventually_sync

from chat_api.local.postgres import EmbeddedPostgres


@pytest.mark.parametrize("key", [None, ""], ids=["missing", "empty"])
def test_without_the_key_it_refuses_to_start_and_says_so(
    start_service: StartService, key: str | None
) -> None:
    service = start_service(INTERNAL_API_KEY=key, wait=False)
    assert service.wait() == 2
    assert "INTERNAL_API_KEY" in service.text()
    assert "Traceback" not in service.text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_LEVEL", "LOUD"),
        ("DATABASE_URL", "sqlite:///chat.db"),
        ("DATABASE_URL", "postgresql://localhost/chat?sslmode=bogus"),
        ("DATABASE_URL", "postgresql://localhost/chat?sslrootcert=/nowhere/root.crt"),
        ("AUTH_SERVICE_URL", "auth:8001"),
        ("INFERENCE_SERVICE_URL", "ftp://inference"),
        ("MAX_CONVERSATION_HISTORY", "0"),
        ("MAX_TOKEN_BUDGET", "many"),
    ],
)
def test_a_wrong_setting_is_named(start_service: StartService, name: str, value: str) -> None:
    service = start_service({name: value}, wait=False)
    assert service.wait() == 2
    assert name in service.text()
    assert "Traceback" not in service.text()


async def test_the_log_level_is_obeyed(
    start_service: StartService, clients: MakeClient, auth: AuthServer
) -> None:
    quiet = start_service(LOG_LEVEL="error")
    client = clients(quiet, auth.user())
    await client.ask((await client.create())["id"], "Hello")
    assert {str(line["level"]).lower() for line in quiet.logs()} <= {"error", "critical"}


async def test_it_stops_when_told_to(
    start_service: StartService, clients: MakeClient, auth: AuthServer
) -> None:
    service = start_service()
    client = clients(service, auth.user())
    await client.ask((await client.create())["id"], "Hello")
    await client.http.aclose()
    assert await asyncio.to_thread(service.stop) == 0
    assert service.stray_lines() == []
    assert "Traceback" not in service.text()


@pytest.mark.case(29)
async def test_while_it_stops_answers_may_end_and_nothing_new_begins(
    start_service: StartService, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    service = start_service(DRAIN_SECONDS="20")
    account = auth.user()
    client = clients(service, account)
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b").done())
    conversation = await client.create()
    other = await client.create()
    async with client.send(conversation["id"], "Hello") as stream:
        await stream.until("token")
        service.terminate()

        async def not_ready() -> bool:
            response = await client.get("/api/ready")
            return response.status_code == 503 and "drain" in response.text.lower()

        await eventually(not_ready)
        assert (await client.get("/api/health")).status_code == 200
        refused = await client.ask_raw(other["id"], {"content": "Too late"})
        check_problem(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        gate.open()
        await stream.rest()
        assert (stream.text, stream.done["status"]) == ("ab", "complete")
    await client.http.aclose()
    assert await asyncio.to_thread(service.wait) == 0


async def test_several_starts_at_once_migrate_an_empty_database_once(
    start_service: StartService, clients: MakeClient, auth: AuthServer, databases: Databases
) -> None:
    url = databases.empty()
    services = [start_service(DATABASE_URL=url, wait=False) for _ in range(3)]
    for service in services:
        service.wait_ready()
    account = auth.user()
    conversation = await clients(services[0], account).create()
    for service in services:
        assert (await clients(service, account).conversation(conversation["id"]))["messages"] == []
    assert await Database(url).value("SELECT count(*) FROM samosachaat_schema_version") == 1


async def test_it_is_not_ready_while_the_schema_is_behind(
    start_service: StartService,
    clients: MakeClient,
    auth: AuthServer,
    databases: Databases,
    internal_api_key: str,
) -> None:
    url = databases.empty()
    service = start_service(DATABASE_URL=url, MIGRATE_ON_START="false", wait=False)
    service.wait_alive()
    client = clients(service, auth.user())
    response = await client.get("/api/ready")
    assert response.status_code == 503
    assert "migration" in response.text.lower()
    assert (await client.get("/api/health")).status_code == 200
    migrate(url, internal_api_key)
    service.wait_ready()
    assert (await client.create())["title"] == "New conversation"


@pytest.mark.case(54)
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_is_not_utf8_ends_the_start_by_name(
    start_service: StartService, databases: Databases, encoding: str
) -> None:
    service = start_service(DATABASE_URL=await databases.encoded(encoding), wait=False)
    assert service.wait() == 1
    (said,) = [line for line in service.logs() if line["level"] == "critical"]
    assert said["event"] == "cannot_start"
    assert encoding in said["reason"]
    assert "UTF8" in said["reason"]
    assert "stack" not in service.text()
    assert "Traceback" not in service.text()


async def test_the_database_of_the_service_before_is_taken_over_at_the_start(
    start_service: StartService, clients: MakeClient, auth: AuthServer, databases: Databases
) -> None:
    account = auth.user("heiress")
    database = Database(databases.empty())
    await database.execute(predecessor.SCHEMAS["004"])
    await database.execute(
        "INSERT INTO users (id, email, provider, provider_id) VALUES ($1, 'h@x', 'google', '1')",
        account.id,
    )
    old = str(
        await database.value(
            "INSERT INTO conversations (user_id, title) VALUES ($1, 'New chat') RETURNING id",
            account.id,
        )
    )
    for role, content in (("user", "Hello?"), ("assistant", "Yes?"), ("user", "Lost")):
        await database.execute(
            "INSERT INTO messages (conversation_id, role, content) VALUES ($1, $2, $3)",
            *(old, role, content),
        )
    service = start_service(DATABASE_URL=database.url)
    client = clients(service, account)
    assert (await client.conversation(old))["title"] == "New chat"
    assert [m["content"] for m in await client.messages(old)] == ["Hello?", "Yes?", "Lost"]
    assert (await client.ask(old, "Again"))["status"] == "complete"
    assert [m["content"] for m in await client.messages(old)][3:] == ["Again", PLAIN_TEXT]
    new = (await client.create())["id"]
    # The auth service deletes a user: what is theirs goes.
    await database.execute("DELETE FROM users WHERE id = $1", account.id)
    for gone in (old, new):
        check_problem(await client.get(f"/api/conversations/{gone}"), 404)
    assert await database.value("SELECT version_num FROM alembic_version") == "004_add_favorited"


async def checks(client: Client) -> dict[str, str]:
    """What readiness says; {} while it is fine."""
    response = await client.get("/api/ready")
    if response.status_code == 200:
        return {}
    problem = check_problem(response, 503, "checks")
    found: dict[str, str] = problem["checks"]
    return found


@pytest.mark.case(54)
async def test_the_database_of_another_program_is_named_and_left_alone(
    start_service: StartService, clients: MakeClient, auth: AuthServer, databases: Databases
) -> None:
    database = Database(databases.empty())
    await database.execute("CREATE TABLE messages (id int)")
    service = start_service(DATABASE_URL=database.url, wait=False)
    service.wait_alive()
    client = clients(service, auth.user())

    async def said() -> str:
        return (await checks(client))["migrations"]

    assert "messages" in await eventually(said)
    check_problem(await client.post("/api/conversations"), 503)
    (line,) = await eventually(
        lambda: [line for line in service.logs() if line["event"] == "not_ready"]
    )
    assert "Tables of another program" in line["reason"]
    assert "stack" not in service.text()
    # It goes on looking: what is put right is noticed.
    await database.execute("DROP TABLE messages")
    await asyncio.to_thread(service.wait_ready)
    assert (await client.ask((await client.create())["id"], "Hello"))["status"] == "complete"


@pytest.mark.case(54)
async def test_a_role_without_rights_is_told_which_and_waited_for(
    start_service: StartService, clients: MakeClient, auth: AuthServer, databases: Databases
) -> None:
    database = Database(databases.empty())
    await database.execute(
        "DO $$ BEGIN CREATE ROLE newcomer LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    url = database.url.replace("postgres@", "newcomer@")
    service = start_service(DATABASE_URL=url, wait=False)
    service.wait_alive()
    client = clients(service, auth.user())

    async def said() -> bool:
        return "GRANT CREATE ON SCHEMA public TO newcomer" in (await checks(client))["migrations"]

    await eventually(said)
    assert "stack" not in service.text()
    await database.execute("GRANT CREATE ON SCHEMA public TO newcomer")
    await asyncio.to_thread(service.wait_ready)
    assert (await client.ask((await client.create())["id"], "Hello"))["status"] == "complete"


@pytest.mark.case(54)
async def test_a_table_that_is_lost_fails_readiness_by_name(
    start_service: StartService, clients: MakeClient, auth: AuthServer, fresh_database_url: str
) -> None:
    service = start_service(DATABASE_URL=fresh_database_url)
    client = clients(service, auth.user())
    assert await checks(client) == {}
    await Database(fresh_database_url).execute("DROP TABLE idempotency_keys")
    assert "lacks: table idempotency_keys" in (await checks(client))["migrations"]


async def test_it_is_ready_when_the_schema_is_ahead_as_in_a_rolling_deploy(
    start_service: StartService,
    clients: MakeClient,
    auth: AuthServer,
    fresh_database_url: str,
    internal_api_key: str,
) -> None:
    ahead = Database(fresh_database_url)
    await ahead.execute("UPDATE samosachaat_schema_version SET version_num = '9999'")
    service = start_service(DATABASE_URL=fresh_database_url)
    client = clients(service, auth.user())
    assert (await client.ask((await client.create())["id"], "Hello"))["status"] == "complete"
    migrate(fresh_database_url, internal_api_key)
    assert await ahead.value("SELECT version_num FROM samosachaat_schema_version") == "9999"


@pytest.mark.case(28)
async def test_it_is_not_ready_while_the_database_takes_no_writes(
    start_service: StartService, clients: MakeClient, auth: AuthServer, fresh_database_url: str
) -> None:
    service = start_service(DATABASE_URL=fresh_database_url)
    client = clients(service, auth.user())
    conversation = await client.create()
    database = Database(fresh_database_url)

    async def takes_writes(flag: bool) -> None:
        """Set it for new sessions, and end the old ones: as a failover to a standby would."""
        name = await database.value("SELECT current_database()")
        value = "off" if flag else "on"
        await database.execute(
            f"SET transaction_read_only = off; "
            f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}'
        )
        await database.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    await takes_writes(False)

    async def refused() -> bool:
        check_problem(await client.post("/api/conversations"), 503)
        return (await client.get("/api/ready")).status_code == 503

    await eventually(refused)
    check_problem(await client.ask_raw(conversation["id"], {"content": "Hello"}), 503)
    assert (await client.get("/api/health")).status_code == 200
    await takes_writes(True)
    await asyncio.to_thread(service.wait_ready)
    assert await client.messages(conversation["id"]) == []
    assert (await client.ask(conversation["id"], "Hello"))["status"] == "complete"


def test_migrating_twice_changes_nothing(databases: Databases, internal_api_key: str) -> None:
    url = databases.empty()
    migrate(url, internal_api_key)
    migrate(url, internal_api_key)


async def test_it_waits_for_a_database_that_is_late(
    start_service: StartService, clients: MakeClient, auth: AuthServer, tmp_path: Path
) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres", options=FAST)
    service = start_service(
        DATABASE_URL=postgres.url("late"), DATABASE_TIMEOUT_SECONDS="3", wait=False
    )
    try:
        service.wait_alive()
        client = clients(service, auth.user())
        response = await client.get("/api/ready")
        assert response.status_code == 503
        assert "database" in response.text.lower()
        assert (await client.get("/api/health")).json()["status"] == "ok"
        refused = await client.get("/api/conversations")
        check_problem(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1

        await asyncio.to_thread(postgres.start)
        # The server is there, the database on it is not yet.
        assert (await client.get("/api/ready")).status_code == 503
        postgres.create_database("late")
        service.wait_ready()
        conversation = await client.create()
        assert (await client.ask(conversation["id"], "Hello"))["content"] == PLAIN_TEXT
        assert service.running
    finally:
        service.close()
        postgres.stop()


@pytest.mark.case(27)
async def test_it_comes_back_when_the_database_does(
    start_service: StartService, clients: MakeClient, auth: AuthServer, tmp_path: Path
) -> None:
    with EmbeddedPostgres(tmp_path / "postgres", options=FAST) as postgres:
        service = start_service(DATABASE_URL=postgres.url(), DATABASE_TIMEOUT_SECONDS="3")
        try:
            client = clients(service, auth.user())
            conversation = await client.create()
            await client.ask(conversation["id"], "Hello")
            await asyncio.to_thread(postgres.kill)

            async def unavailable() -> bool:
                response = await client.get("/api/conversations")
                assert response.status_code == 503
                check_problem(response, 503)
                return int(response.headers["retry-after"]) >= 1

            await eventually(unavailable)
            assert (await client.get("/api/ready")).status_code == 503
            assert (await client.get("/api/health")).status_code == 200
            await asyncio.to_thread(postgres.start)
            await asyncio.to_thread(service.wait_ready)
            messages = await client.messages(conversation["id"])
            assert [message["content"] for message in messages] == ["Hello", PLAIN_TEXT]
            assert (await client.ask(conversation["id"], "Again"))["status"] == "complete"
        finally:
            service.close()


def test_it_answers_as_soon_as_it_listens(start_service: StartService) -> None:
    service = start_service(wait=False)
    service.wait_alive()
    eventually_sync(lambda: service.logs(), what="a line in the log")


async def test_neighbours_that_are_away_do_not_keep_it_from_starting(
    start_service: StartService, auth: AuthServer, inference: Inference
) -> None:
    with auth.refusing(), inference.refusing():
        service = start_service()
    async with Client(service.url, auth.user()) as client:
        assert (await client.ask((await client.create())["id"], "Hello"))["status"] == "complete"
