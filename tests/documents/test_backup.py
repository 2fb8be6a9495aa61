"""What docs/operating.md says about backups is done, as it stands there."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.database import FAST, Database, migrate
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import Service, StartService
from tests.support.waiting import eventually

from chat_api.local.accounts import Account
from chat_api.local.postgres import EmbeddedPostgres, find_binaries

ROOT = Path(__file__).parents[2]
SECTION = (
    (ROOT / "docs" / "operating.md")
    .read_text()
    .split("\n## Backup and restore\n", 1)[1]
    .split("\n## ", 1)[0]
)
DUMP, RESTORE, BASE_BACKUP = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Copied(EmbeddedPostgres):
    """A server whose data folder is made by the document's base backup of another one."""

    def __init__(self, data: Path, origin: str) -> None:
        super().__init__(data)
        self._origin = origin

    def _making(self, binaries: Path, new: Path) -> list[str | Path]:
        command = BASE_BACKUP.splitlines()[0].replace('"$SERVER"', shlex.quote(self._origin))
        program, *arguments = shlex.split(command)
        assert "--pgdata=base" in arguments
        return [binaries / program, *(a.replace("=base", f"={new}") for a in arguments)]

    def _run(self, binaries: Path, account: Account, lock: int) -> None:
        # The socket of these servers is in their data folder, and so was copied with its lock.
        (self._cluster / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        super()._run(binaries, account, lock)


def plain(url: str) -> str:
    return url.replace("+asyncpg", "")


def run(block: str, folder: Path, **env: str) -> str:
    """Run a block of the document in a folder, with the server's own programs."""
    path = f"{find_binaries()}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-euc", block],
        cwd=folder,
        env={"PATH": path, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def origin(tmp_path: Path, internal_api_key: str) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path / "origin", options=FAST) as server:
        server.create_database("chat")
        migrate(server.url("chat"), internal_api_key)
        yield server


@pytest.fixture
def service(origin: EmbeddedPostgres, start_service: StartService) -> Service:
    return start_service(DATABASE_URL=origin.url("chat"))


@pytest.fixture
async def user(service: Service, auth: AuthServer) -> AsyncIterator[Client]:
    async with Client(service.url, auth.user("alice")) as user:
        yield user


async def test_a_dump_is_restored_and_what_ran_is_ended(
    origin: EmbeddedPostgres,
    user: Client,
    inference: Inference,
    start_service: StartService,
    clients: MakeClient,
    tmp_path: Path,
) -> None:
    conversation = await user.create(title="Kept", tags=["a"])
    inference.once(Script().tokens("Par", "is").done(), Script().tokens("So ", "far").wait(Gate()))
    await user.ask(conversation["id"], "Capital?")
    before = await user.conversation(conversation["id"])
    db = Database(origin.url("chat"))
    async with user.send(conversation["id"], "More?") as stream:
        await stream.until_text("far")
        await eventually(lambda: db.value("SELECT bool_or(events LIKE '%far%') FROM event_log"))
        run(DUMP, tmp_path, SOURCE=plain(origin.url("chat")))
    said = run(
        RESTORE,
        tmp_path,
        SERVER=plain(origin.url()),
        TARGET=plain(origin.url("restored")),
    )
    assert "there is nothing to do" in said

    again = start_service(
        DATABASE_URL=origin.url("restored"), ON_CRASH="interrupt", LEASE_SECONDS="1"
    )
    there = clients(again, user.account)

    async def is_ended() -> bool:
        return bool((await there.messages(conversation["id"]))[-1]["status"] == "interrupted")

    await eventually(is_ended, 30)
    messages = await there.messages(conversation["id"])
    assert messages[:2] == before["messages"]
    assert [message["content"] for message in messages[2:]] == ["More?", "So far"]
    inference.once(Script().tokens("On").done())
    assert (await there.ask(conversation["id"], "And?"))["content"] == "On"


async def test_a_base_backup_is_verified_and_serves(
    origin: EmbeddedPostgres,
    user: Client,
    start_service: StartService,
    clients: MakeClient,
    tmp_path: Path,
) -> None:
    conversation = await user.create()
    await user.ask(conversation["id"], "Capital?")
    before = await user.conversation(conversation["id"])
    run(BASE_BACKUP, tmp_path, SERVER=plain(origin.url()))
    with Copied(tmp_path / "copied", plain(origin.url())) as copied:
        again = start_service(DATABASE_URL=copied.url("chat"))
        assert await clients(again, user.account).conversation(conversation["id"]) == before
        again.stop()
