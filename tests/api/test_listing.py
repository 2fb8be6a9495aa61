"""The list of conversations: order, pages, groups by date."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.client import Client
from tests.support.database import Database
from tests.support.shapes import LIST_PAGE, check_conversation, check_invalid


async def page(client: Client, **params: Any) -> dict[str, Any]:
    """One page of the list."""
    response = await client.get("/api/conversations", params=params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    assert set(found) == LIST_PAGE
    for conversation in found["items"]:
        check_conversation(conversation)
    grouped = [item for items in found["grouped"].values() for item in items]
    assert grouped == found["items"]
    assert list(found["grouped"]) == sorted(found["grouped"], reverse=True)
    return found


async def pages(client: Client, **params: Any) -> list[list[str]]:
    """The ids on every page, following `next_cursor`."""
    found: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await page(client, **params, **cursor)
        found.append([item["id"] for item in answer["items"]])
        assert len(found) < 100, "the pages do not end"
        if answer["next_cursor"] is None:
            return found
        assert isinstance(answer["next_cursor"], str)
        cursor = {"cursor": answer["next_cursor"]}


async def create(client: Client, count: int) -> list[str]:
    """Make conversations; their ids, newest first."""
    return [(await client.create(title=f"Number {n}"))["id"] for n in range(count)][::-1]


async def set_time(db: Database, client: Client, moment: datetime, title: str = "%") -> None:
    """Say when the user's conversations with such a title were last active."""
    tag = await db.execute(
        "UPDATE conversations SET updated_at = $1, created_at = least(created_at, $1)"
        " WHERE user_id = $2 AND title LIKE $3",
        moment,
        client.user_id,
        title,
    )
    assert tag != "UPDATE 0"


async def test_the_tags_are_those_of_all_visible_conversations_of_the_user(
    alice: Client, bob: Client, db: Database
) -> None:
    async def tags(client: Client) -> list[str]:
        response = await client.get("/api/tags")
        assert response.status_code == 200
        found: list[str] = response.json()["items"]
        return found

    assert await tags(alice) == []
    await bob.create(tags=["of bob"])
    for chosen in (["work", "a b"], [], ["ä", "work", "Work"], ["gone"]):
        last = await alice.create(tags=chosen)
    await db.execute("UPDATE conversations SET expires_at = now() WHERE id = $1", last["id"])
    assert await tags(alice) == ["Work", "a b", "work", "ä"]
    await db.execute(
        "INSERT INTO conversations (id, user_id, title, title_given, model_tag, tags) "
        "SELECT gen_random_uuid(), $1, 'T', true, 'default', "
        "ARRAY(SELECT format('t%s', 20 * n + k) FROM generate_series(1, 20) k) "
        "FROM generate_series(1, 60) n",
        alice.user_id,
    )
    assert len(await tags(alice)) == 1000


async def test_a_new_user_has_an_empty_list(alice: Client) -> None:
    assert await page(alice) == {
        "items": [],
        "grouped": {},
        "limit": 50,
        "offset": 0,
        "next_cursor": None,
    }


async def test_the_list_shows_ones_own_newest_first(alice: Client, bob: Client) -> None:
    mine = await create(alice, 3)
    await create(bob, 2)
    assert [item["id"] for item in (await page(alice))["items"]] == mine


async def test_a_message_moves_its_conversation_to_the_top(alice: Client) -> None:
    third, second, first = await create(alice, 3)
    await alice.ask(first, "Up with you")
    assert [item["id"] for item in (await page(alice))["items"]] == [first, third, second]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8, 200])
async def test_pages_by_cursor_show_every_item_once(alice: Client, limit: int) -> None:
    ids = await create(alice, 7)
    found = await pages(alice, limit=limit)
    assert [item for ids_of_page in found for item in ids_of_page] == ids
    assert all(len(ids_of_page) <= limit for ids_of_page in found)
    assert found[-1], "the last page is empty"


async def test_pages_are_stable_where_all_times_are_equal(alice: Client, db: Database) -> None:
    ids = await create(alice, 7)
    await set_time(db, alice, datetime(2026, 11, 20, 12, tzinfo=UTC))
    found = await pages(alice, limit=2)
    flat = [item for ids_of_page in found for item in ids_of_page]
    assert sorted(flat) == sorted(ids)
    assert flat == [item["id"] for item in (await page(alice))["items"]]


async def test_a_cursor_keeps_its_place_while_new_items_come_above(alice: Client) -> None:
    ids = await create(alice, 4)
    first = await page(alice, limit=2)
    await create(alice, 3)
    second = await page(alice, limit=10, cursor=first["next_cursor"])
    assert [item["id"] for item in second["items"]] == ids[2:]


async def test_the_item_at_the_cursor_may_be_deleted(alice: Client) -> None:
    ids = await create(alice, 4)
    first = await page(alice, limit=2)
    await alice.delete(f"/api/conversations/{ids[1]}")
    second = await page(alice, limit=10, cursor=first["next_cursor"])
    assert [item["id"] for item in second["items"]] == ids[2:]


async def test_favourites_are_a_list_of_their_own(alice: Client, bob: Client) -> None:
    ids = await create(alice, 7)
    (foreign,) = await create(bob, 1)
    await bob.patch(f"/api/conversations/{foreign}", json={"is_favorited": True})
    chosen = [ids[1], ids[2], ids[6]]
    for conversation_id in chosen:
        await alice.patch(f"/api/conversations/{conversation_id}", json={"is_favorited": True})
    assert await pages(alice, limit=2, favorited="true") == [chosen[:2], chosen[2:]]
    assert await pages(alice, limit=50, favorited="false") == [
        [conversation_id for conversation_id in ids if conversation_id not in chosen]
    ]
    skipped = await page(alice, offset=1, favorited="true")
    assert [item["id"] for item in skipped["items"]] == chosen[1:]


async def test_pages_by_offset_skip_so_many(alice: Client) -> None:
    ids = await create(alice, 5)
    found = await page(alice, limit=2, offset=3)
    assert [item["id"] for item in found["items"]] == ids[3:]
    assert (found["limit"], found["offset"]) == (2, 3)
    beyond = await page(alice, offset=1000)
    assert (beyond["items"], beyond["grouped"]) == ([], {})


async def test_a_foreign_cursor_shows_nothing_foreign(alice: Client, bob: Client) -> None:
    await create(bob, 3)
    cursor = (await page(bob, limit=1))["next_cursor"]
    mine = await create(alice, 2)
    response = await alice.get("/api/conversations", params={"cursor": cursor})
    if response.status_code == 200:
        assert {item["id"] for item in response.json()["items"]} <= set(mine)
    else:
        check_invalid(response, "cursor")


@pytest.mark.case(33)
@pytest.mark.parametrize("limit", [1, 199, 200])
async def test_limits_up_to_200_are_taken(alice: Client, limit: int) -> None:
    assert (await page(alice, limit=limit))["limit"] == limit


@pytest.mark.case(33)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "-1"),
        ("limit", "ten"),
        ("limit", "1.5"),
        ("limit", ""),
        ("limit", "9" * 400),
        ("offset", "-1"),
        ("offset", "ten"),
        ("offset", "9" * 400),
        ("cursor", "nonsense"),
        ("cursor", "%00"),
        ("cursor", "\x00"),
        ("cursor", "é€😀"),
        ("cursor", "A" * 5000),
        ("cursor", "eyJhIjoxfQ=="),
        ("favorited", "yes"),
        ("favorited", ""),
        ("tz", "Mars/Olympus"),
        ("tz", "../../etc/passwd"),
        ("tz", "/etc/passwd"),
        ("tz", "\x00"),
        ("tz", ""),
        ("tz", "A" * 5000),
        ("tz", "Europe"),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_a_parameter_out_of_bounds_is_refused(alice: Client, name: str, value: str) -> None:
    check_invalid(await alice.get("/api/conversations", params={name: value}), name)


async def test_an_offset_beyond_what_the_database_counts_is_no_crash(alice: Client) -> None:
    response = await alice.get("/api/conversations", params={"offset": str(2**63)})
    assert response.status_code in {200, 422}


@pytest.mark.parametrize(
    ("tz", "date"),
    [
        (None, "2026-11-21"),
        ("UTC", "2026-11-21"),
        ("Asia/Kolkata", "2026-11-22"),
        ("America/New_York", "2026-11-21"),
        ("Pacific/Kiritimati", "2026-11-22"),
    ],
)
async def test_items_are_grouped_by_the_date_where_the_user_is(
    alice: Client, db: Database, tz: str | None, date: str
) -> None:
    await create(alice, 1)
    await set_time(db, alice, datetime(2026, 11, 21, 23, 30, tzinfo=UTC))
    found = await page(alice, **({"tz": tz} if tz else {}))
    assert list(found["grouped"]) == [date]


async def test_midnight_divides_groups_in_the_users_zone(alice: Client, db: Database) -> None:
    await create(alice, 3)
    # Midnight in Kolkata (UTC+5:30) is 18:30 UTC.
    await set_time(db, alice, datetime(2026, 11, 21, 18, 29, 59, 999999, tzinfo=UTC), "Number 0")
    await set_time(db, alice, datetime(2026, 11, 21, 18, 30, tzinfo=UTC), "Number 1")
    await set_time(db, alice, datetime(2026, 11, 22, 18, 29, 59, tzinfo=UTC), "Number 2")
    found = await page(alice, tz="Asia/Kolkata")
    titles = {date: [item["title"] for item in items] for date, items in found["grouped"].items()}
    assert titles == {"2026-11-22": ["Number 2", "Number 1"], "2026-11-21": ["Number 0"]}
    assert list(titles) == ["2026-11-22", "2026-11-21"]
