"""Start, read, signal and decide runs from outside of workers."""

from agnt5.client.aio import AsyncClient
from agnt5.client.approvals import ApprovalState
from agnt5.client.budgets import BudgetState
from agnt5.client.configuration import ConfigAnswer, ConfigChange, ConfigState
from agnt5.client.run import AsyncRun
from agnt5.client.runs import RunState
from agnt5.client.streams import StreamReset
from agnt5.client.sync import Client, Run

__all__ = [
    "ApprovalState",
    "AsyncClient",
    "AsyncRun",
    "BudgetState",
    "Client",
    "ConfigAnswer",
    "ConfigChange",
    "ConfigState",
    "Run",
    "RunState",
    "StreamReset",
]
