"""Conversations: what agents remember, in an entity under the conversation's id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agnt5 import codec
from agnt5.contracts.errors import ConfigurationError
from agnt5.contracts.ids import check_id
from agnt5.registry import Mode
from agnt5.sdk.entities import EntityType
from agnt5.sdk.entity_classes import Marked

if TYPE_CHECKING:
    from agnt5.sdk.context import Context

ENTITY = "Conversation"
MAX_MESSAGES = 200
MAX_BYTES = 256 * 1024

_TURNS = "turns"
_AGENT = "agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """How an agent remembers. `entity` is the type of the entities that hold conversations.

    The oldest turns are forgotten beyond `max_messages`, and beyond `max_bytes` of JSON; a turn is what a user's
    message brought about, and is kept or forgotten as a whole. The newest is always kept.
    """

    entity: str = ENTITY
    max_messages: int = MAX_MESSAGES
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        for name in ("max_messages", "max_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"Memory: {name}: expected a number from 1 on, found {value!r}")

    def register(self) -> None:
        """Make the entity type known to this process. Happens by itself where an agent with memory is defined.

        Raises `ConfigurationError` where the project has a type of this name.
        """
        own = EntityType(self.entity)
        ours = {fn for fn, _ in _METHODS}
        if other := next((one for one in own.handlers.values() if one.fn not in ours), None):
            raise ConfigurationError(
                f"entity type {self.entity!r} is taken by {other.place}; give the memory another: Memory(entity=...)"
            )
        for fn, mode in _METHODS:
            own.add(fn, Marked(mode, f"@{self.entity}.{mode}", {}))

    async def recall(self, ctx: Context, conversation: str) -> tuple[list[dict[str, Any]], str]:
        """The messages of a conversation as they are now, and who answered last (empty: nobody yet)."""
        known = await ctx.entity(self.entity, conversation).history()
        return known["messages"], known["agent"]

    async def keep(self, ctx: Context, conversation: str, messages: list[dict[str, Any]], agent: str) -> None:
        """Append the messages of one turn. Done once, however often this run is tried or replayed."""
        limits = {"max_messages": self.max_messages, "max_bytes": self.max_bytes}
        await ctx.entity(self.entity, conversation).append(messages=messages, agent=agent, **limits)


def memory_of(value: Memory | bool | None) -> Memory | None:
    """What users write as `memory=`: True is the usual one."""
    given: Any = value
    if given is None or given is False:
        return None
    if given is True:
        return Memory()
    if isinstance(given, Memory):
        return given
    raise ConfigurationError(f"memory: expected True, False or a Memory(...), found {given!r}")


def check_conversation(value: Any) -> str:
    """A conversation's id, or `InvalidInputError`: it is the key of an entity."""
    return check_id(value, "conversation")


# ---- the methods of the entity; each turn is a state key of its own, so that an append writes no more than itself


async def append(
    ctx: Context, messages: list[dict[str, Any]], agent: str = "", max_messages: int = MAX_MESSAGES,
    max_bytes: int = MAX_BYTES,
) -> int:  # fmt: skip
    """Add one turn, whose messages stay together; gives the number of messages that are kept."""
    turns: list[list[int]] = await ctx.get(_TURNS, [])  # of each: its number, messages and bytes
    number = turns[-1][0] + 1 if turns else 1
    turns.append([number, len(messages), len(codec.dumps(messages, what="messages"))])
    ctx.set(_turn(number), messages)
    while len(turns) > 1 and (sum(t[1] for t in turns) > max_messages or sum(t[2] for t in turns) > max_bytes):
        ctx.delete(_turn(turns.pop(0)[0]))
    ctx.set(_TURNS, turns)
    ctx.set(_AGENT, agent)
    return sum(turn[1] for turn in turns)


async def history(ctx: Context) -> dict[str, Any]:
    """`{messages, agent}`: all that is kept, oldest first, and who answered last."""
    turns = [await ctx.get(_turn(number), []) for number, *_ in await ctx.get(_TURNS, [])]
    return {"messages": [message for turn in turns for message in turn], "agent": await ctx.get(_AGENT, "")}


async def clear(ctx: Context) -> None:
    """Forget the conversation."""
    ctx.clear()


def _turn(number: int) -> str:
    return f"turn-{number:06}"


_METHODS: tuple[tuple[Any, Mode], ...] = ((append, "write"), (history, "read"), (clear, "write"))
