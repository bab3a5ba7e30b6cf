"""Start, read, signal and decide runs from outside of workers."""

from agnt5.client.aio import AsyncClient, AsyncRun
from agnt5.client.runs import RunState
from agnt5.client.sync import Client, Run

__all__ = ["AsyncClient", "AsyncRun", "Client", "Run", "RunState"]
