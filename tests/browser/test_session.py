"""Who is there: signing in and out, and a sign-in that ends in the middle of it all."""

import json

import pytest
from tests.browser.past import Past
from tests.browser.site import Place
from tests.browser.tab import Tab, Visit, expect
from tests.browser.watching import check_growing, numbers, shown_texts, watch_answer
from tests.support.auth import AuthServer
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import ServiceWith


async def sign_in(tab: Tab, name: str) -> None:
    await tab.page.get_by_role("textbox", name="Your name").fill(name)
    await tab.button("Sign in").click()


async def test_one_signs_in_by_choosing_a_name(visit: Visit, inference: Inference) -> None:
    tab = await visit()
    await expect(tab.page.get_by_role("textbox", name="Your name")).to_be_focused()
    await tab.page.keyboard.type("Chutney Ünal")
    await tab.page.keyboard.press("Enter")
    await expect(tab.page.get_by_role("heading", level=1)).to_contain_text("Chutney")
    await tab.ask("Hello")
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    await tab.page.reload()
    await expect(tab.answer).to_contain_text("Samosas are triangles.")


async def test_a_name_is_asked_for(visit: Visit) -> None:
    tab = await visit()
    await tab.button("Sign in").click()
    await expect(tab.page.get_by_role("alert")).to_have_text("Please enter a name.")


async def test_a_sign_in_that_cannot_be_reached_says_so(visit: Visit, auth: AuthServer) -> None:
    tab = await visit()
    tab.failed_requests_are_fine = True
    with auth.refusing():
        await sign_in(tab, "samosa")
        await expect(tab.page.get_by_role("alert")).to_contain_text("cannot be reached")
    await tab.button("Sign in").click()
    await expect(tab.composer).to_be_visible()


async def test_the_address_that_one_came_for_is_opened_after_signing_in(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    tab = await visit()
    await sign_in(tab, "samosa")
    await expect(tab.composer).to_be_visible()
    session = json.loads(await tab.page.evaluate("localStorage['samosachaat.session']"))
    samosa = auth.user("samosa", user_id=session["user"]["id"])
    talk = await past.conversation(samosa, "Talk", "Hello", "Welcome back")
    other = await visit(path=f"/c/{talk}")
    await sign_in(other, "samosa")
    await expect(other.answer).to_contain_text("Welcome back")


async def test_signing_out_leaves_nothing_to_see_in_any_tab(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Private", "Psst", "A secret")
    first = await visit(alice, f"/c/{talk}")
    second = await visit(beside=first, path=f"/c/{talk}")
    await expect(second.answer).to_contain_text("A secret")
    await first.button("alice: settings and sign-out").click()
    await first.page.get_by_role("menuitem", name="Sign out").click()
    for tab in (first, second):
        await expect(tab.page.get_by_role("textbox", name="Your name")).to_be_visible()
        await expect(tab.text("A secret")).to_have_count(0)
        await expect(tab.text("Private")).to_have_count(0)


async def test_a_draft_of_one_person_is_not_shown_to_the_next(
    visit: Visit, auth: AuthServer
) -> None:
    tab = await visit(auth.user("alice"))
    await tab.composer.fill("For my eyes only")
    await tab.button("alice: settings and sign-out").click()
    await tab.page.get_by_role("menuitem", name="Sign out").click()
    await sign_in(tab, "bob")
    await expect(tab.composer).to_be_empty()


async def test_an_expired_sign_in_keeps_what_was_typed_and_asks_again(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    tab = await visit()
    tab.failed_requests_are_fine = True
    await sign_in(tab, "samosa")
    await expect(tab.composer).to_be_visible()
    session = json.loads(await tab.page.evaluate("localStorage['samosachaat.session']"))
    account = auth.user("samosa", user_id=session["user"]["id"])
    talk = await past.conversation(account, "Talk", "Hello", "Hi")
    await tab.page.goto(f"/c/{talk}")
    await expect(tab.answer).to_contain_text("Hi")
    await tab.composer.fill("Written just too late")
    await tab.expire()
    await tab.composer.press("Enter")
    dialog = tab.page.get_by_role("dialog", name="Please sign in again")
    await expect(dialog.get_by_role("textbox", name="Your name")).to_have_value("samosa")
    await tab.page.unroute_all(behavior="ignoreErrors")
    await dialog.get_by_role("button", name="Sign in").click()
    await expect(dialog).to_have_count(0)
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    await expect(tab.questions).to_have_text(["Hello", "Written just too late"])


@pytest.mark.case(61)
async def test_a_sign_in_that_expires_in_mid_answer_keeps_what_was_read_and_goes_on(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    more = Gate("more")
    tokens = numbers(300)
    inference.default = Script().tokens(*tokens[:150]).wait(more).tokens(*tokens[150:]).done()
    tab = await visit()
    tab.failed_requests_are_fine = True
    await sign_in(tab, "samosa")
    await expect(tab.composer).to_be_visible()
    await watch_answer(tab)
    await tab.ask("Count")
    await expect(tab.answer).to_contain_text("n149")
    await tab.expire("**/stream")
    # The connection is made again, as when a network changes.
    await tab.page.evaluate("dispatchEvent(new Event('online'))")
    dialog = tab.page.get_by_role("dialog", name="Please sign in again")
    await expect(dialog).to_be_visible()
    await expect(tab.page.get_by_text("n149")).to_be_visible()
    await tab.page.unroute_all(behavior="ignoreErrors")
    await dialog.get_by_role("button", name="Sign in").click()
    await expect(dialog).to_have_count(0)
    more.open()
    await expect(tab.button("Send")).to_be_visible()
    check_growing(await shown_texts(tab), tokens)


async def test_an_expired_sign_in_keeps_the_draft_of_a_new_conversation(
    visit: Visit, auth: AuthServer
) -> None:
    tab = await visit(auth.user("samosa"))
    tab.failed_requests_are_fine = True
    await expect(tab.composer).to_be_visible()
    await tab.expire()
    await tab.ask("Written just too late")
    dialog = tab.page.get_by_role("dialog", name="Please sign in again")
    await expect(dialog).to_be_visible()
    await tab.page.reload()
    await expect(dialog).to_be_visible()
    await expect(tab.composer).to_have_value("Written just too late")


@pytest.fixture
def same_origin(service_with: ServiceWith, auth: AuthServer, inference: Inference) -> Place:
    """The page as the API serves it itself, without a place to sign in."""
    return Place(service_with(SERVE_WEB="true").url)


async def test_without_a_place_to_sign_in_a_token_is_pasted(
    visit: Visit, auth: AuthServer, same_origin: Place
) -> None:
    tab = await visit(site=same_origin)
    tab.failed_requests_are_fine = True
    field = tab.page.get_by_role("textbox", name="Access token")
    for wrong, sentence in (
        ("of-nobody", "does not accept this token"),
        ("two words", "not an access token"),
        ("tökén", "not an access token"),
    ):
        await field.fill(wrong)
        await tab.button("Sign in").click()
        await expect(tab.page.get_by_role("alert")).to_contain_text(sentence)
        await expect(tab.page.get_by_role("dialog")).to_have_count(0)
    await field.fill(f" {auth.user().token}\n")
    await tab.button("Sign in").click()
    await tab.ask("Hello")
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    await expect(tab.page).to_have_url(f"{same_origin.origin}/c/{await tab.conversation_id()}")
    await tab.page.reload()
    await expect(tab.answer).to_contain_text("Samosas are triangles.")


@pytest.mark.case(61)
async def test_an_unknown_address_says_so_and_leads_on(
    visit: Visit, auth: AuthServer, same_origin: Place
) -> None:
    for path in ("/nothing", "/c/nothing"):
        tab = await visit(auth.user(), path, site=same_origin)
        tab.wrong.clear()  # the browser reports the 404
        await expect(tab.page.get_by_role("heading", name="Page not found")).to_be_visible()
        main = tab.page.get_by_role("main")
        await main.get_by_role("button", name="New conversation").click()
        await expect(tab.composer).to_be_visible()
        await expect(tab.page).to_have_url(f"{same_origin.origin}/")
