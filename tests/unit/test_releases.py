"""Replicas of a release before, on the schema of this one."""

import json

import pytest
from tests.support import recorded
from tests.unit.world import connected

from chat_api.db.schema import REVISIONS

RELEASES = sorted(path.stem for path in recorded.FOLDER.glob("*.json"))


def test_every_release_has_been_recorded() -> None:
    assert set(RELEASES) >= {"0002"}
    assert set(RELEASES) <= set(REVISIONS)


@pytest.mark.case(63)
@pytest.mark.parametrize("release", RELEASES)
async def test_what_a_release_before_asks_goes_on_working(
    fresh_database_url: str, release: str
) -> None:
    record = json.loads((recorded.FOLDER / f"{release}.json").read_text())
    async with connected(fresh_database_url) as connection:
        await recorded.replay(connection, record["statements"])
        left = await recorded.left(connection)
    assert left == record["left"]
    assert {row[4] for row in left["generations"]} == {"complete", "stopped", "interrupted"}
