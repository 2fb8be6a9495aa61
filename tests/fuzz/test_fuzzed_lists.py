"""Lists under any cursor, in any time zone, at any time up to the calendar's end."""

import asyncio
import base64
import json
import zoneinfo
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby, pairwise
from typing import Any

import asyncpg
import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support.auth import AuthServer
from tests.support.service import Service
from uuid_utils.compat import uuid7

from chat_api.api.conversations import _cursor, _read_cursor
from chat_api.db.queries import ListedConversation
from chat_api.errors import Invalid

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)
LAST_DAY = LATEST - timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
MOMENTS = st.integers(0, (LATEST - EPOCH) // MICROSECOND).map(lambda n: EPOCH + n * MICROSECOND)


@given(moment=MOMENTS, id_=st.uuids())
@example(moment=LATEST, id_=uuid7())
@example(moment=EPOCH, id_=uuid7())
def test_a_cursor_is_read_as_it_was_written(moment: datetime, id_: object) -> None:
    cursor = _cursor(ListedConversation("{}", str(id_), moment))
    assert _read_cursor(cursor) == (moment, str(id_))
    assert cursor.isascii()
    assert len(cursor) <= 200


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")


NEARLY = st.builds(
    lambda number, id_: encoded(f"{number}_{id_}"),
    st.integers() | st.text("0123456789٣۴ +-e.", max_size=25),
    st.uuids() | st.text(max_size=40) | st.from_regex(r"[0-9A-Fa-f-]{36}", fullmatch=True),
)


@given(text=st.text() | st.binary().map(lambda b: b.decode("latin-1")) | NEARLY)
def test_what_is_no_cursor_is_refused_and_nothing_else(text: str) -> None:
    with suppress(Invalid):
        moment, id_ = _read_cursor(text)
        # Another spelling of the padding is no other cursor.
        assert _read_cursor(_cursor(ListedConversation("{}", id_, moment))) == (moment, id_)


# --- on a live service ----------------------------------------------------------------------------

COUNT = 6


@dataclass
class Lister:
    """A user with a few conversations, whose times can be set."""

    http: httpx2.Client
    loop: asyncio.Runner
    connection: Any
    ids: list[str]

    def set_times(self, moments: list[datetime]) -> None:
        self.loop.run(
            self.connection.execute(
                "UPDATE conversations c SET updated_at = t.moment, created_at = t.moment "
                "FROM unnest($1::uuid[], $2::timestamptz[]) AS t(id, moment) WHERE c.id = t.id",
                self.ids,
                moments,
            )
        )

    def page(self, **params: str | int) -> dict[str, Any]:
        response = self.http.get("/api/conversations", params=params)
        assert response.status_code == 200, f"{params}: {response.text}"
        page: dict[str, Any] = response.json()
        return page


@pytest.fixture
def lister(service: Service, auth: AuthServer, database_url: str) -> Iterator[Lister]:
    # Hypothesis calls its tests many times, each time outside of any event loop.
    with (
        asyncio.Runner() as runner,
        httpx2.Client(
            base_url=service.url,
            headers=auth.user("lister").headers,
            verify=False,
            trust_env=False,
            timeout=20,
        ) as http,
    ):
        ids = [http.post("/api/conversations").json()["id"] for _ in range(COUNT)]
        connection = runner.run(asyncpg.connect(dsn=database_url.replace("+asyncpg", "")))
        yield Lister(http, runner, connection, ids)
        runner.run(connection.close())


def transitions(zone: zoneinfo.ZoneInfo, year: int) -> list[datetime]:
    """The hours of a year in which the zone's offset changes, to the hour before it."""
    hours = (datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(8784))
    offsets = [(hour, hour.astimezone(zone).utcoffset()) for hour in hours]
    return [before for (before, one), (_, other) in pairwise(offsets) if one != other]


@st.composite
def zones_and_moments(draw: st.DrawFn) -> tuple[str, list[datetime]]:
    """A zone, and moments around its midnights, its changes of the clock, or anywhere."""
    name = draw(st.sampled_from(sorted(zoneinfo.available_timezones())))
    zone = zoneinfo.ZoneInfo(name)
    around = draw(st.sampled_from(["midnight", "change", "anywhere", "the end"]))
    near: datetime
    if around == "midnight":
        day = draw(st.dates(date(2026, 1, 1), date(2040, 1, 1)))
        near = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    elif around == "change":
        changes = transitions(zone, draw(st.integers(2026, 2030)))
        near = draw(st.sampled_from(changes)) if changes else datetime(2026, 11, 22, tzinfo=UTC)
    elif around == "the end":
        near = datetime(9999, 12, 30, 12, tzinfo=UTC)
    else:
        near = draw(MOMENTS)
    steps = st.integers(-2 * 3600 * 10**6, 26 * 3600 * 10**6) | st.sampled_from([-1, 0, 1])
    moments = draw(st.lists(steps, min_size=COUNT, max_size=COUNT))
    room = (LATEST - near) // MICROSECOND
    return name, [near + min(step, room) * MICROSECOND for step in moments]


def day_of(moment: datetime, zone: zoneinfo.ZoneInfo) -> str:
    """The date there, by adding the offset; where the calendar ends, the date in UTC."""
    # The offset of the day before is that of the last day, on which it cannot be asked for.
    offset = (moment - timedelta(days=moment > LAST_DAY)).astimezone(zone).utcoffset()
    assert offset is not None
    try:
        return (moment + offset).date().isoformat()
    except OverflowError:
        return moment.date().isoformat()


@pytest.mark.case(33)
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(drawn=zones_and_moments())
@example(drawn=("Pacific/Kiritimati", [LATEST] * COUNT))
@example(drawn=("Etc/GMT+12", [LATEST] * COUNT))
def test_every_conversation_stands_under_its_date_in_the_zone(
    lister: Lister, drawn: tuple[str, list[datetime]]
) -> None:
    name, moments = drawn
    zone = zoneinfo.ZoneInfo(name)
    lister.set_times(moments)
    page = lister.page(tz=name)
    wanted = sorted(zip(moments, lister.ids, strict=True), reverse=True)
    assert [item["id"] for item in page["items"]] == [id_ for _, id_ in wanted]
    days = [
        (day, [id_ for _, id_ in group])
        for day, group in groupby(wanted, lambda pair: day_of(pair[0], zone))
    ]
    assert [(day, [i["id"] for i in items]) for day, items in page["grouped"].items()] == days
    assert [item for items in page["grouped"].values() for item in items] == page["items"]


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    moments=st.lists(
        st.sampled_from([EPOCH, datetime(2026, 11, 22, tzinfo=UTC)]) | MOMENTS,
        min_size=COUNT,
        max_size=COUNT,
    ),
    limit=st.integers(1, COUNT + 1),
)
@example(moments=[LATEST] * COUNT, limit=1)
def test_pages_by_cursor_hold_everything_once_in_order(
    lister: Lister, moments: list[datetime], limit: int
) -> None:
    lister.set_times(moments)
    found: list[str] = []
    cursor: dict[str, str | int] = {}
    while True:
        page = lister.page(limit=limit, **cursor)
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        assert len(page["items"]) == limit
        cursor = {"cursor": page["next_cursor"]}
    wanted = sorted(zip(moments, lister.ids, strict=True), reverse=True)
    assert found == [id_ for _, id_ in wanted]


@pytest.mark.case(33)
@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    name=st.sampled_from(["cursor", "tz", "limit", "offset", "before", "after"]),
    value=st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
    | st.integers().map(str)
    | NEARLY,
)
def test_no_parameter_is_answered_by_a_crash(lister: Lister, name: str, value: str) -> None:
    for path in ("", f"/{lister.ids[0]}", f"/{lister.ids[0]}/stream"):
        response = lister.http.get(f"/api/conversations{path}", params={name: value})
        assert response.status_code in {200, 204, 400, 404, 422}, response.text
        if response.status_code >= 400:
            assert json.loads(response.content)["status"] == response.status_code
