"""Check what is in deploy/, or write what is made of it.

    .venv-tools/bin/python tools/deploy.py            render and check; exit code 1: a fault
    .venv-tools/bin/python tools/deploy.py --write    write prometheus-rule.yaml

Kubernetes resources are held against the schemas of the oldest and the newest supported version of
Kubernetes, and what they refer to must exist. `kubectl` renders the overlays; without it only the
base is checked. `promtool` (PROMTOOL names another) checks and tests the alert rules; without it
that is not done, which fails where CI is set.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
BASE = DEPLOY / "kubernetes" / "base"
OVERLAYS = sorted((DEPLOY / "kubernetes" / "overlays").iterdir())
# `preStop.sleep` is in every version from here on.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
# Made by the operator of the cluster (docs/operating.md), never part of the files.
SECRETS = {"samosachaat"}
# Of other groups than Kubernetes' own: there is no schema of them here.
OTHERS = {"Component", "Kustomization", "PrometheusRule", "ServiceMonitor"}

Resource = dict[str, Any]


class _Strict(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"twice: {twice}", node.start_mark)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load(text: str) -> list[Resource]:
    """Return the documents of a YAML text."""
    return [document for document in yaml.load_all(text, _Strict) if document]


def find(value: object, key: str) -> Iterator[Any]:
    """Yield every value of a key, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from find(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from find(inner, key)


def schema_faults(resources: list[Resource]) -> Iterator[str]:
    """Yield what Kubernetes would refuse."""
    for resource in resources:
        if resource["kind"] in OTHERS:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(resource, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(map(str, error.path))
                yield f"{resource['kind']}: {where}: {error.message} (Kubernetes {version})"


def _names(resources: list[Resource], kind: str) -> set[str]:
    return {found["metadata"]["name"] for found in resources if found["kind"] == kind}


def _pod_faults(pod: Resource, resources: list[Resource], name: str) -> Iterator[str]:
    spec = pod["spec"]
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    for reference, known in (
        ("configMapRef", _names(resources, "ConfigMap")),
        ("secretKeyRef", SECRETS),
    ):
        for found in find(spec, reference):
            if found["name"] not in known:
                yield f"{name}: {reference} {found['name']} does not exist"
    if spec["serviceAccountName"] not in _names(resources, "ServiceAccount"):
        yield f"{name}: the service account does not exist"
    for container in spec["containers"]:
        ports = {port["name"] for port in container.get("ports", ())}
        for probe in find(container, "httpGet"):
            if probe["port"] not in ports:
                yield f"{name}: a probe's port {probe['port']} does not exist"
        for mount in container.get("volumeMounts", ()):
            if mount["name"] not in volumes:
                yield f"{name}: the volume {mount['name']} does not exist"


def reference_faults(resources: list[Resource]) -> Iterator[str]:
    """Yield what refers to something that is not among the resources."""
    pods = {
        found["metadata"]["name"]: found["spec"]["template"]
        for found in resources
        if found["kind"] in {"Deployment", "Job"}
    }
    for name, pod in pods.items():
        yield from _pod_faults(pod, resources, name)
    labels = [pod["metadata"]["labels"] for pod in pods.values()]
    services = [found["metadata"]["labels"] for found in resources if found["kind"] == "Service"]
    for resource in resources:
        kind, name, spec = resource["kind"], resource["metadata"]["name"], resource.get("spec", {})
        wanted = spec.get("podSelector", spec.get("selector"))
        if wanted is not None and kind != "Job":
            selected = wanted if kind == "Service" else wanted["matchLabels"]
            among = services if kind == "ServiceMonitor" else labels
            if not any(selected.items() <= found.items() for found in among):
                yield f"{kind} {name}: selects nothing"
        target = spec.get("scaleTargetRef")
        if target and target["name"] not in _names(resources, target["kind"]):
            yield f"{kind} {name}: the {target['kind']} {target['name']} does not exist"


def rendered(folder: Path) -> list[Resource]:
    """Return the resources of a folder as `kubectl kustomize` makes them."""
    run = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"check-deploy: {folder.name} cannot be rendered: {run.stderr}")
    return load(run.stdout)


def plain_base() -> list[Resource]:
    """Return the resources of the base without `kubectl`: the files, and the generated names."""
    kustomization = load((BASE / "kustomization.yaml").read_text())[0]
    resources = [
        resource
        for name in kustomization["resources"]
        for resource in load((BASE / name).read_text())
    ]
    made = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": generated["name"]},
            "data": dict(literal.split("=", 1) for literal in generated["literals"]),
        }
        for generated in kustomization["configMapGenerator"]
    ]
    return resources + made


def kubernetes_faults() -> Iterator[str]:
    """Yield what is wrong with the base and, where there is `kubectl`, with the overlays."""
    sets = {"base": plain_base()}
    if shutil.which("kubectl"):
        sets |= {folder.name: rendered(folder) for folder in [BASE, *OVERLAYS]}
    else:
        print("check-deploy: OVERLAYS NOT RENDERED: there is no kubectl; only the base is checked")
    for name, resources in sets.items():
        for fault in (*schema_faults(resources), *reference_faults(resources)):
            yield f"{name}: {fault}"


def expressions() -> dict[str, str]:
    """Return the queries of the dashboard, by panel, with values for Grafana's variables."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        .replace("$__rate_interval", "5m")
        .replace("$instance", ".*")
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }


def prometheus_faults() -> Iterator[str]:
    """Yield what `promtool` says about the rules, their tests, and the dashboard's queries."""
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if promtool is None:
        print(
            "check-deploy: ALERTS NOT CHECKED: there is no promtool (Debian's package prometheus)"
        )
        if os.environ.get("CI"):
            yield "promtool is missing"
        return
    with tempfile.TemporaryDirectory() as folder:
        queries = Path(folder) / "queries.yaml"
        rules = [
            {"record": "query:" + re.sub(r"\W", "_", name), "expr": expression}
            for name, expression in expressions().items()
        ]
        queries.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
        for arguments in (
            ["check", "rules", "alerts.yaml", str(queries)],
            ["test", "rules", "alerts.test.yaml"],
        ):
            run = subprocess.run(
                [promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True
            )
            if run.returncode:
                yield f"promtool {' '.join(arguments)}: {run.stdout}{run.stderr}"


def prometheus_rule() -> str:
    """Return alerts.yaml as a resource of the Prometheus operator."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "samosachaat-chat-api"},
        "spec": load((PROMETHEUS / "alerts.yaml").read_text())[0],
    }
    return "# Written by tools/deploy.py out of alerts.yaml.\n" + yaml.safe_dump(
        rule, sort_keys=False, width=100
    )


def main() -> None:
    """Write or check."""
    operators = PROMETHEUS / "prometheus-rule.yaml"
    if "--write" in sys.argv:
        operators.write_text(prometheus_rule())
        return
    for path in sorted(DEPLOY.rglob("*.yaml")):
        load(path.read_text())
    faults = [*kubernetes_faults(), *prometheus_faults()]
    if operators.read_text() != prometheus_rule():
        faults.append("prometheus-rule.yaml is not alerts.yaml: run tools/deploy.py --write")
    for fault in faults:
        print(f"check-deploy: {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
