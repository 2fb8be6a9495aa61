"""The wheel alone: installed into an empty environment, started in an empty folder."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import pytest
from tests.support.service import Service
from tests.support.stack import started

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(500)


def uv_install(environment: Path, *arguments: str) -> None:
    # Not in the checkout, whose pyproject.toml uv would read.
    subprocess.run(
        [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            environment,
            *arguments,
        ],
        cwd=environment,
        check=True,
        timeout=400,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What deploy/Containerfile installs: the locked packages of the service, and the wheel."""
    folder = tmp_path_factory.mktemp("an environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    uv_install(
        folder,
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "-r",
        str(ROOT / "requirements-service.lock"),
    )
    uv_install(folder, "--no-deps", str(wheel))
    return folder


@pytest.fixture
def service(
    environment: Path, usual_env: Mapping[str, str], fresh_database_url: str, tmp_path: Path
) -> Iterator[Service]:
    env = {**usual_env, "DATABASE_URL": fresh_database_url, "SERVE_WEB": "true"}
    running = Service(env, folder=tmp_path, command=[str(environment / "bin" / "samosachaat")])
    try:
        yield running.start()
    finally:
        running.close()


def test_the_installed_service_becomes_ready_and_has_its_page(service: Service) -> None:
    with httpx2.Client(base_url=service.url, trust_env=False) as http:
        page = http.get("/", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<script" in page.text
    assert service.stop() == 0
    assert [path.suffix for path in service.folder.iterdir()] == [".log"], "it wrote something"


def test_the_local_stack_says_what_it_lacks(environment: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [environment / "bin" / "samosachaat", "up"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert "samosachaat-chat-api[local]" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_installed_local_stack_answers(
    environment: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folder = tmp_path_factory.mktemp("an empty folder")
    overrides = environment / "overrides"
    overrides.write_text("\n".join(project["tool"]["uv"]["override-dependencies"]))
    uv_install(
        environment,
        "-c",
        str(ROOT / "requirements.lock"),
        "--overrides",
        str(overrides),
        f"{wheel}[local]",
    )
    with started([str(environment / "bin" / "samosachaat")], folder) as stack:
        said = stack.paste()
        page = httpx2.get(f"http://127.0.0.1:{stack.ports[3]}/", trust_env=False)
    assert '"status":"complete"' in said
    assert page.headers["content-type"].startswith("text/html")
    assert {path.name for path in folder.iterdir()} == {".samosachaat", "output"}
