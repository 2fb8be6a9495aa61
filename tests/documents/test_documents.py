"""What the documents name exists, and what exists is in the documents."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from prometheus_client import REGISTRY
from pydantic_settings import BaseSettings

from chat_api.app import create_app
from chat_api.cli import main
from chat_api.local.settings import LocalSettings
from chat_api.settings import Settings

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
DOCUMENTS = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("bench/*.md"),
        *ROOT.glob("deploy/*.md"),
        *ROOT.glob("web/*.md"),
    )
)
CODE = {
    f"/{path.relative_to(ROOT)}": path
    for folder in ("src", "tests", "tools", "bench", "examples")
    for path in (ROOT / folder).rglob("*.py")
    if "node_modules" not in path.parts
}
MEMBERS = {
    node.name: {
        part.name
        for part in ast.walk(node)
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for name, path in CODE.items()
    if name.startswith("/src/")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.ClassDef)
}


def table(heading: str, document: str = REFERENCE) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = document.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    block = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert block is not None, heading
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block[0].splitlines()]
    return rows[2:]


def default_as_written(field: Any) -> str:
    if field.is_required():
        return "none: refuses to start without it"
    if field.default in ("", None):
        return "none"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`"


@pytest.mark.parametrize(
    ("heading", "settings"),
    [
        ("Settings of the service", Settings),
        ("Settings of the local stack", LocalSettings),
    ],
)
def test_the_settings_table_is_that_of_the_code(heading: str, settings: type[BaseSettings]) -> None:
    coded = [
        [f"`{name.upper()}`", default_as_written(field), field.description]
        for name, field in settings.model_fields.items()
    ]
    assert table(heading) == coded


def test_the_endpoints_table_is_that_of_the_routes() -> None:
    app = create_app(Settings(internal_api_key="a-key"))  # type: ignore[arg-type]
    described = {
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    }
    # OpenAI describes these, not our own description.
    described |= {
        (method, str(route.path).replace(":any_text", ""))
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if method != "HEAD" and str(route.path).startswith("/v1/")
    }
    written = {(row[0], row[1].strip("`")) for row in table("Endpoints")}
    assert written == described


def test_the_metrics_table_is_that_of_the_registry() -> None:
    counted = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in REGISTRY.collect()
        if family.name.startswith("chat_api_")
    }
    assert {row[0].strip("`") for row in table("Metrics")} == counted


def test_the_commands_table_is_that_of_the_command_line() -> None:
    written = {row[0].strip("`").removeprefix("samosachaat ") for row in table("Commands")}
    assert written == set(main.commands)
    for name, described in table("Commands"):
        command = main.commands[name.strip("`").removeprefix("samosachaat ")]
        options = {
            option
            for parameter in command.params
            for option in parameter.opts
            if option[:2] == "--"
        }
        assert set(re.findall(r"--[a-z]+", described)) == options, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_documents_links_and_make_targets_exist(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (document.parent / target).exists(), target
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", text):
        other = (document.parent / target).read_text() if target else text
        heads = re.findall(r"^#+ (.+)$", other, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in re.findall(r"`make ([a-z-]+)", text) + re.findall(
        r"^make ([a-z-]+)", text, re.MULTILINE
    ):
        assert name in targets, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_settings_that_a_document_names_exist(document: Path) -> None:
    known = {name.upper() for name in (*Settings.model_fields, *LocalSettings.model_fields)}
    known |= {
        "CHAOS_SECONDS",
        "CHAOS_SEED",
        "FLOOD_TOKENS",
        "FUZZ_SECONDS",
        "CLOUD_KEY",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "POSTGRES_BIN",
        "SOAK_SECONDS",
    }  # of the tests
    known |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_SERVICE_NAME",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
    }  # of OpenTelemetry
    known |= {"OPENAI_BASE_URL", "OPENAI_API_KEY"}  # of `make run`, in the names that others use
    for name in re.findall(r"`([A-Z]+_[A-Z_]+)(?:=[^`]*)?`", document.read_text()):
        assert name in known, name


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.name != "CHANGELOG.md"],
    ids=lambda path: path.name,
)
def test_modules_and_methods_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text()
    for name in re.findall(r"`([\w./-]+\.py)`", text):
        assert any(path.endswith(f"/{name}") for path in CODE), name
    for owner, member in re.findall(r"`(_?[A-Z]+[a-z]\w+)\.(\w+)`", text):
        assert member in MEMBERS[owner], f"{owner}.{member}"


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 250


def test_every_make_target_explains_itself() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    for target in phony[1].split():
        assert re.search(rf"^{target}:.*## \S", makefile, re.MULTILINE), target
