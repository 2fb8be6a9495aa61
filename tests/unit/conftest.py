"""A database of the service's own kind for every test, and conversations to fill it with."""

from collections.abc import AsyncIterator

import pytest
from tests.support.database import Databases
from tests.unit.world import World, opened

from chat_api.db.database import Database


@pytest.fixture(scope="session")
def database_url(databases: Databases) -> str:
    """The database of all unit tests of a run.

    No service looks at it: one would take up the answers that a test lets run out.
    """
    return databases.migrated()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Database]:
    """The service's own pool on the database that all unit tests of a run share."""
    async with opened(database_url) as pool:
        yield pool


@pytest.fixture
async def fresh_pool(fresh_database_url: str) -> AsyncIterator[Database]:
    """The same on a database of the test's own, for what looks at all rows."""
    async with opened(fresh_database_url) as pool:
        yield pool


@pytest.fixture
def world(pool: Database) -> World:
    """Users, conversations and answers in the shared database."""
    return World(pool)


@pytest.fixture
def own_world(fresh_pool: Database) -> World:
    """The same in a database of the test's own."""
    return World(fresh_pool)
