"""Draw the page's PNG icons out of its SVG: `python tools/icons.py`, with the tests' browser."""

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.chromium import running_chromium  # noqa: E402 - needs the path above

PUBLIC = ROOT / "web" / "public"
# Size in pixels, the part of it that the drawing takes, and the colour behind it. Of a maskable
# icon only the inner 80 % are sure to be seen.
ICONS = {
    "192": (192, 1.0, "transparent"),
    "512": (512, 1.0, "transparent"),
    "maskable": (512, 0.6, "#fbf5ea"),
    "apple-touch": (180, 0.75, "#fbf5ea"),
}


async def draw() -> None:
    drawing = (PUBLIC / "favicon.svg").read_text("utf-8")
    (PUBLIC / "icons").mkdir(exist_ok=True)
    async with running_chromium() as browser:
        page = await browser.new_page()
        for name, (size, part, colour) in ICONS.items():
            await page.set_viewport_size({"width": size, "height": size})
            await page.set_content(
                f"<style>body {{ margin: 0; height: 100vh; display: grid; place-items: center; "
                f"background: {colour} }} svg {{ width: {size * part}px }}</style>{drawing}"
            )
            await page.screenshot(path=PUBLIC / "icons" / f"{name}.png", omit_background=True)


if __name__ == "__main__":
    asyncio.run(draw())
