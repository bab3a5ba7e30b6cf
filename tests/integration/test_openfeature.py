"""OpenFeature, both ways: our config as a provider for others, and others' providers for handlers."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from datetime import timedelta

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from openfeature.provider import ProviderStatus
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from support.server import Server
from support.waiting import until_sync

from agnt5 import Client, ConfigurationError
from agnt5.app import create_app
from agnt5.contracts.flags import Question
from agnt5.integrations.openfeature import Agnt5Provider
from agnt5.runtime import openfeature
from agnt5.runtime.configuration import HostFlags
from agnt5.runtime.openfeature import OpenFeatureProvider

USER = EvaluationContext("user-1", {"Tenant": "acme"})


@pytest.fixture
def client(redis_url):
    with Client(redis_url) as client:
        client.set_config("tax", True)
        client.set_config("rate", 2)
        client.set_config("name", "blue")
        client.set_config("limits", {"a": [1]})
        client.set_config("group", variants={"control": 1, "treatment": 1})
        client.set_config("acme", "theirs", when={"tenant": "acme"})
        yield client


@pytest.fixture
def flags(redis_url, client):
    provider = Agnt5Provider(redis_url)
    api.set_provider_and_wait(provider, domain="test")
    yield api.get_client(domain="test")
    api.shutdown()
    api.clear_providers()


def test_our_config_is_read_by_the_openfeature_client(flags, client):
    assert flags.get_boolean_value("tax", False) is True
    assert flags.get_integer_value("rate", 0) == 2
    assert flags.get_float_value("rate", 0.5) == 2.0
    assert flags.get_string_value("name", "") == "blue"
    assert flags.get_object_value("limits", {}) == {"a": [1]}
    assert flags.get_string_value("acme", "ours", USER) == "theirs"
    assert flags.get_string_value("acme", "ours") == "ours"
    group = flags.get_string_details("group", "none", USER)
    assert (group.value, group.variant, group.reason) == (
        client.explain_config("group", unit="user-1").value, group.value, Reason.SPLIT,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("missing", ErrorCode.FLAG_NOT_FOUND),
        ("name", ErrorCode.TYPE_MISMATCH),
        ("group", ErrorCode.TARGETING_KEY_MISSING),
        ("a b", ErrorCode.PARSE_ERROR),
    ],
)
def test_what_it_cannot_give_is_the_default_and_says_why(flags, key, code):
    details = flags.get_boolean_details(key, True)
    assert (details.value, details.error_code) == (True, code)


def test_the_environment_counts_behind_redis(flags, monkeypatch):
    monkeypatch.setenv("AGNT5_FLAG_TAX", "off")
    monkeypatch.setenv("AGNT5_FLAG_OTHER", "on")
    assert flags.get_boolean_value("tax", False) is True
    assert flags.get_boolean_value("other", False) is True


def test_a_change_is_heard_of_and_told(flags, client):
    told = []
    flags.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, lambda details: told.append(details.flags_changed))
    client.set_config("tax", False)
    until_sync(lambda: flags.get_boolean_value("tax", True) is False)
    until_sync(lambda: told == [["tax"]])


def test_it_begins_without_redis_and_catches_up(own_server: Server, monkeypatch):
    monkeypatch.setattr("agnt5.client.config_watch.LOOK_S", 0.05)
    monkeypatch.setenv("AGNT5_FLAG_TAX", "on")
    own_server.kill()
    ready = threading.Event()
    api.set_provider(Agnt5Provider(own_server.url), domain="late")
    flags = api.get_client(domain="late")
    flags.add_handler(ProviderEvent.PROVIDER_READY, lambda _: ready.set())
    until_sync(lambda: flags.get_provider_status() == ProviderStatus.ERROR)
    assert flags.get_boolean_value("tax", False) is True
    own_server.start()
    with Client(own_server.url) as client:
        client.set_config("tax", False)
    assert ready.wait(10)
    until_sync(lambda: flags.get_boolean_value("tax", True) is False)
    own_server.kill()
    assert flags.get_boolean_value("tax", True) is False
    api.shutdown()
    api.clear_providers()


# ---- others' providers in handlers


async def test_a_provider_is_asked_by_the_type_of_the_default(store):
    values = {"bool": True, "int": 7, "float": 2.5, "text": "t", "list": [1], "dict": {"a": 1}, "wait": "90s"}
    theirs = OpenFeatureProvider(InMemoryProvider({key: InMemoryFlag("x", {"x": of}) for key, of in values.items()}))
    host = HostFlags(store.link, {"AGNT5_FLAG_MISSING": "5"}, theirs)
    assert theirs.find(Question("bool", False, "u")) is None  # not open yet
    await host.open()
    for key, default in (("bool", False), ("int", 0), ("float", 0.5), ("text", ""), ("list", []), ("list", ()),
                         ("dict", {}), ("dict", None), ("list", None), ("wait", timedelta(0))):  # fmt: skip
        found = host.find(Question(key, default, "u"))
        assert (found.value, found.source) == (values[key], "provider")
        assert found.place == "the OpenFeature provider 'In-Memory Provider'"
    assert host.find(Question("missing", 0, "u")).source == "environment"
    assert host.find(Question("unknown", 0, "u")) is None
    api.clear_providers()


async def test_a_provider_that_is_slow_or_fails_to_begin_holds_nobody_up(store, monkeypatch, caplog):
    class Slow(InMemoryProvider):
        def initialize(self, evaluation_context):
            assert held.wait(10)
            raise ValueError("no licence")

    held = threading.Event()
    monkeypatch.setattr(openfeature, "READY_S", 0.05)
    host = HostFlags(store.link, {}, OpenFeatureProvider(lambda: Slow({})))
    with caplog.at_level(logging.WARNING, "agnt5.config"):
        await asyncio.wait_for(host.open(), 5)
    assert "the provider of flags is not ready" in caplog.text
    for _ in range(3):
        assert host.find(Question("tax", False, "u")) is None
    assert sum("the provider of flags failed" in record.getMessage() for record in caplog.records) == 1
    held.set()
    api.clear_providers()


async def test_without_the_sdk_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openfeature", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'agnt5-celery\[openfeature\]'"):
        await create_app(flags=lambda: None).agnt5._provider().open()


def test_an_app_without_flags_has_no_provider():
    assert create_app().agnt5._provider is None
