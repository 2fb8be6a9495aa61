"""Themes, widths, keys, and what somebody sees who cannot see."""

import re
from typing import Any

import pytest
from playwright.async_api import Locator, ViewportSize
from tests.browser.past import Past
from tests.browser.tab import Tab, Visit, expect
from tests.browser.test_markdown import RICH
from tests.support.auth import Account, AuthServer
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.waiting import eventually

PHONE = ViewportSize(width=375, height=740)
WIDTHS = {"desktop": ViewportSize(width=1280, height=800), "phone": PHONE}


async def brightness(tab: Tab) -> float:
    """Of the background, 0 to 1."""
    colour: str = await tab.page.locator("html").evaluate(
        "html => getComputedStyle(html).backgroundColor"
    )
    red, green, blue = (float(part) for part in colour.removeprefix("rgb(")[:-1].split(","))
    return (red + green + blue) / 3 / 255


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_looks_as_the_system_does(visit: Visit, auth: AuthServer, scheme: str) -> None:
    tab = await visit(auth.user(), color_scheme=scheme)
    await expect(tab.composer).to_be_visible()
    assert (await brightness(tab) > 0.5) is (scheme == "light")


async def test_a_theme_is_chosen_and_remembered(visit: Visit, auth: AuthServer) -> None:
    tab = await visit(auth.user("alice"), color_scheme="light")
    await tab.button("alice: settings and sign-out").click()
    await tab.page.get_by_role("menuitemradio", name="Dark").click()
    await eventually_dark(tab)
    await tab.page.reload()
    await expect(tab.composer).to_be_visible()
    assert await brightness(tab) < 0.5
    other = await visit(beside=tab)
    await expect(other.composer).to_be_visible()
    assert await brightness(other) < 0.5


async def eventually_dark(tab: Tab) -> None:
    async def dark() -> bool:
        return await brightness(tab) < 0.5

    await eventually(dark)


async def fits(tab: Tab) -> bool:
    """Nothing is wider than the screen."""
    return bool(
        await tab.page.evaluate(
            "document.scrollingElement.scrollWidth <= document.documentElement.clientWidth"
        )
    )


async def test_on_a_phone_the_list_is_a_drawer(visit: Visit, auth: AuthServer, past: Past) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Chutney", "How?", RICH)
    tab = await visit(alice, viewport=PHONE, has_touch=True, is_mobile=True)
    link = tab.page.get_by_role("link", name="Chutney", exact=True)
    await expect(tab.composer).to_be_visible()
    await expect(link).not_to_be_in_viewport()
    await tab.button("Conversations").click()
    await expect(link).to_be_in_viewport()
    await link.click()
    await expect(tab.page).to_have_url(f"/c/{talk}")
    await expect(link).not_to_be_in_viewport()
    await expect(tab.answer.get_by_role("table")).to_be_visible()
    await expect(tab.composer).to_be_in_viewport()
    assert await fits(tab)
    await tab.button("Conversations").click()
    await expect(link).to_be_in_viewport()
    await tab.page.keyboard.press("Escape")
    await expect(link).not_to_be_in_viewport()


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
async def test_nothing_is_cut_off_at_any_width(
    visit: Visit, auth: AuthServer, past: Past, width: int
) -> None:
    alice = auth.user("alice")
    long = "https://example.org/" + "a" * 300
    table = "| " + " | ".join(["column"] * 20) + " |\n" + "|---" * 20 + "|"
    code = "```\n" + "x" * 400 + "\n```"
    text = f"{RICH}\n\n{long}\n\n{table}\n\n{code}\n\n$$ {' + '.join(['x^2'] * 60)} $$"
    talk = await past.conversation(alice, "w" * 300, long, text)
    size = ViewportSize(width=width, height=700)
    tab = await visit(alice, f"/c/{talk}", viewport=size)
    await expect(tab.answer.locator(".katex")).to_have_count(3)
    assert await fits(tab)
    for locator in (tab.composer, tab.button("Send"), tab.page.locator("header").first):
        await expect(locator).to_be_in_viewport(ratio=1)


async def test_everything_can_be_done_with_the_keyboard(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    tab = await visit(auth.user("alice"))
    keys = tab.page.keyboard
    await expect(tab.composer).to_be_focused()
    await keys.type("First")
    await keys.press("Enter")
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    await expect(tab.composer).to_be_focused()
    talk = await tab.conversation_id()
    link = tab.page.get_by_role("link", name="First", exact=True)
    await focus_by_tab(tab, link)
    await keys.press("F2")
    await expect(tab.page.get_by_role("textbox", name="New title")).to_be_focused()
    await keys.type("Renamed")
    await keys.press("Enter")
    renamed = tab.page.get_by_role("link", name="Renamed", exact=True)
    await expect(renamed).to_be_focused()
    await keys.press("Tab")
    await expect(tab.button("More for Renamed")).to_be_focused()
    await keys.press("Enter")
    await expect(tab.page.get_by_role("menuitem", name="Rename")).to_be_focused()
    await keys.press("ArrowDown")
    await keys.press("Enter")
    await eventually(lambda: past.is_favourite(talk))
    await keys.press("Control+Shift+O")
    await expect(tab.composer).to_be_focused()
    await expect(tab.page).to_have_url("/")
    await keys.press("Control+k")
    await expect(tab.page.get_by_role("combobox")).to_be_focused()
    await keys.type("renam")
    await keys.press("Enter")
    await expect(tab.page).to_have_url(f"/c/{talk}")
    await focus_by_tab(tab, renamed)
    await keys.press("Delete")
    await expect(renamed).to_have_count(0)
    await focus_by_tab(tab, tab.button("Undo"))
    await keys.press("Enter")
    await expect(renamed).to_be_visible()


async def focus_by_tab(tab: Tab, wanted: Locator) -> None:
    """Press Tab until the cursor is there."""
    for _ in range(80):
        await tab.page.keyboard.press("Tab")
        if await wanted.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"Tab never comes to {wanted}")


async def test_a_dialog_keeps_the_focus_and_gives_it_back(visit: Visit, auth: AuthServer) -> None:
    tab = await visit(auth.user())
    opener = tab.button("Answer settings")
    await opener.focus()
    await tab.page.keyboard.press("Enter")
    dialog = tab.page.get_by_role("dialog", name="Settings")
    await expect(dialog).to_be_visible()
    for _ in range(30):
        await tab.page.keyboard.press("Tab")
        outside = await tab.page.evaluate(
            "!document.activeElement.closest('dialog') && document.activeElement !== document.body"
        )
        assert not outside
    await tab.page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(opener).to_be_focused()


LONG = [f"Line {number}.\n\n" for number in range(60)]


async def at_end(tab: Tab) -> bool:
    return bool(
        await tab.messages.evaluate(
            "box => box.scrollHeight - box.scrollTop - box.clientHeight < 80"
        )
    )


async def test_the_end_is_followed_unless_the_reader_has_scrolled_away(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    gates = [Gate("second part"), Gate("third part"), Gate("fourth part")]
    script = Script().tokens(*LONG)
    for gate in gates:
        script.wait(gate).tokens(*LONG)
    inference.default = script.tokens("The end.").done()
    tab = await visit(auth.user())
    await tab.ask("Tell me much")
    last = tab.answer.get_by_text("Line 59.")
    await expect(last.last).to_be_in_viewport()
    # At the end: followed.
    gates[0].open()
    await expect(last).to_have_count(2)
    await expect(last.last).to_be_in_viewport()
    # Scrolled away: left where it is.
    await tab.messages.hover()
    await tab.page.mouse.wheel(0, -900)
    follow = tab.button("Follow the answer")
    await expect(follow).to_be_visible()
    before = await tab.messages.evaluate("box => box.scrollTop")
    gates[1].open()
    await expect(last).to_have_count(3)
    assert await tab.messages.evaluate("box => box.scrollTop") == before
    # Back at the end: followed again.
    await follow.click()
    await expect(last.last).to_be_in_viewport()
    gates[2].open()
    await expect(tab.answer.get_by_text("The end.")).to_be_in_viewport()
    await expect(follow).to_have_count(0)


async def test_an_old_conversation_is_opened_at_its_end_and_read_upwards(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    said = [f"Message {number} of many" for number in range(150)]
    talk = await past.conversation(alice, "Long", *said)
    tab = await visit(alice, f"/c/{talk}")
    await expect(tab.text("Message 149 of many")).to_be_in_viewport()
    assert await tab.text("Message 0 of many").count() == 0
    await tab.messages.hover()

    async def at_start() -> bool:
        await tab.page.mouse.wheel(0, -2500)
        return await tab.text("Message 0 of many").count() == 1

    await eventually(at_start)
    shown = await tab.messages.get_by_text("of many").all_inner_texts()
    assert shown == said


async def test_an_answer_says_what_it_took(visit: Visit, auth: AuthServer, past: Past) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice, f"/c/{talk}")
    await expect(tab.answer.get_by_text("d20 · 12 tokens · 0.5 s · 25 tokens/s")).to_be_visible()


@pytest.mark.case(61)
async def test_all_of_a_conversation_is_printed_and_nothing_else(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    short = await past.conversation(alice, "Short", "Hello", "Hi")
    long = await past.conversation(alice, "Long", "Tell me much", "".join(LONG * 4))

    async def printed(talk: str) -> int:
        tab = await visit(alice, f"/c/{talk}", color_scheme="dark")
        await expect(tab.answer).to_be_visible()
        await tab.page.emulate_media(media="print")
        await expect(tab.composer).to_be_hidden()
        await expect(tab.button("Copy the answer")).to_be_hidden()
        await expect(tab.page.get_by_role("complementary")).to_have_count(0)
        await expect(tab.questions).to_be_visible()
        ink = await tab.answer.evaluate("element => getComputedStyle(element).color")
        assert ink == "rgb(46, 28, 20)", "light on white paper"
        return len(re.findall(rb"/Type\s*/Page\b", await tab.page.pdf()))

    assert await printed(short) == 1
    assert 5 <= await printed(long) <= 15


@pytest.mark.case(61)
@pytest.mark.parametrize("width", WIDTHS)
async def test_a_toast_is_in_the_middle_of_the_conversation(
    visit: Visit, auth: AuthServer, width: str
) -> None:
    tab = await visit(auth.user(), viewport=WIDTHS[width])
    await expect(tab.composer).to_be_visible()
    # A file that is dropped does not take the place of the page.
    prevented = await tab.page.evaluate(
        """() => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File(["text"], "notes.txt"));
          const options = { dataTransfer, bubbles: true, cancelable: true };
          const events = ["dragover", "drop"].map((name) => new DragEvent(name, options));
          return events.map((event) => !document.querySelector("main").dispatchEvent(event));
        }"""
    )
    assert prevented == [True, True]
    toast = tab.text("Files cannot be sent.")
    await expect(toast).to_be_visible()
    await tab.settle()
    middles = [
        box["x"] + box["width"] / 2
        for box in (await toast.bounding_box(), await tab.form.bounding_box())
        if box is not None
    ]
    assert abs(middles[0] - middles[1]) < 3


async def test_who_wants_no_motion_gets_none(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    inference.default = Script().tokens("Slowly").hang()
    tab = await visit(auth.user(), reduced_motion="reduce")
    await tab.ask("Hello")
    await expect(tab.answer).to_contain_text("Slowly")
    moving = await tab.page.evaluate(
        "document.getAnimations().filter((animation) => {"
        "  const { duration, iterations } = animation.effect.getComputedTiming();"
        "  return animation.playState === 'running' && (duration > 50 || iterations > 1);"
        "}).map((animation) => animation.animationName ?? animation.transitionProperty)"
    )
    assert moving == []
    await tab.button("Stop the answer").click()
    await expect(tab.button("Send")).to_be_visible()


async def open_state(state: str, visit: Visit, alice: Account, past: Past, **options: Any) -> Tab:
    """The page in one of its main states."""
    await past.conversation(alice, "A picnic by the lake")
    await past.conversation(alice, "Tamarind or lime?", favourite=True)
    talk = await past.conversation(alice, "Green chutney", "How do I make green chutney?", RICH)
    if state == "sign-in":
        tab = await visit(None, **options)
        await expect(tab.button("Sign in")).to_be_visible()
        return tab
    path = "/" if state in {"home", "sign-in"} else f"/c/{talk}"
    tab = await visit(alice, path, **options)
    await expect(tab.composer).to_be_visible()
    if path != "/":
        await expect(tab.answer.locator(".katex")).to_have_count(2)
    if state == "settings":
        await tab.button("Answer settings").click()
        await expect(tab.page.get_by_role("dialog")).to_be_visible()
    elif state == "palette":
        await tab.page.keyboard.press("Control+k")
        await expect(tab.page.get_by_role("option").first).to_be_visible()
    elif state == "answering":
        await tab.ask("And how long does it keep?")
        await expect(tab.answer).to_contain_text("Two or three days")
    elif state == "failed":
        await tab.ask("Are you there?")
        await expect(tab.answer).to_contain_text("This answer failed.")
    elif state == "offline":
        tab.failed_requests_are_fine = True
        await tab.context.set_offline(True)
        await expect(tab.text("You are offline.")).to_be_visible()
    elif state == "menu":
        if await tab.button("Conversations").is_visible():
            await tab.button("Conversations").click()
        await tab.button("More for Green chutney").click()
        await expect(tab.page.get_by_role("menuitem", name="Delete")).to_be_visible()
    return tab


STATES = [
    "sign-in", "home", "conversation", "answering", "failed", "offline", "settings", "palette",
    "menu",
]  # fmt: skip


@pytest.mark.parametrize(
    ("width", "scheme"), [("desktop", "light"), ("desktop", "dark"), ("phone", "dark")]
)
@pytest.mark.parametrize("state", STATES)
async def test_everybody_can_use_every_state_of_it(
    visit: Visit,
    auth: AuthServer,
    inference: Inference,
    past: Past,
    state: str,
    scheme: str,
    width: str,
) -> None:
    inference.on("how long", Script().tokens("Two or three ", "days in the fridge").hang())
    inference.on("there?", Script().status(500))
    alice = auth.user("alice", is_admin=True)
    options = {"color_scheme": scheme, "viewport": WIDTHS[width]}
    tab = await open_state(state, visit, alice, past, **options)
    await tab.picture(f"{state}-{width}-{scheme}")
    await tab.check_accessible()
    assert await fits(tab)
