"""The browser of the tests: a Chromium out of a package, cut off from the world."""

import os
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Error, async_playwright

UNPACKED = Path(__file__).parent / "node_modules" / ".chromium"
# Nothing outside this machine can even be found.
_ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"


@asynccontextmanager
async def running_chromium() -> AsyncIterator[Browser]:
    """A Chromium without a window: the one of the package, or the one that CHROMIUM names.

    Fails the test, with what to do about it, where there is none or it does not start.
    """
    program = find_program()
    environment = {
        **os.environ,
        "FONTCONFIG_FILE": str(Path(__file__).with_name("fonts.conf")),
        # The package's libraries, for machines that lack them.
        "LD_LIBRARY_PATH": ":".join(
            filter(None, [str(UNPACKED / "lib"), os.environ.get("LD_LIBRARY_PATH")])
        ),
    }
    async with async_playwright() as playwright:
        try:
            browser = await playwright.chromium.launch(
                executable_path=program,
                args=[_ALONE, "--disable-gpu"],
                # Chromium's own sandbox does not run as root, and not in most containers.
                chromium_sandbox=False,
                env={**environment},
            )
        except Error as error:
            pytest.fail(why_not(program, environment, error.message), pytrace=False)
        async with browser:
            yield browser


def find_program() -> Path:
    """Where the browser's program is; fails the test if it is not there."""
    program = Path(os.environ.get("CHROMIUM") or UNPACKED / "chromium")
    if not program.exists():
        pytest.fail(
            f"There is no browser at {program}. Run `make test`, which installs one, "
            "or set CHROMIUM to the program of a Chromium of your own.",
            pytrace=False,
        )
    return program


def why_not(program: Path, environment: dict[str, str], said: str) -> str:
    """Why a browser does not start, for a person who has to do something about it."""
    found = subprocess.run(
        ["ldd", str(program)], check=False, capture_output=True, text=True, env=environment
    )
    missing = re.findall(r"^\s*(\S+) => not found", found.stdout, re.MULTILINE)
    if missing:
        return f"{program} lacks these libraries: {', '.join(missing)}. Install them."
    return f"{program} does not start: {said}"
