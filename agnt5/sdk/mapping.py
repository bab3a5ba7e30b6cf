"""`ctx.map`: one handler or function over many items, a bounded number of them at a time.

A map is told in the journal by steps of its own, named `map:<what it calls>`: its beginning, and its end with how many
items are done and have failed. Children tell of their progress themselves; for calls in the run itself, which leave no
entry of their own, the map notes it on its way.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from agnt5 import codec
from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.ids import check_id, split_address
from agnt5.contracts.runs import Kind
from agnt5.registry import Handler
from agnt5.sdk.decorators import handler_of
from agnt5.sdk.orchestration import Call
from agnt5.sdk.port import CommandPort

MOST_CHILDREN = 4_500
"""Items of a map whose items are child runs: each takes two of the 10,000 entries that a journal may have."""

MOST_CALLS = 9_000
"""Items of a map of calls in the run itself, of which each takes an entry or more."""

NOTES = 20
"""How often a map of calls notes its progress, at most."""


class Place:
    """Where maps are numbered: a run, or one item of a map in it. So the numbers of maps within items, and what items
    ask for in a function, do not depend on which item is faster.
    """

    __slots__ = ("_children", "_maps", "name", "port")

    def __init__(self, port: CommandPort, name: str = "") -> None:
        self.port = port
        self.name = name or getattr(port, "scope", "")  # of a tool's call, whose port is a part of its run's
        self._maps = 0
        self._children = 0

    def next_map(self) -> str:
        """What the next map is called in keys: `map1`, or `map1.17.map1` within an item."""
        self._maps += 1
        return f"{self.name}.map{self._maps}" if self.name else f"map{self._maps}"

    def next_child(self) -> str | None:
        """The key of the next child that an item starts without one; None outside of items."""
        if not self.name:
            return None
        self._children += 1
        return f"{self.name}.child{self._children}"


_ITEM: ContextVar[Place | None] = ContextVar("agnt5_map_item", default=None)


def place_in(run: Place) -> Place:
    """The item of a map of this run that the code belongs to, else the run itself."""
    item = _ITEM.get()
    return item if item is not None and item.port is run.port else run


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a map needs of the run that it is in.

    `start` starts a child under a key. `by_content`: a child's key also tells what its input is, since the items of a
    function may be others in its next attempt.
    """

    place: Place
    start: Callable[[Call, str], Awaitable[Any]]
    attempt: int
    by_content: bool


async def map_items(
    run: Run, fn: Any, items: Any, concurrency: int, *, key: Callable[[Any], str] | None, return_exceptions: bool
) -> list[Any]:
    """Do all items of a map. The rules are those of `Context.map`."""
    port, place, child = run.place.port, place_in(run.place).next_map(), _child(fn)
    _check_concurrency(concurrency)
    taken = await _taken(items, MOST_CALLS if child is None else MOST_CHILDREN)
    names = _names(taken, key)
    if child is None:
        do = partial(_call, port, place, fn)
    else:
        do = partial(_run_child, run.start, place, child, by_content=run.by_content and key is None)
    told = _Told(port, place, _name_of(fn, child), run.attempt)
    work = _Work(taken, names, do, told, stops=not return_exceptions)
    return await work.all(concurrency, of="calls" if child is None else "runs")


# ---- what is done with one item


async def _run_child(
    start: Callable[[Call, str], Awaitable[Any]], place: str, child: Handler | str, name: str, item: Any,
    *, by_content: bool,
) -> Any:  # fmt: skip
    address = child.address if isinstance(child, Handler) else child
    body = codec.dumps(item, what=f"input of {address}")
    data, callee = codec.loads(body), child if isinstance(child, Handler) else None
    key = f"{place}.{name}.{_digest(body)}" if by_content else f"{place}.{name}"
    return await start(Call(address, data if callee is None else callee.bind_names(data), callee), key)


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=4).hexdigest()


async def _call(port: CommandPort, place: str, fn: Callable[[Any], Any], name: str, item: Any) -> Any:
    _ITEM.set(Place(port, f"{place}.{name}"))
    value = fn(item)
    if inspect.isawaitable(value):
        return await value
    called = _name_of(fn, None)
    raise _MisuseError(
        f"ctx.map: {called}(item) returned {type(value).__name__}, expected what can be awaited; decorate it with "
        f"@function, so that each item is a run of its own, or record each call: "
        f"ctx.map(lambda item: ctx.step({called!r}, {called}, item), items)"
    )


class _MisuseError(Exception):
    """What is wrong with the map itself and not with an item: raised whatever `return_exceptions` says."""


# ---- all of them


class _Told:
    """What a map records of itself."""

    def __init__(self, port: CommandPort, place: str, name: str, attempt: int) -> None:
        self._port = port
        self._place = place
        self._name = f"map:{name}"
        self._attempt = attempt

    async def begun(self, total: int, concurrency: int, of: str) -> None:
        await self._step(f"{total}", {"total": total, "concurrency": concurrency, "of": of})

    async def progress(self, done: int, failed: int, *, ended: bool) -> None:
        # what failed is done again by a function's next attempt, and is told again; what is done is told once
        again = f"/{self._attempt}" if failed else ""
        end = {"ended": True} if ended else {}
        await self._step(f"{done}/{failed}{again}{'/end' if ended else ''}", {"done": done, "failed": failed, **end})

    async def _step(self, key: str, said: dict[str, Any]) -> None:
        async def say() -> dict[str, Any]:
            return {"map": self._place, **said}

        await self._port.step(self._name, say, key=f"{self._place}/{key}")


class _Work:
    """The items of a map, and what became of them."""

    def __init__(
        self, items: list[Any], names: list[str], do: Callable[[str, Any], Awaitable[Any]], told: _Told, *, stops: bool
    ) -> None:
        self._left: Iterator[tuple[int, Any]] = iter(enumerate(items))
        self._names = names
        self._do = do
        self._told = told
        self._stops = stops
        self._stopped = False
        self._results: list[Any] = [None] * len(items)
        self._failures: dict[int, BaseException] = {}
        self._done = 0
        self._note_each = 0

    async def all(self, concurrency: int, *, of: str) -> list[Any]:
        """Do all, and return their results; or raise the first error in order."""
        if not (total := len(self._results)):
            return []
        if of == "calls":
            self._note_each = -(-total // NOTES)
        await self._told.begun(total, concurrency, of)
        await asyncio.gather(*(self._some() for _ in range(min(concurrency, total))))
        await self._told.progress(self._done, len(self._failures), ended=True)
        for error in self._failures.values():
            if isinstance(error, _MisuseError):
                raise InvalidInputError(str(error)) from None
        if self._failures and self._stops:
            raise self._failures[min(self._failures)]
        return self._results

    async def _some(self) -> None:
        """One after the other, for as long as there are items. So many of these run as items may be open."""
        try:
            while not self._stopped and (following := next(self._left, None)) is not None:
                await self._one(*following)
        except BaseException:  # cancelled: others must not begin what nobody waits for
            self._stopped = True
            raise

    async def _one(self, at: int, item: Any) -> None:
        try:
            self._results[at] = await self._do(self._names[at], item)
            self._done += 1
        except asyncio.CancelledError as error:
            if _being_cancelled():
                raise
            self._fail(at, error)  # what the item waited for was cancelled
        except Exception as error:  # noqa: BLE001 - told to whoever waits for the map
            self._fail(at, error)
        ended = self._done + len(self._failures)
        if self._note_each and ended % self._note_each == 0 and ended < len(self._results):
            await self._told.progress(self._done, len(self._failures), ended=False)

    def _fail(self, at: int, error: BaseException) -> None:
        self._results[at] = self._failures[at] = error
        self._stopped = self._stopped or self._stops or isinstance(error, _MisuseError)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


# ---- what is given


def _child(fn: Any) -> Handler | str | None:
    """The handler that makes each item a child run; None for a function to be called in this run."""
    if not isinstance(fn, str | Handler) and not hasattr(fn, "__agnt5__"):
        if callable(fn):
            return None
        raise InvalidInputError(
            f"ctx.map: expected a handler, its address, or a function of one item, found {type(fn).__name__}; "
            "the order is ctx.map(fn, items)"
        )
    found = handler_of(fn)
    if isinstance(found, Handler) and found.kind is Kind.ENTITY:
        raise InvalidInputError(
            f"ctx.map: {found.address} is a method of an entity, which needs a key: "
            f"ctx.map(lambda item: ctx.entity({found.service!r}, key).{found.name}(item), items)"
        )
    return found


def _name_of(fn: Any, child: Handler | str | None) -> str:
    """What a map of `fn` is called for people."""
    if child is not None:
        return child.name if isinstance(child, Handler) else split_address(child)[1]
    plain = fn.func if isinstance(fn, partial) else fn
    return str(getattr(plain, "__name__", type(plain).__name__)).strip("<>")


async def _taken(items: Any, limit: int) -> list[Any]:
    """The items as a list of our own."""
    if isinstance(items, set | frozenset):
        raise InvalidInputError(
            "ctx.map: a set has no order of its own, in which results could come; give sorted(items)"
        )
    if isinstance(items, str | bytes | dict) or not isinstance(items, Iterable | AsyncIterable):
        raise InvalidInputError(f"ctx.map: expected a list of items, found {type(items).__name__}")
    taken: list[Any] = []
    if isinstance(items, AsyncIterable):
        async for item in items:
            taken.append(item)
            if len(taken) > limit:
                break
    else:
        taken.extend(islice(items, limit + 1))
    if len(taken) > limit:
        raise InvalidInputError(
            f"ctx.map: more than {limit:,} items; each takes entries in this run's journal, which may have 10,000 by "
            f"default. Map parts of them: a @workflow that maps the items it is given, called as "
            f"ctx.map(part, [items[at:at + 1000] for at in range(0, len(items), 1000)])"
        )
    return taken


def _check_concurrency(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"ctx.map: concurrency: expected a whole number from 1, found {value!r}")


def _names(items: list[Any], key: Callable[[Any], str] | None) -> list[str]:
    """What each item is called in keys: its place, or what the caller says."""
    if key is None:
        return [str(at) for at in range(len(items))]
    first: dict[str, int] = {}
    for at, item in enumerate(items):
        name = check_id(key(item), f"ctx.map: key(items[{at}])")
        if name in first:
            raise InvalidInputError(
                f"ctx.map: key(items[{at}]) is {name!r}, as that of items[{first[name]}]; a key names one item"
            )
        first[name] = at
    return list(first)
