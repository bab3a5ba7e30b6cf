"""docs/integrations.md: its code runs, and what it says of events is what is told."""

from __future__ import annotations

import re
from pathlib import Path

from ag_ui.core import EventType

from agnt5.integrations.pydantic_ai import DurableAgent
from agnt5.registry import isolated

TEXT = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text()


def test_the_code_runs():
    code = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    code = code.replace("openai:gpt-5", "test")  # a model of OpenAI wants a key
    space: dict = {"__name__": "support"}
    with isolated():
        exec(compile(code, "docs/integrations.md", "exec"), space)
    assert isinstance(space["support"], DurableAgent)
    assert repr(space["search"]) == "<McpServer search>"


def test_the_events_exist():
    known = {kind.value for kind in EventType}
    for name in re.findall(r"`((?:RUN|STEP|TEXT_MESSAGE|TOOL_CALL|CUSTOM)[A-Z_]*)(?:\*?)`", TEXT):
        assert any(kind.startswith(name) for kind in known), name
