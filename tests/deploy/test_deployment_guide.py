"""docs/deployment.md names what there is."""

from __future__ import annotations

import re

import yaml
from compose_kit import ROOT, compose

TEXT = (ROOT / "docs/deployment.md").read_text()
SERVICES = compose()["services"]


def test_the_pages_are_where_the_text_says():
    told = dict(re.findall(r"^\| ([\w ]+) \| http://127\.0\.0\.1:(\d+) \|", TEXT, re.MULTILINE))
    names = {"HTTP API and pages": "web", "Flower": "flower", "Grafana": "grafana", "Prometheus": "prometheus"}
    assert {names[name]: [f"127.0.0.1:{port}:{port}"] for name, port in told.items()} == {
        name: SERVICES[name]["ports"] for name in names.values()
    }


def test_the_checks_are_those_of_the_file():
    worker = " ".join(SERVICES["worker"]["healthcheck"]["test"]).replace(" --timeout 5", "")
    assert "celery -A workers inspect ping --destination celery@$(hostname)" in worker
    assert "python deploy/beat_health.py" in " ".join(SERVICES["beat"]["healthcheck"]["test"])
    assert "/api/v1/ready" in " ".join(SERVICES["web"]["healthcheck"]["test"])
    assert "/healthcheck" in " ".join(SERVICES["flower"]["healthcheck"]["test"])


def test_what_kubernetes_is_told_is_what_compose_is_told():
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    spec = yaml.safe_load(block)["spec"]
    (container,) = spec["containers"]
    worker = SERVICES["worker"]
    assert f"{spec['terminationGracePeriodSeconds']}s" == worker["stop_grace_period"]
    assert container["args"] == worker["command"]
    assert container["readinessProbe"]["exec"]["command"][-1] == worker["healthcheck"]["test"][-1]
    assert {one["name"]: one["value"] for one in container["env"]}.items() <= worker["environment"].items()
    assert f"USER {container['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile").read_text()


def test_every_file_service_and_variable_that_is_named_is_there():
    for path in re.findall(r"`((?:deploy|workers|beat)/[\w./]*|[\w.-]+\.(?:yml|lock|toml|md)|Dockerfile)`", TEXT):
        assert (ROOT / path).exists() or (ROOT / "docs" / path).exists(), path
    for words in re.findall(r"docker compose (?:exec|up .*--no-deps|cp) (\w+)", TEXT):
        assert words in SERVICES
    known = (ROOT / "docs/operations.md").read_text() + (ROOT / ".env.example").read_text()
    for name in re.findall(r"`(AGNT5_\w+)`", TEXT):
        assert name in known, name
