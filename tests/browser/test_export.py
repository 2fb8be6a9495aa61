"""A conversation as a file."""

from pathlib import Path

from tests.browser.past import Past
from tests.browser.tab import Visit, expect
from tests.support.auth import AuthServer


async def test_a_conversation_is_downloaded_as_markdown(
    visit: Visit, auth: AuthServer, past: Past, tmp_path: Path
) -> None:
    alice = auth.user("alice")
    await past.conversation(alice, "Chutney: भाजी?", "How much **salt**?", "A pinch.\n\n- or two")
    tab = await visit(alice)
    await tab.button("More for Chutney: भाजी?").click()
    async with tab.page.expect_download() as started:
        await tab.page.get_by_role("menuitem", name="Export as Markdown").click()
    download = await started.value
    assert download.suggested_filename == "Chutney- भाजी-.md"
    await download.save_as(tmp_path / "file.md")
    text = (tmp_path / "file.md").read_text("utf-8")
    assert text.startswith("# Chutney: भाजी?")
    assert "How much **salt**?" in text
    assert "A pinch.\n\n- or two" in text


async def test_an_export_that_is_cut_off_is_no_file(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice)
    tab.failed_requests_are_fine = True
    await tab.page.route("**/export?*", lambda route: route.fulfill(status=503, body=""))
    downloads: list[object] = []
    tab.page.on("download", lambda download: downloads.append(download))
    await tab.button("More for Talk").click()
    await tab.page.get_by_role("menuitem", name="Export as Markdown").click()
    await expect(tab.text("Not exported: The service is not available.")).to_be_visible()
    assert downloads == []
