"""The keys that do something, and the list of them."""

import pytest
from playwright.async_api import Locator
from tests.browser.past import Past
from tests.browser.tab import Tab, Visit, expect
from tests.support.auth import AuthServer


def dialog_of(tab: Tab) -> Locator:
    return tab.page.get_by_role("dialog", name="Keyboard shortcuts")


async def test_the_list_opens_from_everywhere_but_a_text_field_keeps_its_signs(
    visit: Visit, auth: AuthServer
) -> None:
    tab = await visit(auth.user("alice"))
    dialog, keys = dialog_of(tab), tab.page.keyboard
    await expect(tab.composer).to_be_focused()
    await keys.press("?")
    await expect(tab.composer).to_have_value("?")
    await expect(dialog).to_have_count(0)
    await keys.press("Control+/")
    await expect(dialog).to_be_visible()
    await tab.check_accessible()
    await keys.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(tab.composer).to_be_focused()
    await tab.page.get_by_role("link", name="New conversation", exact=True).focus()
    await keys.press("?")
    await expect(dialog).to_be_visible()
    await dialog.get_by_role("button", name="Close").click()
    await keys.press("Control+k")
    await keys.type("shortc")
    await keys.press("Enter")
    await expect(dialog).to_be_visible()
    await keys.press("Escape")
    await tab.button("alice: settings and sign-out").click()
    await tab.page.get_by_role("menuitem", name="Keyboard shortcuts").click()
    await expect(dialog).to_be_visible()


@pytest.mark.parametrize("what", ["find a conversation", "new conversation", "rename"])
async def test_a_key_does_what_the_list_says(
    visit: Visit, auth: AuthServer, past: Past, what: str
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice, f"/c/{talk}")
    await expect(tab.answer).to_be_visible()
    await tab.page.keyboard.press("Control+/")
    line = dialog_of(tab).locator("dl > div").filter(has_text=what)
    await expect(line).to_be_visible()
    pressed = "+".join(await line.locator("kbd").all_inner_texts()).replace("Ctrl", "Control")
    await tab.page.keyboard.press("Escape")
    await tab.page.get_by_role("link", name="Talk", exact=True).focus()
    await tab.page.keyboard.press(pressed)
    match what:
        case "find a conversation":
            await expect(tab.page.get_by_role("combobox")).to_be_focused()
        case "new conversation":
            await expect(tab.page).to_have_url("/")
        case _:
            await expect(tab.page.get_by_role("textbox", name="New title")).to_be_focused()
