"""The code of docs/configuration.md is right: it defines what its text says, and calls what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from contexts import Flags, function_ctx
from doc_calls import Calls
from openfeature.provider.in_memory_provider import InMemoryProvider

from agnt5 import Client
from agnt5.cli.main import app
from agnt5.integrations.openfeature import Agnt5Provider
from agnt5.registry import isolated

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
BLOCKS = re.findall(r"(<!-- needs a server -->\n)?```python\n(.*?)```", TEXT, re.DOTALL)
CHECKOUT, WORKERS = (code for elsewhere, code in BLOCKS if not elsewhere)
CALLS, PROVIDER = (code for elsewhere, code in BLOCKS if elsewhere)


async def test_the_code_defines_what_the_text_says():
    space: dict[str, Any] = {"__name__": "checkout"}
    with isolated() as registry:
        exec(compile(CHECKOUT, "docs/configuration.md", "exec"), space)
        assert sorted(handler.address for handler in registry) == ["checkout.checkout", "checkout.price"]
    rules = {"new_tax": {"value": True}, "tax.rate": {"value": "0.5"}, "discount": {"value": "treatment"}}
    assert await space["price"](function_ctx(Flags())[0], 10, "u") == 10
    assert await space["price"](function_ctx(Flags(**rules))[0], 10, "u") == 13.5


def test_the_clients_calls_fit_its_methods():
    calls = Calls(rule={}, value="")
    exec(compile(CALLS, "docs/configuration.md", "exec"), {"client": calls})
    assert set(calls.called) == {name for name in dir(Client) if "config" in name}


def test_the_app_has_the_provider_that_is_shown():
    code = WORKERS.replace('modules=["checkout"], ', "")
    space: dict[str, Any] = {}
    exec(compile(code, "docs/configuration.md", "exec"), space)
    assert isinstance(space["app"].agnt5._provider()._flags(), InMemoryProvider)


def test_the_provider_is_made_as_is_shown(monkeypatch):
    set_to = []
    monkeypatch.setattr("openfeature.api.set_provider_and_wait", set_to.append)
    exec(compile(PROVIDER, "docs/configuration.md", "exec"), {})
    assert isinstance(set_to[0], Agnt5Provider)


def test_the_commands_exist():
    (commands,) = [group for group in app.registered_groups if group.name == "config"]
    known = {one.name or one.callback.__name__.rstrip("_") for one in commands.typer_instance.registered_commands}
    assert known == {"set", "get", "list", "history", "unset", "explain"}
    assert set(re.findall(r"\$ agnt5 config (\w+)", TEXT)) == known - {"list"}
