"""The chat page, served by the API itself: SERVE_WEB."""

import gzip
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from tests.support.client import Client
from tests.support.service import Service, ServiceWith
from tests.support.shapes import NOWHERE, check_problem

from chat_api import frontend

SIGN_IN = "https://sign-in.example:8443/auth/sign-in"


@pytest.fixture
def page_service(service_with: ServiceWith) -> Service:
    assert frontend.is_built(), frontend.NOT_BUILT
    return service_with(SERVE_WEB="true", WEB_SIGN_IN_URL=SIGN_IN)


@pytest.fixture
async def page(page_service: Service) -> AsyncIterator[Client]:
    """Somebody who opens the page."""
    async with Client(page_service.url) as client:
        yield client


async def an_asset(page: Client) -> str:
    """The path of the page's script."""
    found = re.search(r'src="(/assets/[^"]+\.js)"', (await page.get("/")).text)
    assert found is not None
    return found[1]


def directives(response: httpx2.Response) -> dict[str, str]:
    """The content security policy, by directive."""
    policy = response.headers["content-security-policy"]
    return dict(part.strip().partition(" ")[::2] for part in policy.split(";"))


async def test_the_page_is_there_under_its_addresses(page: Client) -> None:
    for path in ("/", f"/c/{NOWHERE}", "/c/anything"):
        response = await page.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert "<title>" in response.text


async def test_it_runs_nothing_but_its_own_code_and_talks_to_its_own_neighbours(
    page: Client,
) -> None:
    response = await page.get("/")
    policy = directives(response)
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["trusted-types"] == "worker"
    assert policy["connect-src"] == "'self' https://sign-in.example:8443"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


async def test_its_assets_are_kept_for_good(page: Client) -> None:
    response = await page.get(await an_asset(page))
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/javascript; charset=utf-8"
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_its_configuration_names_the_neighbours(page: Client) -> None:
    response = await page.get("/config.json")
    assert response.json() == {"api": "", "signIn": SIGN_IN}
    assert response.headers["cache-control"] == "no-cache"


async def test_without_a_place_to_sign_in_it_says_so(service_with: ServiceWith) -> None:
    async with Client(service_with(SERVE_WEB="true").url) as page:
        assert (await page.get("/config.json")).json() == {"api": "", "signIn": None}
        assert directives(await page.get("/"))["connect-src"] == "'self'"


async def test_what_the_browser_has_is_not_sent_again(page: Client) -> None:
    for path in ("/", "/config.json", await an_asset(page)):
        first = await page.get(path)
        tag = first.headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}'):
            again = await page.get(path, headers={"if-none-match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
            assert again.headers["cache-control"] == first.headers["cache-control"]
        changed = await page.get(path, headers={"if-none-match": '"other"'})
        assert changed.status_code == 200


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("GZIP ; q=0.001", True),
        ("*;q=0, gzip", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("*, gzip;q=0", False),
        ("gzip;q=0.000, *;q=1", False),
        ("gzip;q=nonsense", False),
    ],
)
async def test_it_is_compressed_for_whoever_takes_that(
    page_service: Service, page: Client, accepted: str, packed: bool
) -> None:
    path = await an_asset(page)
    plain = (await page.get(path, headers={"accept-encoding": "identity"})).content
    async with httpx2.AsyncClient(base_url=page_service.url, trust_env=False) as http:
        request = http.build_request("GET", path, headers={"accept-encoding": accepted})
        response = await http.send(request, stream=True)
        body = b"".join([piece async for piece in response.aiter_raw()])
    assert "Accept-Encoding" in response.headers["vary"]
    assert (response.headers.get("content-encoding") == "gzip") is packed
    assert (gzip.decompress(body) if packed else body) == plain
    assert int(response.headers["content-length"]) == len(body)


async def test_compressed_and_not_are_told_apart(page: Client) -> None:
    path = await an_asset(page)
    tags = {
        (await page.get(path, headers={"accept-encoding": accepted})).headers["etag"]
        for accepted in ("gzip", "identity")
    }
    assert len(tags) == 2


async def test_its_head_can_be_asked_for(page: Client) -> None:
    for path in ("/", await an_asset(page)):
        head = await page.request("HEAD", path)
        whole = await page.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == whole.headers["content-length"]


async def test_what_the_page_has_not_is_a_problem_document(page: Client) -> None:
    for path in (
        "/assets/nothing.js",
        "/assets/",
        "/assets/../index.html",
        "/assets/%2e%2e/%2e%2e/settings.py",
        "/assets/..%2f..%2fsettings.py",
        "/nothing",
        "/c/",
        "/c/a/b",
        "/index.html/",
        "/frontend.py",
    ):
        check_problem(await page.get(path), 404)
    check_problem(await page.post("/", json={}), 405)


NAVIGATION = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.case(61)
async def test_a_person_at_an_unknown_address_gets_the_page_and_a_program_gets_the_error(
    page: Client,
) -> None:
    index = (await page.get("/")).text
    for path in ("/nothing", "/c/", "/c/a/b", "/settings", "/apinothing", "/a%0Ab"):
        response = await page.get(path, headers=NAVIGATION)
        assert response.status_code == 404
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.text == index
        known = {**NAVIGATION, "if-none-match": response.headers["etag"]}
        assert (await page.get(path, headers=known)).status_code == 404
        for accepted in ("*/*", "application/json", "text/html;q=0", ""):
            check_problem(await page.get(path, headers={"accept": accepted}), 404)
    theirs = await page.get("/v1/nothing", headers=NAVIGATION)
    assert (theirs.status_code, list(theirs.json())) == (404, ["error"])
    for path in ("/api/nothing", "/api", "/assets/nothing.js"):
        check_problem(await page.get(path, headers=NAVIGATION), 404)
        check_problem(await page.post(path, json={}), 405 if "assets" in path else 404)


async def test_its_icon_is_where_browsers_look_for_it(page: Client) -> None:
    icon = await page.get("/favicon.ico")
    assert (icon.status_code, icon.headers["content-type"]) == (200, "image/x-icon")


async def test_it_stands_in_front_of_nothing(page: Client) -> None:
    assert (await page.get("/api/health")).json()["service"] == "chat-api"
    assert (await page.get("/metrics")).text.startswith("# HELP")
    assert "openapi" in (await page.get("/openapi.json")).json()
    assert "swagger" in (await page.get("/docs")).text
    check_problem(await page.get("/api/conversations"), 401)
    check_problem(await page.get("/api/nothing"), 404)
    check_problem(await page.request("DELETE", "/api/health"), 405)


async def test_it_is_no_part_of_the_description(page: Client, client: Client) -> None:
    described = [await each.get("/openapi.json") for each in (page, client)]
    assert described[0].json() == described[1].json()


async def test_it_is_served_only_where_that_is_wanted(client: Client) -> None:
    for path in ("/", f"/c/{NOWHERE}", "/config.json"):
        check_problem(await client.get(path), 404)


def test_a_page_that_was_not_built_stops_the_start(
    usual_env: dict[str, str], tmp_path: Path
) -> None:
    ours = Path(frontend.__file__).parent
    shutil.copytree(
        ours, tmp_path / "chat_api", ignore=shutil.ignore_patterns("page", "__pycache__")
    )
    runs = "import sys; sys.path.insert(0, sys.argv.pop(1)); from chat_api.cli import main; main()"
    service = Service(
        {**usual_env, "SERVE_WEB": "true"},
        folder=tmp_path,
        command=(sys.executable, "-c", runs, str(tmp_path)),
    )
    try:
        assert service.start(wait=False).wait() == 2
        assert "SERVE_WEB" in service.text()
        assert frontend.NOT_BUILT in service.text()
        assert "Traceback" not in service.text()
    finally:
        service.close()
