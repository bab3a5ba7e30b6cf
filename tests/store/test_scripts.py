"""Every script says what it does, takes and answers; its stub takes each answer that the header names."""

from __future__ import annotations

import asyncio
import inspect
import re
from importlib import resources
from typing import Any

import pytest

from agnt5.contracts.budgets import Scope, ScopedBudget
from agnt5.contracts.errors import Agnt5Error
from agnt5.store.replies import NewCall
from agnt5.store.scripts import NAMES, script
from agnt5.store.store import Batch, Ownership, Store

FOLDER = resources.files("agnt5.store") / "lua"
FENCE = {"STALE", "AGAIN", "GAP"}
STUBLESS = {"advance"}  # called by beat itself, on its own connection

SAMPLES: dict[str, Any] = {
    "out": [b"q", b"5", b"s.h", b"r"], "mail": [b"r", b"0", 3, b"{}"], "entries": [b"{}"], "lateness": [b"7"],
    "status": b"failed", "parent": b"p", "epoch": b"1:n", "host": b"h", "handler": b"s.h", "next_due": b"17",
    "ends": [b"r|failed|0|0|2|7|s.h"], "oldest": b"", "what": b"tokens", "holder": b"r", "version": b"7",
    "heir": [b"r", b"s.h", b"1:n", b"0", b"0", b"0", b"0", b"0", b"1", b"5", b"7", [b"{}"]],
}  # fmt: skip


LIBRARY = (
    "lib/core",
    "lib/asks",
    "lib/births",
    "lib/budgets",
    "lib/claims",
    "lib/ends",
    "lib/fence",
    "lib/locks",
    "lib/strikes",
)


def text(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text("utf-8")


def header(name: str) -> str:
    lines = text(name).splitlines()[1:]
    return "\n".join(line[2:].strip() for line in lines[: next(n for n, line in enumerate(lines) if line[:2] != "--")])


def named_replies(name: str) -> dict[str, list[str]]:
    """Reply word -> the fields that follow it, as the header names them."""
    listed = re.search(r"Replies: (.*)", header(name), re.DOTALL)
    assert listed
    words = (part.split() for part in re.sub(r"\(.*?\)", "", listed[1], flags=re.DOTALL).split("|"))
    return {first: rest for first, *rest in words}


def arguments(name: str) -> list[str]:
    found = re.search(r"ARGV: (.*?)\n(?:\S+:|Replies)", header(name) + "\n", re.DOTALL)
    assert found
    return found[1].split()


def test_every_lua_file_is_a_script_or_the_library():
    found = {entry.name.removesuffix(".lua") for entry in FOLDER.iterdir()}
    assert found == {*NAMES, "lib"}
    assert {f"lib/{entry.name.removesuffix('.lua')}" for entry in (FOLDER / "lib").iterdir()} == set(LIBRARY)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_its_header_and_is_short(name):
    first, *_ = text(name).splitlines()
    assert first in {"#!lua", "#!lua flags=allow-oom"}
    purpose, *_ = header(name).splitlines()
    assert purpose.endswith((".", ",", ";", ":"))
    assert not purpose.startswith(("ARGV", "Replies"))
    assert arguments(name)
    assert len(text(name).splitlines()) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_a_script_answers_what_its_header_names(name):
    code = "\n".join(line.partition("--")[0] for line in text(name).splitlines())
    answered = set(re.findall(r"(?:return |return \{ |refused\[1\] = |and |or )'([A-Z_]+)'", code))
    if "fence(" in code:
        answered |= FENCE
    if "claimed(" in code:
        answered |= {"CLAIMED"}
    assert answered == set(named_replies(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_reads_the_arguments_that_its_header_names(name):
    if "count," in header(name):
        pytest.skip("takes lists")
    used = [int(number) for number in re.findall(r"ARGV\[(\d+)\]", text(name))]
    assert max(used) == len(arguments(name))


def test_scripts_take_no_key_but_their_shards_prefix_and_no_clock_but_the_servers():
    for name in [*NAMES, *LIBRARY]:
        code = "\n".join(line.partition("--")[0] for line in text(name).splitlines())
        assert "os.time" not in code
        assert "cjson" not in code  # payloads are opaque
        assert "KEYS[2]" not in code
        assert code.count("KEYS[1]") == (name == "lib/core")
        for call in re.findall(r"redis\.call\('([A-Z]+)', ?([^,)]+)", code):
            # the LPUSH is to the broker's list, where broker and store are one database
            assert call[0] in {"TIME", "PUBLISH", "LPUSH"} or call[1].startswith(
                ("P ..", "key", "log", "old", "zset", "owned", "lock", "ent")
            )


@pytest.mark.parametrize("name", NAMES)
def test_every_redis_function_that_may_be_loaded_is_one_version(name):
    assert len(script(name).sha) == 40
    assert script(name) is script(name)


class Answering:
    """Stands for the wire only: gives one reply, and keeps what was sent."""

    def __init__(self, reply: list[Any]) -> None:
        self.reply = reply
        self.sent: list[tuple[str, tuple[Any, ...]]] = []

    def script(self, script: Any, prefix: str, args: tuple[Any, ...]) -> asyncio.Future[Any]:
        self.sent.append((script.name, args))
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(self.reply)
        return future


CASES = [(name, word) for name in NAMES if name not in STUBLESS for word in named_replies(name)]

BUDGET = ScopedBudget(scope=Scope("key", "acme", 60), requests=1)

VERBS: dict[str, Any] = {
    "create": lambda s, o: s.create("r", handler="s.h", kind="k", queue="q", priority=1, body=b"{}", digest="d"),
    "deliver": lambda s, o: s.deliver("r", operation="1", body=b"{}"),
    "decide": lambda s, o: s.decide(
        "r", "0.1", operation="1", approver="ann", roles=["admin"], decision="approved", who=b"", more=b""
    ),
    "cancel": lambda s, o: s.cancel("r", reason=b'""'),
    "reopen": lambda s, o: s.reopen("r"),
    "wake": lambda s, o: s.wake("r"),
    "mend": lambda s, o: s.mend("r"),
    "disown": lambda s, o: s.disown("r", host="h"),
    "claim": lambda s, o: s.claim("r", host="h", nonce="n", kind="k"),
    "append": lambda s, o: s.append(o, Batch()),
    "keep": lambda s, o: s.keep("r", [(1, b"{}")], most=1),
    "emit": lambda s, o: s.emit(o, first=1, chunks=[]),
    "finish": lambda s, o: s.finish(o, "completed", b"1"),
    "call": lambda s, o: s.call(NewCall("r", "s.h", "write", "q", 1, b"{}")),
    "answer": lambda s, o: s.answer("r", generation=0, operation="1", host="h", body=b"{}"),
    "commit": lambda s, o: s.commit(o, "completed", b"1", sets={}, deletes=[]),
    "erase": lambda s, o: s.erase("r"),
    "reseal": lambda s, o: s.reseal("A/b", {"k": b"1"}),
    "retry": lambda s, o: s.retry(o, attempt=0, error=b"{}", delay_ms=0),
    "park": lambda s, o: s.park(o, seen=1),
    "renew": lambda s, o: s.renew(o, seen=1, body=b"{}", carried=[]),
    "fire": lambda s, o: s.fire(0, limit=1, timeout_error=b"{}"),
    "reap": lambda s, o: s.reap(0, "h", limit=1, error=b"{}"),
    "requeue": lambda s, o: s.requeue(0, "q:1", before_ms=1, slack_ms=1, limit=1, probe=True),
    "lend": lambda s, o: s.lend(0, limit=1, lease_ms=1),
    "heart": lambda s, o: s.heart("h"),
    "reserve": lambda s, o: s.reserve(BUDGET, operation="1", nonce="n", estimate=(1, 2, 3)),
    "settle": lambda s, o: s.settle(BUDGET.scope, nonce="n", spent=(1, 2, 3)),
    "reset": lambda s, o: s.reset(BUDGET.scope),
    "configure": lambda s, o: s.configure("r", b'{"value":1}', operation="1", who="ann", comment=""),
}


@pytest.mark.parametrize(("name", "word"), CASES)
async def test_a_stub_takes_every_answer_that_its_script_names(name, word):
    link = Answering([word.encode(), *(SAMPLES.get(part, b"1") for part in named_replies(name)[word])])
    store = Store(link, shards=1, retention_ms=1)  # type: ignore[arg-type]
    try:
        answer = await VERBS[name](store, Ownership("r", "h", "1:n"))
    except Agnt5Error as error:
        answer = error
        assert "r" in str(error)
    assert answer is not None or (name, word) in {("erase", "OK"), ("emit", "OK"), ("configure", "GONE")}
    sent, args = link.sent[0]
    assert sent == name
    if "count," not in header(name):
        assert len(args) == len(arguments(name))


def test_every_verb_of_the_store_is_tried_here():
    verbs = {name for name, value in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")}
    assert verbs <= {*VERBS, "entries", "lengths", "prefix", "shard", "now_ms", "hand_back", "refuse"}
