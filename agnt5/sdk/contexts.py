"""The contexts of the three kinds of handlers. The runtime makes them."""

from __future__ import annotations

import asyncio
import random
import uuid
from datetime import timedelta
from typing import Any, NoReturn

from agnt5.contracts.errors import WrongContextError
from agnt5.registry import default_registry
from agnt5.retry import RetryPolicy
from agnt5.sdk.configuration import WorkflowConfig
from agnt5.sdk.context import Context
from agnt5.sdk.coordination import WorkflowSignals
from agnt5.sdk.handles import TaskHandle
from agnt5.sdk.human import WorkflowHuman
from agnt5.sdk.orchestration import Call, call_by_name, call_of, call_options, call_with_input, continuation
from agnt5.sdk.port import CommandPort, EntityPort, FunctionPort, HostPort, RunInfo, WorkflowPort


class FunctionContext(Context):
    """The context of a function. Made by the executor: `FunctionContext(info, port, host)`."""

    def __init__(self, info: RunInfo, port: FunctionPort, host: HostPort) -> None:
        super().__init__(info, port, host)
        self._waits_for = port.waits_for

    def _commands(self, called: str) -> CommandPort:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise WrongContextError(
                f"ctx.{called}: {self._info.handler!r} is a plain `def`, which runs in a thread; "
                "make it `async def` to use what is awaited"
            ) from None
        return self._port


class EntityContext(FunctionContext):
    """The context of an entity's method. Made by the executor: `EntityContext(info, port, host)`."""

    def __init__(self, info: RunInfo, port: EntityPort, host: HostPort) -> None:
        super().__init__(info, port, host)
        self._state = port.state

    async def get(self, key: str, default: Any = None) -> Any:
        return self._state.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self._state.set(key, value)

    def delete(self, key: str) -> None:
        self._state.delete(key)

    def clear(self) -> None:
        self._state.clear()

    async def keys(self) -> list[str]:
        return self._state.keys()

    @property
    def state(self) -> Any:
        return self._state.state


class WorkflowContext(Context):
    """The context of a workflow. Made by the executor: `WorkflowContext(info, machine, host)`.

    Arguments of children are checked by name when the call is made, and by type in the child: a changed
    annotation must not turn the replay of an open run into another path. Its commands come in one order in every
    replay, so that nothing needs a key to be found again.
    """

    _checks_types = False
    _keeps_order = True

    def __init__(self, info: RunInfo, port: WorkflowPort, host: HostPort) -> None:
        super().__init__(info, port, host, WorkflowSignals(port))
        self._workflow_port = port
        self._human = WorkflowHuman(info, port)

    def task(
        self,
        service_name: Any,
        handler_name: Any = ...,
        input: Any = ...,  # noqa: A002
        *args: Any,
        default: Any = ...,
        key: str | None = None,
        timeout: timedelta | float | None = None,
        retries: RetryPolicy | int | None = None,
        priority: int | None = None,
        **kwargs: Any,
    ) -> TaskHandle:
        if isinstance(service_name, str):
            call = call_by_name(service_name, handler_name, input, args, kwargs)
        elif handler_name is ... and input is not ...:
            call = call_with_input(service_name, input, kwargs)
        else:
            given = tuple(one for one in (handler_name, input) if one is not ...)
            call = call_of(service_name, given + args, kwargs, check=False)
        options = call_options(timeout=timeout, retries=retries, priority=priority)
        ref = self._port.start_task(call.handler, call.data(), key=key, options=options)
        return TaskHandle(self._port, ref, coerce=call.coerce, default=default)

    def _start_item(self, call: Call, key: str) -> TaskHandle:
        ref = self._port.start_task(call.handler, call.input, key=key)
        return TaskHandle(self._port, ref, coerce=call.coerce)

    def _call_entity(self, call: Call, entity: str, key: str = "") -> TaskHandle:
        ref = self._port.call_entity(call.handler, entity, call.data(), key=key)
        return TaskHandle(self._port, ref, coerce=call.coerce)

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        handler = default_registry().get(self._info.handler)
        self._workflow_port.continue_as_new(continuation(handler, args, kwargs))

    def patched(self, change: str, /) -> bool:
        return self._workflow_port.patched(change)

    def _make_config(self) -> WorkflowConfig:
        return WorkflowConfig(self._info, self._host.flags, self._headers, self._workflow_port)

    def random(self) -> random.Random:
        return self._workflow_port.random()

    def uuid(self) -> uuid.UUID:
        return self._workflow_port.uuid()
