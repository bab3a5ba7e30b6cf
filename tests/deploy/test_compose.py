"""docker-compose.yml against the compose specification, and against what its services are promised to be."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from compose_kit import ROOT, compose, variables
from compose_spec import PyCompose, parse_duration

FILE = compose()
SERVICES = FILE["services"]
OURS = ("worker", "beat", "web", "flower")


def refusal(file: dict) -> str:
    """What the compose specification has against a file; nothing when it is valid."""
    try:
        PyCompose.from_json(json.dumps(file)).validate()
    except Exception as error:
        return str(error)
    return ""


def test_the_file_is_valid_by_the_compose_specification():
    assert refusal(FILE) == ""


@pytest.mark.parametrize(
    ("service", "key", "value"),
    [
        ("web", "healtcheck", {}), ("web", "restart", "sometimes"), ("valkey", "networks", ["nowhere"]),
        ("worker", "stop_grace_period", "soon"), ("worker", "secrets", ["unknown"]),
    ],
)  # fmt: skip
def test_what_is_not_valid_is_found(service, key, value):
    broken = json.loads(json.dumps(FILE))
    broken["services"][service][key] = value
    assert refusal(broken)


def test_every_variable_is_in_the_example_and_those_without_a_default_are_required():
    text = (ROOT / "docker-compose.yml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    assert used == set(variables())
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert {name for name, value in variables().items() if "change-me" in value} == required
    for name in required:
        with pytest.raises(KeyError, match="copy .env.example to .env"):
            compose({**variables(), name: ""})
    compose(dict.fromkeys(required, "given"))  # all others have defaults


def test_there_is_two_of_what_must_not_be_missed_and_everything_is_watched():
    assert set(SERVICES) == {"valkey", *OURS, "prometheus", "grafana"}
    assert [SERVICES[name]["deploy"]["replicas"] for name in ("worker", "beat")] == [2, 2]
    for name, service in SERVICES.items():
        assert {"test", "interval", "timeout", "start_period"} <= set(service["healthcheck"]), name
        assert service["restart"] == "unless-stopped", name
        assert {"reservations", "limits"} == set(service["deploy"]["resources"]), name


def test_a_payload_key_reaches_all_that_write_or_read_values():
    key = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    services = compose({**variables(), "AGNT5_PAYLOAD_KEYS": key})["services"]
    assert {services[name]["environment"]["AGNT5_PAYLOAD_KEYS"] for name in OURS} == {key}


def test_nothing_runs_as_root_or_writes_where_it_need_not():
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name not in OURS:
            assert not service["user"].startswith("0"), name
    # ours run as the image says, which test_image.py looks at
    assert all("user" not in SERVICES[name] for name in OURS)


def test_only_people_s_pages_are_published_and_only_here():
    published = {name: service.get("ports", []) for name, service in SERVICES.items() if service.get("ports")}
    assert set(published) == {"web", "flower", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert FILE["networks"]["store"]["internal"] is True
    assert SERVICES["valkey"]["networks"] == ["store"]
    assert all(SERVICES[name]["networks"] == ["store", "default"] for name in OURS)


def test_a_stop_leaves_time_for_what_a_stop_does():
    grace_s = parse_duration(SERVICES["worker"]["environment"]["AGNT5_SHUTDOWN_GRACE"])
    assert parse_duration(SERVICES["worker"]["stop_grace_period"]) >= grace_s + 10
    assert all(parse_duration(service["stop_grace_period"]) > 10 for service in SERVICES.values())


def test_every_file_that_is_mounted_or_built_from_is_there():
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not source.startswith("."):
                assert source in FILE["volumes"], name
            else:
                assert (ROOT / source).exists(), source
        for network in service.get("networks", []):
            assert network in FILE["networks"], name
        for secret in service.get("secrets", []):
            assert secret in FILE["secrets"], name


def test_every_image_has_a_version():
    for name, service in SERVICES.items():
        image, _, tag = service["image"].partition(":")
        assert image == "agnt5-example" or re.match(r"v?\d+\.\d+", tag), name


def test_prometheus_finds_each_worker_and_beat():
    loaded = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    found = {
        name: sd["port"]
        for job in loaded["scrape_configs"]
        for sd in job.get("dns_sd_configs", [])
        for name in sd["names"]
    }
    ports = {name: int(SERVICES[name]["environment"]["AGNT5_METRICS_PORT"]) for name in ("worker", "beat")}
    assert found == {**ports, "flower": 5555}
    assert all(SERVICES[name]["environment"]["AGNT5_METRICS_HOST"] == "0.0.0.0" for name in ports)
    assert loaded["rule_files"] == ["alerts.yml"]


def test_prometheus_takes_its_configuration(promtool):
    checked = subprocess.run(
        [promtool, "check", "config", ROOT / "deploy/prometheus/prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_grafana_finds_prometheus_and_the_boards():
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"] is True
    (provider,) = yaml.safe_load((provisioning / "dashboards/agnt5.yml").read_text())["providers"]
    targets = [Path(volume.split(":")[1]) for volume in SERVICES["grafana"]["volumes"]]
    assert any(target.parent == Path(provider["options"]["path"]) for target in targets)
    assert Path("/etc/grafana/provisioning") in targets
