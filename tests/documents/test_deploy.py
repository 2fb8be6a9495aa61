"""What deploy/ names exists: settings, metrics, labels, files, times that fit each other."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

import chat_api.app  # noqa: F401  # registers every metric
from chat_api.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = sorted((KUBERNETES / "overlays").iterdir())
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
SETTINGS = {name.upper() for name in Settings.model_fields}
# What the drain may take beyond DRAIN_SECONDS, where the database is slow.
SLACK_SECONDS = 10

CONTAINERFILE = (DEPLOY / "Containerfile").read_text().replace("\\\n", "")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*.yaml")):
        yield from (found for found in yaml.safe_load_all(path.read_text()) if found)


def settings_of(folder: Path) -> dict[str, str]:
    """The literals of a folder's ConfigMap."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return dict(
        literal.split("=", 1)
        for generated in kustomization.get("configMapGenerator", ())
        for literal in generated["literals"]
    )


def containers(folder: Path) -> Iterator[dict[str, Any]]:
    for found in documents(folder):
        template = found.get("spec", {}).get("template", {})
        yield from template.get("spec", {}).get("containers", ())


@pytest.mark.case(88)
def test_every_variable_of_the_service_is_a_setting() -> None:
    named = {name for folder in (KUBERNETES / "base", *OVERLAYS) for name in settings_of(folder)}
    named |= {
        variable["name"]
        for container in containers(KUBERNETES)
        for variable in container.get("env", ())
    }
    for name in ("api", "migrate"):
        named |= set(COMPOSE["services"][name]["environment"])
    assert {"DATABASE_URL", "INTERNAL_API_KEY", "MIGRATE_ON_START", "SERVE_WEB"} <= named
    assert named <= SETTINGS


@pytest.mark.case(88)
@pytest.mark.parametrize("folder", [KUBERNETES / "base", *OVERLAYS], ids=lambda path: path.name)
def test_the_settings_of_each_overlay_are_valid(folder: Path) -> None:
    chosen = settings_of(KUBERNETES / "base") | settings_of(folder)
    chosen.pop("SERVE_WEB")  # asks whether the page is built
    Settings(internal_api_key="a-key", **{name.lower(): chosen[name] for name in chosen})  # type: ignore[arg-type]


@pytest.mark.case(88)
@pytest.mark.parametrize("folder", [KUBERNETES / "base", *OVERLAYS], ids=lambda path: path.name)
def test_a_pod_is_not_killed_before_it_has_drained(folder: Path) -> None:
    specs = [
        found["spec"]["template"]["spec"]
        for place in (KUBERNETES / "base", folder)
        for found in documents(place)
        if found["kind"] == "Deployment"
    ]
    grace = [spec.get("terminationGracePeriodSeconds") for spec in specs]
    before = specs[0]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float((settings_of(KUBERNETES / "base") | settings_of(folder))["DRAIN_SECONDS"])
    assert [seconds for seconds in grace if seconds][-1] >= before + drain + SLACK_SECONDS


def test_compose_gives_the_service_time_to_drain() -> None:
    api = COMPOSE["services"]["api"]
    grace = int(api["stop_grace_period"].removesuffix("s"))
    assert grace >= int(api["environment"]["DRAIN_SECONDS"]) + SLACK_SECONDS


def test_every_container_is_hardened() -> None:
    specs = [
        found["spec"]["template"]["spec"]
        for found in documents(KUBERNETES / "base")
        if found["kind"] in {"Deployment", "Job"}
    ]
    assert len(specs) == 2
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
    for name in ("api", "migrate", "engine"):
        service = COMPOSE["services"][name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_every_image_of_the_service_is_that_of_this_version() -> None:
    images = {container["image"] for container in containers(KUBERNETES / "base")}
    images |= {COMPOSE["services"][name]["image"] for name in ("api", "migrate")}
    assert images == {f"samosachaat-chat-api:{VERSION}"}
    for folder in OVERLAYS:
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        assert {image["newTag"] for image in kustomization.get("images", ())} <= {VERSION}
    assert f"samosachaat-chat-api:{VERSION} " in CONTAINERFILE


# compose.yaml.


def test_compose_declares_what_its_services_refer_to() -> None:
    services = COMPOSE["services"]
    known = {"service_started", "service_healthy", "service_completed_successfully"}
    for service in services.values():
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        for name, wanted in service.get("depends_on", {}).items():
            assert wanted["condition"] in known
            assert wanted["condition"] != "service_healthy" or "healthcheck" in services[name]
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source.startswith("./") or source in COMPOSE["volumes"]
    assert (DEPLOY / services["api"]["build"]["context"]).resolve() == ROOT
    assert (ROOT / services["api"]["build"]["dockerfile"]).is_file()


@pytest.mark.case(88)
def test_compose_does_not_start_without_its_secrets() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    uses = dict.fromkeys(re.findall(r"(?<!\$)\$\{([^}]+)\}", text))
    required = {use.partition(":?")[0] for use in uses if ":?" in use}
    optional = {use.partition(":-")[0] for use in uses if ":-" in use}
    assert len(required) + len(optional) == len({re.split(":[?-]", use)[0] for use in uses})
    assert {"POSTGRES_PASSWORD", "INTERNAL_API_KEY", "ENGINE_KEY"} <= required
    example = dict(
        line.split("=", 1)
        for line in (DEPLOY / "env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert set(example) == required | optional
    assert {name for name, value in example.items() if not value} == required


# The Containerfile.


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in CONTAINERFILE.splitlines() if line and line[0] not in "# "]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_the_container_needs_no_shell_and_no_root() -> None:
    last = instructions()
    last = last[max(number for number, (word, _) in enumerate(last) if word == "FROM") :]
    final = dict(last)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final["USER"])
    assert final["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(final["ENTRYPOINT"]) == ["samosachaat"]
    assert json.loads(final["CMD"])[0] == "serve"
    assert json.loads(final["HEALTHCHECK"].partition(" CMD ")[2])[0] == "python"
    for word, text in instructions():
        assert word != "ADD"
        assert word != "RUN" or json.loads(text)


def test_the_health_check_of_the_container_compiles() -> None:
    command = json.loads(dict(instructions())["HEALTHCHECK"].partition(" CMD ")[2])
    compile(command[2], "HEALTHCHECK", "exec")
    assert "/api/health" in command[2]


@pytest.mark.case(88)
def test_what_the_containerfile_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", CONTAINERFILE, re.MULTILINE))
    for word, text in instructions():
        if word != "COPY":
            continue
        *sources, _ = text.split()
        if sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in stages
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source.split('/')[0]}" in ignored, source


# Alerts and the dashboard.

SOURCE = "".join(path.read_text() for path in (ROOT / "src" / "chat_api").rglob("*.py"))
FAMILIES = {
    family.name + ("_total" if family.type == "counter" else ""): family.type
    for family in REGISTRY.collect()
    if family.name.startswith("chat_api_")
}


def labels_of(metric: str) -> set[str]:
    names = REGISTRY._names_to_collectors[metric]._labelnames  # type: ignore[attr-defined]
    return {*names, "instance", *({"le"} if metric.endswith("_bucket") else ())}


def queries() -> dict[str, str]:
    """Every PromQL expression below deploy/, by the file and place that it is in."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    found = {f"alert {rule['alert']}": rule["expr"] for group in rules for rule in group["rules"]}
    for panel in json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    return found


@pytest.mark.case(89)
@pytest.mark.parametrize(("place", "query"), queries().items())
def test_a_query_asks_for_metrics_and_labels_that_exist(place: str, query: str) -> None:
    selectors = re.findall(r"(chat_api_\w+)(?:\{([^}]*)\})?", query)
    assert selectors, place
    usable = {"instance"}
    for metric, matchers in selectors:
        histogram = re.sub(r"_(bucket|count|sum)$", "", metric)
        assert metric in FAMILIES or FAMILIES.get(histogram) == "histogram", metric
        # A histogram itself has no samples, a counter none that is not a rate's.
        assert FAMILIES.get(metric) != "histogram", metric
        is_counted = metric.endswith(("_total", "_bucket", "_count", "_sum"))
        rates = re.findall(rf"(?:rate|increase)\({metric}\b", query)
        assert bool(rates) == is_counted, (
            f"{place}: {metric} is {'' if is_counted else 'not '}counted"
        )
        usable |= labels_of(metric)
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= labels_of(metric), place
        for value in re.findall(r'(?<!instance)(?:=~|!~|!=|=)\s*"([^"]*)"', matchers):
            for name in value.split("|"):
                assert name.isdigit() or f'"{name}"' in SOURCE, f"{place}: no {name} is counted"
    grouped = re.findall(r"\bby \(([^)]*)\)", query)
    assert {name.strip() for names in grouped for name in names.split(",") if names} <= usable


@pytest.mark.case(89)
def test_the_document_has_each_alert_and_no_other() -> None:
    alerts = [place.removeprefix("alert ") for place in queries() if place.startswith("alert ")]
    text = (ROOT / "docs" / "operating.md").read_text()
    assert re.findall(r"^\| `(Samosachaat\w+)` \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE) == alerts
    tested = (DEPLOY / "prometheus" / "alerts.test.yaml").read_text()
    assert f"exp_samples: [{{value: {len(alerts)}}}]" in tested


@pytest.mark.case(89)
def test_the_autoscaler_counts_a_gauge_that_exists() -> None:
    (scaler,) = (
        found
        for found in documents(KUBERNETES / "base")
        if found["kind"] == "HorizontalPodAutoscaler"
    )
    counted = [
        found["pods"]["metric"]["name"] for found in scaler["spec"]["metrics"] if "pods" in found
    ]
    assert [FAMILIES[name] for name in counted] == ["gauge"]
