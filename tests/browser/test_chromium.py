"""What a person reads where the browser itself is missing something."""

from pathlib import Path

import pytest
from tests.browser.chromium import find_program, why_not


def test_a_missing_browser_is_no_reason_to_skip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "chromium"))
    with pytest.raises(pytest.fail.Exception, match="make test"):
        find_program()


def test_missing_libraries_are_named(tmp_path: Path) -> None:
    ldd = tmp_path / "ldd"
    ldd.write_text("#!/bin/sh\necho ' libc.so.6 => /lib/libc.so.6'\necho ' libx.so => not found'\n")
    ldd.chmod(0o755)
    said = why_not(tmp_path / "chromium", {"PATH": f"{tmp_path}:/bin"}, "exit code 127")
    assert "lacks these libraries: libx.so." in said


def test_else_the_browsers_own_words_are_shown(tmp_path: Path) -> None:
    assert "exit code 1" in why_not(Path("/bin/sh"), {"PATH": "/usr/bin:/bin"}, "exit code 1")
