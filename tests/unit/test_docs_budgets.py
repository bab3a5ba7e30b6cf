"""The code of docs/budgets.md is right: it defines what its text says, and calls what there is."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from doc_calls import Calls

from agnt5.registry import isolated

TEXT = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text()
BLOCKS = re.findall(r"(<!-- needs a server -->\n)?```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_code_defines_what_the_text_says():
    space: dict[str, Any] = {"__name__": "summaries"}
    with isolated() as registry:
        exec(compile("\n".join(code for elsewhere, code in BLOCKS if not elsewhere), "docs/budgets.md", "exec"), space)
        assert [handler.address for handler in registry] == ["summaries.summary"]
    assert space["RESEARCH"].cost == 5.0


def test_the_clients_calls_fit_its_methods():
    calls = Calls(cost=0, reserved_tokens=0)
    code = "\n".join(code for elsewhere, code in BLOCKS if elsewhere)
    exec(compile(code, "docs/budgets.md", "exec"), {"client": calls, "timedelta": timedelta, "RESEARCH": None})
    assert calls.called == ["start", "budget", "budget", "budgets", "reset_budget"]
