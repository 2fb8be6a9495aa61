"""Direct access to a test's database, and the databases that tests are given."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
from tests.support import service

from chat_api.local.postgres import EmbeddedPostgres

# Nothing here has to survive a power cut.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",  # the service turns it off itself where it means to
    "max_connections": "300",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "autovacuum": "off",
}


class Database:
    """One database, asked directly. Every call has a connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def connect(self) -> Any:
        """A connection (asyncpg); the caller closes it."""
        return await asyncpg.connect(dsn=self.url.replace("+asyncpg", ""), timeout=15)

    async def fetch(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        """The rows."""
        connection = await self.connect()
        try:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]
        finally:
            await connection.close()

    async def value(self, statement: str, *arguments: Any) -> Any:
        """The first value of the first row."""
        connection = await self.connect()
        try:
            return await connection.fetchval(statement, *arguments)
        finally:
            await connection.close()

    async def execute(self, statement: str, *arguments: Any) -> str:
        """Run a statement; returns its tag, such as `UPDATE 3`."""
        connection = await self.connect()
        try:
            tag: str = await connection.execute(statement, *arguments)
            return tag
        finally:
            await connection.close()


def migrate(url: str, key: str) -> None:
    """Bring the schema up to date the way an operator does."""
    done = subprocess.run(
        [*service.COMMAND, "migrate"],
        env={
            "PATH": os.environ.get("PATH", ""),
            "DATABASE_URL": url,
            "INTERNAL_API_KEY": key,
        },
        cwd=Path(sys.prefix),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"migrate failed ({done.returncode}):\n{done.stdout}{done.stderr}")


class Databases:
    """Databases for tests: empty ones, and clones of one that has been migrated."""

    def __init__(self, postgres: EmbeddedPostgres, key: str) -> None:
        self.postgres = postgres
        self.key = key
        self._numbers = itertools.count(1)
        self._template: str | None = None

    def empty(self) -> str:
        """The address of a new database with nothing in it."""
        name = f"empty_{next(self._numbers)}"
        self.postgres.create_database(name)
        return self.postgres.url(name)

    async def encoded(self, encoding: str) -> str:
        """The address of a new database with nothing in it and this encoding."""
        name = f"encoded_{next(self._numbers)}"
        await Database(self.postgres.url()).execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' "
            "LOCALE_PROVIDER libc LOCALE 'C'"
        )
        return self.postgres.url(name)

    def migrated(self) -> str:
        """The address of a new database with the schema in it."""
        if self._template is None:
            self._template = "template_of_tests"
            self.postgres.create_database(self._template)
            migrate(self.postgres.url(self._template), self.key)
        name = f"test_{next(self._numbers)}"
        self.postgres.create_database(name, self._template)
        return self.postgres.url(name)
