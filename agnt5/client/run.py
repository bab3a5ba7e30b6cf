"""`AsyncRun`: one run, wherever it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from agnt5.client.follow import Followed, Place
from agnt5.client.logs import LogLine
from agnt5.client.runs import RunState
from agnt5.client.streams import Chunk, ChunkPlace, StreamReset
from agnt5.contracts.runs import RunStatus
from agnt5.registry import Handler
from agnt5.replay.events import Event

if TYPE_CHECKING:
    from agnt5.client.aio import AsyncClient


class AsyncRun:
    """A run, wherever it is. Holds nothing but its id; every method asks the store.

    `fresh` is False when `start` found the run there already, and None where nothing was started.
    """

    def __init__(
        self, client: AsyncClient, run_id: str, handler: Handler | None = None, *, fresh: bool | None = None
    ) -> None:
        self._client = client
        self._handler = handler
        self.id = run_id
        self.fresh = fresh

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def rebound(self, client: AsyncClient) -> AsyncRun:
        """The same run by another client."""
        return AsyncRun(client, self.id, self._handler, fresh=self.fresh)

    async def status(self) -> RunStatus:
        """Where it stands. Raises `RunNotFoundError`."""
        found = await self._client.states([self.id])  # tells also what this process has no key to open
        return (found[0] if found else await self.state()).status

    async def state(self) -> RunState:
        """All there is to know about it in one read. Raises `RunNotFoundError`."""
        return await self._client.state(self.id)

    async def result(self, timeout: float | timedelta | None = None) -> Any:  # noqa: ASYNC109 - the public name
        """Its result, in the form of the handler's return annotation where this process knows the handler.

        Waits up to `timeout` (seconds or timedelta; None: as long as it takes), and rides out outages. Raises
        `TaskFailedError` (also `RunTimeoutError`, `WorkerLostError`) with what the handler raised,
        `RunCancelledError`, `ResultTimeoutError` while the run goes on, `RunNotFoundError`.
        """
        value = await self._client.wait(self.id, timeout)
        return value if self._handler is None else self._handler.coerce_result(value)

    async def history(self) -> list[Event]:
        """The journal of its current generation, oldest first."""
        return await self._client.history(self.id)

    async def logs(self, *, limit: int | None = None, level: str = "") -> list[LogLine]:
        """What its code has logged, as far as it is kept, oldest first. See `AsyncClient.logs`."""
        return await self._client.logs(self.id, limit=limit, level=level)

    def follow(self, after: Place | str | None = None) -> AsyncGenerator[Followed]:
        """Each journal event as it comes, until it has ended. See `AsyncClient.follow`."""
        return self._client.follow(self.id, after=after)

    def stream(self, after: ChunkPlace | str | None = None) -> AsyncGenerator[Any]:
        """What its handler yields, as it comes, in JSON form; late readers get all of it from the start.

        A `StreamReset` among it says that all before is void: the run was tried again and yields anew. Ends with the
        run; raises what `result` raises when it failed or was cancelled. `chunks` tells places, to go on `after`.
        """
        return self._client.stream(self.id, after=after)

    def chunks(self, after: ChunkPlace | str | None = None) -> AsyncGenerator[Chunk | StreamReset]:
        """As `stream`, each chunk with its place. See `AsyncClient.chunks`."""
        return self._client.chunks(self.id, after=after)

    async def signal(self, name: str, payload: Any = None) -> None:
        """Send it a signal. See `AsyncClient.signal`."""
        await self._client.signal(self.id, name, payload)

    async def cancel(self, reason: str = "") -> None:
        """Ask it to end. See `AsyncClient.cancel`."""
        await self._client.cancel(self.id, reason)

    async def retry(self) -> None:
        """Open it again after it failed. See `AsyncClient.retry`."""
        await self._client.retry(self.id)
