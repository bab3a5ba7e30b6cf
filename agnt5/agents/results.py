"""What a message to an agent brought about."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from agnt5.llm.responses import Usage


class AgentResult(BaseModel):
    """An agent's answer. `agent` is who answered last: another one than was asked, where it handed over.

    `object` is the answer as data where that agent has an `output`: an instance of the pydantic model if it was one.
    `messages` are the turn in OpenAI's form: the message that was sent, answers, calls and results of tools; without
    instructions, without what models thought, and without what the memory had before. `usage` and `cost` (US dollars,
    None where a price is not known) are of all models that were asked, `rounds` how often one was, with those of agents
    that served as tools.
    """

    model_config = ConfigDict(frozen=True)

    text: str = ""
    object: Any = None
    agent: str = ""
    messages: list[dict[str, Any]] = Field(default_factory=list)
    usage: Usage = Field(default_factory=Usage)
    cost: float | None = 0.0
    rounds: int = 0
