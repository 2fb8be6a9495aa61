"""Readiness after a write was refused: until one is tried, and works."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.unit.world import connected

from chat_api.api.health import accepts_writes
from chat_api.db import database, housekeeping
from chat_api.db.database import Database
from chat_api.errors import DatabaseUnavailable

FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON subscriptions EXECUTE FUNCTION full_disk()
"""


@asynccontextmanager
async def full_disk(url: str) -> AsyncIterator[None]:
    """PostgreSQL's "disk full", raised by a trigger."""
    async with connected(url) as connection:
        await connection.execute(FULL)
        try:
            yield
        finally:
            await connection.execute("DROP TRIGGER full_disk ON subscriptions")


async def test_a_refused_write_speaks_against_the_database_until_one_works(
    fresh_pool: Database, fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = fresh_pool
    assert await accepts_writes(db)
    async with full_disk(fresh_database_url):
        with pytest.raises(DatabaseUnavailable):
            await housekeeping.try_to_write(db)
        assert not await accepts_writes(db)  # without trying
        monkeypatch.setattr(database, "REFUSAL_SECONDS", 0.0)
        assert not await accepts_writes(db)  # it tries
    assert await accepts_writes(db)
    assert not db.refusals.any
    # What was tried is swept.
    await housekeeping.sweep(db, 300)
    assert await db.fetch("SELECT 1 FROM subscriptions") == []
