"""The pictures of the README: `make pictures` takes them and puts them where it shows them."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import ViewportSize
from tests.browser.past import Past
from tests.browser.tab import Visit, expect
from tests.support.auth import Account, AuthServer
from tests.support.inference import Inference, Script

QUESTION = "How hot must the oil be for samosas, and how long do they take?"
ANSWER = """Fry them **twice**: slowly first, so that the crust dries, then hot, so that it browns.

| Fry | Oil | Minutes |
| :--- | ---: | ---: |
| First | 150 °C | 8 |
| Second | 185 °C | 2 |

A pan with $V$ litres of oil loses about $\\Delta T = 12\\,n / V$ degrees to $n$ cold samosas, \
so keep the batches small:

```python
def batch(litres: float, most: float = 20) -> int:
    \"\"\"How many samosas go in at once.\"\"\"
    return int(most * litres / 12)
```
"""
FOLLOWING = "And if I have no thermometer?"
BEGINNING = "Drop a crumb of dough into the oil. If it sinks and rises **slowly**, with small"

DAYS = [
    ("A playlist for a long drive", 1),
    ("Why is the sky blue?", 1),
    ("Names for a grey cat", 2),
    ("Letter to the landlord", 4),
    ("Regular expressions, once more", 4),
]


async def past_of(alice: Account, past: Past) -> str:
    now = datetime.now(UTC)
    for title, days in DAYS:
        await past.conversation(alice, title, at=now - timedelta(days=days))
    await past.conversation(alice, "Grandmother's recipes", favourite=True)
    return await past.conversation(alice, "Crisp samosas", QUESTION, ANSWER)


@pytest.mark.parametrize(
    ("name", "scheme", "size"),
    [
        ("desktop", "light", ViewportSize(width=1200, height=860)),
        ("phone", "dark", ViewportSize(width=390, height=780)),
    ],
)
async def test_the_pictures_of_the_readme(
    visit: Visit,
    auth: AuthServer,
    inference: Inference,
    past: Past,
    name: str,
    scheme: str,
    size: ViewportSize,
) -> None:
    inference.default = Script().tokens(BEGINNING).hang()
    alice = auth.user("Asha", token="token-of-asha-" + name)
    talk = await past_of(alice, past)
    tab = await visit(
        alice, f"/c/{talk}", viewport=size, color_scheme=scheme, device_scale_factor=1.5
    )
    await expect(tab.answer.locator(".katex")).to_have_count(3)
    await expect(tab.answer.locator(".hljs-keyword").first).to_be_visible()
    await tab.ask(FOLLOWING)
    await expect(tab.answer).to_contain_text("with small")
    await tab.picture(f"readme-{name}")
    await tab.button("Stop the answer").click()
    await expect(tab.button("Send")).to_be_visible()
