"""Durable workflows and AI agents on Celery and Redis.

Every public name is loaded when it is first used, so that `import agnt5` costs next to nothing and a module
which only defines handlers never loads Celery or Redis.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agnt5.agents.agent import Agent
    from agnt5.agents.memory import Memory
    from agnt5.agents.results import AgentResult
    from agnt5.client import ApprovalState, AsyncClient, BudgetState, Client, ConfigState, StreamReset
    from agnt5.contracts.budgets import Budget
    from agnt5.contracts.errors import (
        Agnt5Error,
        ApprovalDecidedError,
        ApprovalNotFoundError,
        ApprovalRefusedError,
        ConfigNotFoundError,
        ConfigurationError,
        DuplicateRunError,
        EntityBusyError,
        EntityDeadlockError,
        EntityNotFoundError,
        HandlerNotFoundError,
        InvalidInputError,
        JournalLimitError,
        LLMError,
        NonDeterminismError,
        NonRetryableError,
        PayloadTooLargeError,
        ResultTimeoutError,
        RunCancelledError,
        RunEndedError,
        RunFailedError,
        RunNotFoundError,
        RunTimeoutError,
        SealedPayloadError,
        SecretNotFoundError,
        SecretProviderError,
        SerializationError,
        StepFailedError,
        StoreUnavailableError,
        TaskFailedError,
        WorkerLostError,
        WorkflowIOError,
        WrongContextError,
    )
    from agnt5.llm.responses import LLMResponse
    from agnt5.llm.scripted import scripted_model
    from agnt5.llm.tools import Tool, tool
    from agnt5.retry import BackoffPolicy, RetryPolicy
    from agnt5.sdk.context import Context
    from agnt5.sdk.decorators import function, workflow
    from agnt5.sdk.entities import entity
    from agnt5.sdk.human import Approval
    from agnt5.sdk.tool_loop import ToolsResponse

    __version__: str

__all__ = [
    "Agent",
    "AgentResult",
    "Agnt5Error",
    "Approval",
    "ApprovalDecidedError",
    "ApprovalNotFoundError",
    "ApprovalRefusedError",
    "ApprovalState",
    "AsyncClient",
    "BackoffPolicy",
    "Budget",
    "BudgetExceededError",
    "BudgetState",
    "Client",
    "ConfigNotFoundError",
    "ConfigState",
    "ConfigurationError",
    "Context",
    "DuplicateRunError",
    "EntityBusyError",
    "EntityDeadlockError",
    "EntityNotFoundError",
    "HandlerNotFoundError",
    "InvalidInputError",
    "JournalLimitError",
    "LLMError",
    "LLMRequestError",
    "LLMResponse",
    "Memory",
    "NonDeterminismError",
    "NonRetryableError",
    "PayloadTooLargeError",
    "ResultTimeoutError",
    "RetryPolicy",
    "RunCancelledError",
    "RunEndedError",
    "RunFailedError",
    "RunNotFoundError",
    "RunTimeoutError",
    "SealedPayloadError",
    "SecretNotFoundError",
    "SecretProviderError",
    "SerializationError",
    "StepFailedError",
    "StoreUnavailableError",
    "StreamLimitError",
    "StreamReset",
    "StructuredOutputError",
    "TaskFailedError",
    "Tool",
    "ToolLoopError",
    "ToolsResponse",
    "WorkerLostError",
    "WorkflowIOError",
    "WrongContextError",
    "__version__",
    "entity",
    "function",
    "scripted_model",
    "tool",
    "workflow",
]

_HOME = {
    "function": "agnt5.sdk.decorators",
    "workflow": "agnt5.sdk.decorators",
    "entity": "agnt5.sdk.entities",
    "Context": "agnt5.sdk.context",
    "Agent": "agnt5.agents.agent",
    "AgentResult": "agnt5.agents.results",
    "Memory": "agnt5.agents.memory",
    "scripted_model": "agnt5.llm.scripted",
    "Client": "agnt5.client",
    "AsyncClient": "agnt5.client",
    "Approval": "agnt5.sdk.human",
    "ApprovalState": "agnt5.client",
    "StreamReset": "agnt5.client",
    "Budget": "agnt5.contracts.budgets",
    "BudgetState": "agnt5.client",
    "ConfigState": "agnt5.client",
    "LLMResponse": "agnt5.llm.responses",
    "Tool": "agnt5.llm.tools",
    "ToolsResponse": "agnt5.sdk.tool_loop",
    "tool": "agnt5.llm.tools",
    "RetryPolicy": "agnt5.retry",
    "BackoffPolicy": "agnt5.retry",
}
"""Where a public name lives; all others are errors."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - loaded on first use

        value: Any = version("agnt5-celery")
    elif name in __all__:
        value = getattr(import_module(_HOME.get(name, "agnt5.contracts.errors")), name)
    else:
        raise AttributeError(f"module 'agnt5' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
