"""Dashboard, alerts and docs speak of figures that exist, in PromQL that Prometheus understands."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from agnt5.telemetry.metrics_runtime import PrometheusFigures
from agnt5.telemetry.metrics_table import FIGURES, OF_ROLE, Role

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "agnt5.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
DOCS = (ROOT / "docs" / "metrics.md").read_text()


def series() -> dict[str, set[str]]:
    """Names that can be asked for -> their labels, from the registry itself."""
    found: dict[str, set[str]] = {}
    registry = CollectorRegistry()
    figures = PrometheusFigures(registry)
    for role in OF_ROLE:
        figures.add(role)
    labels = {figure.name: figure.labels for figure in FIGURES}
    for figure in FIGURES:
        figures._tell(1, figure.name, *("x" for _ in figure.labels))
    for family in registry.collect():
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found.setdefault(sample.name, set()).update(sample.labels)
                assert set(sample.labels) - {"le"} == set(labels[family.name])
    return found


def expressions() -> dict[str, str]:
    """What dashboard and alerts ask for."""
    found = {f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        found |= {rule["alert"]: rule["expr"] for rule in group["rules"]}
    variable = next(one for one in DASHBOARD["templating"]["list"] if one["name"] == "handler")
    return {**found, "handlers": variable["definition"]}


SERIES = series()
ASKED = expressions()


@pytest.mark.parametrize("place", ASKED)
def test_what_is_asked_for_exists_with_the_labels_that_are_named(place):
    names = set(re.findall(r"agnt5_\w+", ASKED[place]))
    assert names
    assert names <= set(SERIES)
    known = set().union(*(SERIES[name] for name in names)) | {"instance"}
    by = {label for found in re.findall(r"by \(([^)]*)\)", ASKED[place]) for label in re.split(r",\s*", found)}
    matched = set(re.findall(r"(\w+)=~?\"", ASKED[place]))
    assert by | matched <= known


def test_every_figure_is_shown_in_the_dashboard():
    asked = " ".join(ASKED.values())
    assert [figure.name for figure in FIGURES if figure.name not in asked] == []


def test_the_dashboard_is_one_that_grafana_takes():
    assert DASHBOARD["uid"] == "agnt5"
    assert DASHBOARD["schemaVersion"] >= 36
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in PANELS:
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == [*"ABCDEF"][: len(panel["targets"])]
        assert {"defaults", "overrides"} == set(panel["fieldConfig"])
    for one, other in itertools.combinations([panel["gridPos"] for panel in DASHBOARD["panels"]], 2):
        assert not _overlap(one, other), (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])
    assert [one["type"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "query"]


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def promtool_says(promtool: str, *arguments: str, folder: Path = ALERTS.parent) -> str:
    done = subprocess.run([promtool, *arguments], check=False, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_alert_rules_are_right_and_fire_when_they_should(promtool):
    told = promtool_says(promtool, "check", "rules", "--lint-fatal", "alerts.yml")
    rules = [rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert f"{len(rules)} rules found" in told
    assert "SUCCESS" in promtool_says(promtool, "test", "rules", "alerts_test.yml")
    tests = yaml.safe_load((ALERTS.parent / "alerts_test.yml").read_text())["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one.get("exp_alerts")}
    assert fired == set(rules)


def test_prometheus_understands_what_the_dashboard_asks(promtool, tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "5m").replace("$handler", ".*")}
        for number, (place, expr) in enumerate(ASKED.items())
        if place != "handlers"
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool_says(promtool, "check", "rules", "panels.yml", folder=tmp_path)


def test_the_docs_list_every_figure_with_its_labels_and_its_processes():
    listed = re.findall(r"^\| `(agnt5_\w+)` \| (\w+) \|([^|]*)\|([^|]*)\|", DOCS, re.MULTILINE)
    shown: dict[str, Role] = {figure.shown: role for role, figures in OF_ROLE.items() for figure in figures}
    assert {name for name, *_ in listed} == set(shown)
    by_name = {figure.shown: figure for figure in FIGURES}
    for name, sort, labels, _ in listed:
        assert sort == by_name[name].sort
        assert tuple(re.findall(r"`(\w+)`", labels)) == by_name[name].labels


def test_the_docs_list_every_alert():
    rules = [rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert [name for name in rules if f"`{name}`" not in DOCS] == []
