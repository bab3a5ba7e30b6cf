"""The code of docs/entities.md is right: it is one module, whose tests pass."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agnt5.registry import isolated

TEXT = (Path(__file__).parents[2] / "docs" / "entities.md").read_text()
BLOCKS = re.findall(r"(<!-- needs a server -->\n)?```python\n(.*?)```", TEXT, re.DOTALL)
CODE = "\n".join(code for elsewhere, code in BLOCKS if not elsewhere)


@pytest.fixture
def module():
    space: dict[str, Any] = {"__name__": "accounts"}
    with isolated() as registry:
        exec(compile(CODE, "docs/entities.md", "exec"), space)
        yield space, registry


def test_the_code_defines_what_the_text_says(module):
    _, registry = module
    assert {h.address: h.mode for h in registry} == {
        "Account.deposit": "write",
        "Account.balance": "read",
        "Basket.put": "write",
        "Basket.lines": "read",
        "accounts.salary": None,
        "accounts.bonus": None,
    }


def test_its_tests_pass(module):
    space, _ = module
    tests = [value for name, value in space.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()
