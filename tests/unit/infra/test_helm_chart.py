"""Tests of the Helm chart: values and schema, names in the templates, and the manifests that Helm renders."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from absa.variables import KNOWN, PREFIX

ROOT = Path(__file__).parents[3]
CHART = ROOT / "infra/helm/evergreen"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
TEMPLATES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((CHART / "templates").iterdir()))
GIVEN: dict[str, Any] = {"lake": "s3://bucket/lake"}
FULL: dict[str, Any] = GIVEN | {
    "config": '[router]\nqueue_ms = 50\n',
    "env": {"AWS_REGION": "eu-west-1"},
    "image": {"pullSecrets": ["registry"]},
    "router": {"autoscaling": {"enabled": True}, "nodeSelector": {"kubernetes.io/arch": "arm64"}},
    "worker": {"evidentlyUrl": "http://evidently:8001"},
}  # fmt: skip


def merged(changes: dict[str, Any], values: dict[str, Any] = VALUES) -> dict[str, Any]:
    """Return values with changes, as Helm merges them."""
    both = {
        name: merged(change, values[name])
        if isinstance(change, dict) and isinstance(values.get(name), dict)
        else change
        for name, change in changes.items()
    }
    return values | both


def problems(changes: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft7Validator(SCHEMA).iter_errors(merged(changes))]


@pytest.mark.parametrize("changes", [GIVEN, FULL])
def test_chart_values_fit_their_schema(changes: dict[str, Any]) -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert problems(changes) == []


@pytest.mark.parametrize(
    "changes",
    [
        {},  # the lake must be named
        {"lake": "/var/lake"},
        GIVEN | {"replicas": 3},
        GIVEN | {"router": {"workers": 0}},
        GIVEN | {"router": {"image": "evergreen-serving"}},  # without a tag
        GIVEN | {"router": {"service": {"type": "ExternalName", "port": 80}}},
        GIVEN | {"worker": {"prefectApiUrl": "http://prefect:4200"}},
        GIVEN | {"env": {"AWS_REGION": 1}},
    ],
    ids=str,
)
def test_unusable_chart_values_are_refused(changes: dict[str, Any]) -> None:
    assert problems(changes) != []


def test_templates_read_values_that_exist() -> None:
    for path in set(re.findall(r"\.Values\.([A-Za-z.]+)", TEMPLATES)):
        found: Any = VALUES
        for name in path.split("."):
            assert name in found, path
            found = found[name]


def test_templates_set_known_variables_and_run_modules() -> None:
    named = set(re.findall(rf"{PREFIX}([A-Z_]+), |{PREFIX}([A-Z_]+)\n", TEMPLATES))
    variables = {first or second for first, second in named}
    assert len(variables) >= 10
    assert variables <= KNOWN
    modules = re.findall(r"command: \[python, -m, ([a-z.]+)\]", TEMPLATES)
    assert modules == ["serving", "flows.deployments"]
    assert all(
        (ROOT / module.replace(".", "/")).with_suffix(".py").is_file() or (ROOT / module).is_dir() for module in modules
    )


def test_pods_get_no_variables_of_services() -> None:
    """A service named evergreen-router would set EVERGREEN_ROUTER_PORT to tcp://..., which a router refuses."""
    assert "enableServiceLinks: false" in TEMPLATES


def test_image_workflow_builds_both_processors() -> None:
    workflow = yaml.safe_load((ROOT / "infra/images/github_workflow.yaml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["build"]
    files = [each["dockerfile"] for each in job["strategy"]["matrix"]["include"]]
    assert all((ROOT / file).is_file() for file in files)
    assert len(files) == len(list((ROOT / "infra/images").glob("*.Dockerfile")))
    (build,) = [step for step in job["steps"] if step.get("uses", "").startswith("docker/build-push-action")]
    assert build["with"]["platforms"] == "linux/amd64,linux/arm64"


@pytest.mark.skipif(find_spec("helm_python") is None, reason="needs helm-python-sdk, which holds Helm's own library")
@pytest.mark.parametrize(("changes", "kinds"), [(GIVEN, 6), (FULL, 8), (GIVEN | {"worker": {"enabled": False}}, 5)])
def test_helm_renders_unprivileged_pods(changes: dict[str, Any], kinds: int) -> None:
    import helm_python

    with helm_python.Chart.load(str(CHART)) as chart:
        rendered = chart.render(changes, name="evergreen", namespace="prod")
    texts = [text for name, text in rendered.items() if name.endswith(".yaml")]
    manifests = [each for text in texts for each in yaml.safe_load_all(text) if each]
    assert len(manifests) == kinds
    for each in manifests:
        if each["kind"] != "Deployment":
            continue
        pod = each["spec"]["template"]
        assert each["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
