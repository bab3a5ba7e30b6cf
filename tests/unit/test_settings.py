from __future__ import annotations

from datetime import timedelta

import pytest

from agnt5.contracts.errors import ConfigurationError
from agnt5.contracts.settings import Settings, mask_url


def test_an_empty_environment_gives_the_defaults():
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.redis_url == settings.broker_url == "redis://localhost:6379/0"
    assert (settings.shards, settings.retention_ms, settings.linger_ms) == (16, 7 * 86_400_000, 10_000)
    assert (settings.max_hosted, settings.payload_limit) == (10_000, 1 << 20)
    assert settings.journal_limit_events == 10_000
    assert settings.liveness_timeout_ms == 5000


def test_the_broker_is_the_store_unless_it_is_given():
    assert Settings.from_env({"AGNT5_REDIS_URL": "redis://r/1"}).broker_url == "redis://r/1"
    both = Settings.from_env({"AGNT5_REDIS_URL": "redis://r/1", "AGNT5_BROKER_URL": "amqp://b//"})
    assert both.broker_url == "amqp://b//"


def test_an_argument_wins_over_the_environment_and_none_does_not_count():
    env = {"AGNT5_SHARDS": "8", "AGNT5_LINGER": ""}
    assert Settings.from_env(env, shards=4).shards == 4
    assert Settings.from_env(env, shards=None).shards == 8
    assert Settings.from_env(env).linger_ms == 10_000


@pytest.mark.parametrize(
    ("written", "ms"),
    [("7d", 604_800_000), ("12h", 43_200_000), ("90m", 5_400_000), ("1.5s", 1500), (" 2 w ", 1_209_600_000)]
    + [("5000ms", 5000), ("60", 60_000), (60, 60_000), (1.5, 1500), (timedelta(hours=1), 3_600_000)],
)
def test_durations_are_read_in_every_form(written, ms):
    assert Settings.from_env({}, retention=written).retention_ms == ms


@pytest.mark.parametrize(
    ("written", "size"), [("2MiB", 2 << 20), ("512 KiB", 512 << 10), ("1g", 1 << 30), (4096, 4096)]
)
def test_sizes_are_read_in_every_form(written, size):
    assert Settings.from_env({}, payload_limit=written).payload_limit == size


@pytest.mark.parametrize(
    ("variable", "found", "expected"),
    [
        ("AGNT5_SHARDS", "many", "whole number from 1"),
        ("AGNT5_SHARDS", "0", "whole number from 1"),
        ("AGNT5_SHARDS", "1.5", "whole number from 1"),
        ("AGNT5_RETENTION", "a week", "duration"),
        ("AGNT5_RETENTION", "-5", "duration"),
        ("AGNT5_RETENTION", "1ms", "at least 1000 ms"),
        ("AGNT5_RETENTION", "7 years", "duration"),
        ("AGNT5_PAYLOAD_LIMIT", "1parsec", "size"),
        ("AGNT5_SHARDS", "99999", "from 1 to 4096"),
        ("AGNT5_REDIS_URL", "localhost:6379", "redis://"),
        ("AGNT5_REDIS_URL", "amqp://b", "redis://"),
        ("AGNT5_BROKER_URL", "rabbit", "URL"),
    ],
)
def test_a_bad_value_is_refused_with_its_variable_what_was_found_and_what_is_expected(variable, found, expected):
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({variable: found})
    assert variable in str(caught.value)
    assert repr(found) in str(caught.value)
    assert expected in str(caught.value)


def test_a_bad_argument_is_called_by_its_own_name():
    with pytest.raises(ConfigurationError, match=r"^shards: .*found True"):
        Settings.from_env({}, shards=True)


def test_an_unknown_argument_is_refused_with_a_hint():
    with pytest.raises(ConfigurationError, match="did you mean 'retention'"):
        Settings.from_env({}, retenton="7d")


def test_a_misspelt_variable_is_told_once(caplog):
    env = {
        "AGNT5_PAYLOAD_KEY": "k1:...", "AGNT5_LOGKEEP": "3", "AGNT5_SECRET_DIR": "a secret", "AGNT5_FLAG_SHARD": "1",
        "AGNT5_LOG_LEVEL": "INFO", "AGNT5_SOMEBODY_S_OWN": "1", "AGNT5_SHARDS": "4",
    }  # fmt: skip
    for _ in range(2):
        assert Settings.from_env(env).shards == 4
    assert caplog.messages == [
        "AGNT5_LOGKEEP is no setting, and nothing reads it; did you mean AGNT5_LOG_KEEP?",
        "AGNT5_PAYLOAD_KEY is no setting, and nothing reads it; did you mean AGNT5_PAYLOAD_KEYS?",
    ]


def test_a_liveness_timeout_needs_room_for_a_late_heartbeat():
    with pytest.raises(ConfigurationError, match="AGNT5_LIVENESS_TIMEOUT"):
        Settings.from_env({"AGNT5_LIVENESS_TIMEOUT": "1s"})
    assert Settings.from_env({"AGNT5_LIVENESS_TIMEOUT": "1s", "AGNT5_HEARTBEAT": "200ms"}).heartbeat_ms == 200


def test_passwords_are_shown_nowhere():
    secret = "redis://user:p@ss:w/rd@host:6379/0"
    settings = Settings.from_env({}, redis_url=secret)
    assert "p@ss" not in repr(settings)
    assert mask_url(secret) == "redis://user:***@host:6379/0"
    assert mask_url("redis://host:6379/0") == "redis://host:6379/0"
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({"AGNT5_REDIS_URL": "http://:hunter2@host"})
    assert "hunter2" not in str(caught.value)


def test_the_secret_of_links_is_long_and_shown_nowhere():
    settings = Settings.from_env({"AGNT5_LINK_SECRET": " it-is-a-long-secret "}, web_url="https://flows.example/")
    assert (settings.link_secret, settings.web_url) == ("it-is-a-long-secret", "https://flows.example/")
    assert "it-is-a-long" not in repr(settings)
    assert (Settings().link_secret, Settings().web_url) == ("", "")
    with pytest.raises(ConfigurationError, match="AGNT5_LINK_SECRET: expected a secret of at least 16 char") as refused:
        Settings.from_env({"AGNT5_LINK_SECRET": "too-short"})
    assert "too-short" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="web_url: expected a URL that begins with http:// or https://"):
        Settings.from_env({}, web_url="flows.example")
