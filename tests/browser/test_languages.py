"""The interface in the languages that it has."""

import re

import pytest
from tests.browser.past import Past
from tests.browser.tab import Visit, expect
from tests.browser.test_looks import PHONE, fits
from tests.support.auth import AuthServer


@pytest.mark.parametrize(
    ("browser_language", "shown", "placeholder", "facts"),
    [
        ("de-AT", "de", "Antworten…", "d20 · 12 Token · 0,5 s · 25 Token/s"),
        ("hi-IN", "hi", "जवाब लिखें…", "d20 · 12 टोकन · 0.5 से॰ · 25 टोकन/से॰"),
        ("fr-FR", "en", "Reply…", "d20 · 12 tokens · 0.5 s · 25 tokens/s"),
    ],
)
async def test_the_page_speaks_the_language_of_the_browser(
    visit: Visit,
    auth: AuthServer,
    past: Past,
    browser_language: str,
    shown: str,
    placeholder: str,
    facts: str,
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice, f"/c/{talk}", locale=browser_language, viewport=PHONE)
    await expect(tab.page.get_by_placeholder(placeholder)).to_be_visible()
    await expect(tab.page.locator("html")).to_have_attribute("lang", shown)
    await expect(tab.page.locator("html")).to_have_attribute("dir", "ltr")
    await expect(tab.text(facts)).to_be_visible()
    assert await fits(tab)
    await tab.check_accessible()
    await tab.page.keyboard.press("Control+/")
    await expect(tab.page.get_by_role("dialog")).to_be_visible()
    await tab.check_accessible()


async def test_a_language_is_chosen_for_all_tabs_and_kept(visit: Visit, auth: AuthServer) -> None:
    tab = await visit(auth.user("alice"), None)
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    await tab.page.goto("/")
    beside = await visit(beside=tab)
    await tab.composer.fill("Ein Entwurf")
    assert not any(re.search(r"/assets/(de|hi)-", url) for url in asked), "loaded unasked"
    await tab.button("Answer settings").click()
    await tab.page.get_by_role("combobox", name="Language").select_option("Deutsch")
    await expect(tab.page.get_by_role("dialog", name="Einstellungen")).to_be_visible()
    await tab.check_accessible()
    for one in (tab, beside):
        await expect(one.page.locator("html")).to_have_attribute("lang", "de")
        await expect(one.page.get_by_placeholder("Frag etwas…")).to_be_attached()
    await tab.page.reload()
    await expect(tab.page.get_by_placeholder("Frag etwas…")).to_have_value("Ein Entwurf")
    await tab.page.get_by_role("button", name="Einstellungen für Antworten").click()
    await tab.page.get_by_role("combobox", name="Sprache").select_option("Wie der Browser")
    await expect(tab.page.get_by_role("dialog", name="Settings")).to_be_visible()


async def test_what_the_service_refuses_is_said_in_the_chosen_language(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice, locale="de-DE")
    tab.failed_requests_are_fine = True
    problem = {"type": "urn:samosachaat:problem:too_many_streams", "detail": "Too many streams."}
    await tab.page.route(
        "**/export?*",
        lambda route: route.fulfill(status=429, json=problem, headers={"Retry-After": "90"}),
    )
    await tab.button("Mehr zu Talk").click()
    await tab.page.get_by_role("menuitem", name="Als Markdown exportieren").click()
    await expect(
        tab.text("Nicht exportiert: Es sind zu viele Antworten zugleich geöffnet.")
    ).to_be_visible()


async def test_a_language_that_cannot_be_loaded_leaves_the_page_in_english(
    visit: Visit, auth: AuthServer
) -> None:
    tab = await visit(auth.user("alice"), None, locale="de-DE")
    tab.failed_requests_are_fine = True
    await tab.page.route(re.compile(r"/assets/de-.*\.js$"), lambda route: route.abort())
    await tab.page.goto("/")
    await expect(tab.composer).to_be_visible()
    await expect(tab.page.locator("html")).to_have_attribute("lang", "en")


async def test_a_language_that_the_browser_cannot_format_for_is_passed_over(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice, None)
    languages = "Object.defineProperty(navigator, 'languages', {get: () => ['en-US@posix']})"
    await tab.page.add_init_script(languages)
    await tab.page.goto(f"/c/{talk}")
    await expect(tab.answer).to_contain_text("12 tokens")
