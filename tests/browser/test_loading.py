"""What the page loads, and from where."""

import pytest
from tests.browser.tab import Visit
from tests.support.auth import AuthServer


async def test_it_loads(visit: Visit, auth: AuthServer) -> None:
    tab = await visit(auth.user())
    assert await tab.page.title()
    await tab.check_accessible()


@pytest.mark.parametrize("n", range(6))
async def test_it_loadss(visit: Visit, auth: AuthServer, n: int) -> None:
    tab = await visit(auth.user())
    assert await tab.page.title()
