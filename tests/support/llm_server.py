"""A provider of language models for tests: real HTTP in OpenAI's form, with answers by script, and everything counted.

Models of Anthropic are answered in that one's form, from the same scripts.

It has a thread and a loop of its own, so that it serves this process and workers alike. What a model says is a list of
parts: text, and things that happen between (waits, gates that a test opens, the end of the connection). Plain requests
and streams are answered from the same script; streams come word by word.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Self

from aiohttp import web
from support import llm_anthropic
from support.secret_values import made
from support.waiting import until_sync

KEY = made("llm provider", prefix="sk-")
"""What clients of `LLMServer.env` send as their key."""


CUT = web.RequestKey("cut", bool)


@dataclass(frozen=True)
class Pause:
    """Nothing happens for so long."""

    seconds: float


@dataclass(frozen=True)
class Gate:
    """Nothing happens until the test calls `release(name)`."""

    name: str


class Cut:
    """The connection is cut."""


@dataclass(frozen=True)
class Reply:
    """One answer. `body` is sent as it is in the place of JSON; `usage` is (prompt, completion) tokens."""

    parts: tuple[str | Pause | Gate | Cut, ...] = ()
    calls: tuple[dict[str, Any], ...] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    body: str | None = None
    usage: tuple[int, int] | None = None
    finish: str = "stop"
    thinking: tuple[dict[str, Any], ...] = ()


Script = str | Reply | Callable[[dict[str, Any]], Any]


def said(*parts: str | Pause | Gate | Cut) -> Reply:
    """Text in parts, with what happens between: `said("one ", Gate("go"), "two")`."""
    return Reply(parts)


def tool_calls(*calls: tuple[str, Any], text: str = "") -> Reply:
    """`tool_calls(("name", {args}), ...)`. Arguments that are a str are sent as they are."""
    made = []
    for name, arguments in calls:
        raw = arguments if isinstance(arguments, str) else json.dumps(arguments)
        made.append({"name": name, "arguments": raw})
    return Reply((text,) if text else (), calls=tuple(made), finish="tool_calls")


def json_reply(data: Any) -> Reply:
    """Text that is JSON."""
    return said(json.dumps(data))


def status(code: int, /, *, retry_after: float | str | None = None, message: str = "", **error: Any) -> Reply:
    """An error. More of its body by keyword: `status(400, code="context_length_exceeded")`."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    told = {"message": message or f"the fake provider says {code}", "type": "error", "param": None, "code": None}
    return Reply(status=code, headers=headers, error={**told, **error})


def garbage(body: str = "<html>this is no JSON</html>") -> Reply:
    """An answer that is no JSON."""
    return Reply(body=body)


def slow(seconds: float, reply: str | Reply = "late") -> Reply:
    """An answer that takes its time before it begins."""
    return _after(Pause(seconds), reply)


def gated(name: str, reply: str | Reply = "released") -> Reply:
    """An answer that begins when the test calls `release(name)`."""
    return _after(Gate(name), reply)


def paced(seconds: float, text: str) -> Reply:
    """Words with a pause before each."""
    return said(*(part for word in _words(text) for part in (Pause(seconds), word)))


def drop(after_chunks: int = 2, text: str = "one two three four five six") -> Reply:
    """A connection that is cut in the middle of the answer, after so many words."""
    return said("".join(_words(text)[:after_chunks]), Cut())


def using(prompt_tokens: int, completion_tokens: int, reply: str | Reply = "counted") -> Reply:
    """An answer with this usage."""
    return replace(_reply(reply), usage=(prompt_tokens, completion_tokens))


class LLMServer:
    """The provider. `requests` are the bodies received, in order; `auth` the Authorization headers beside them.

    `left` counts the requests whose client went away before the answer ended.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-llm", daemon=True)
        self._lock = threading.Lock()
        self._scripts: dict[str, list[Script]] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._held: dict[str, int] = {}
        self._numbers = count(1)
        self._runner: web.AppRunner | None = None
        self._requests: list[dict[str, Any]] = []
        self._auth: list[str] = []
        self._issued: list[dict[str, Any]] = []
        self.left = 0
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ---- for clients

    @property
    def url(self) -> str:
        """The base of its API."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def env(self) -> dict[str, str]:
        """Variables with which LiteLLM asks this server for OpenAI's and Anthropic's models; for worker processes."""
        return {
            "OPENAI_BASE_URL": self.url,
            "OPENAI_API_BASE": self.url,
            "OPENAI_API_KEY": KEY,
            "ANTHROPIC_API_BASE": f"http://127.0.0.1:{self.port}",
            "ANTHROPIC_API_KEY": KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }

    @contextmanager
    def environment(self) -> Iterator[None]:
        """The variables in this process."""
        import pytest  # noqa: PLC0415 - workers need none of it

        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.env.items():
                patch.setenv(name, value)
            yield

    # ---- for tests

    def script(self, model: str, *replies: Script) -> None:
        """What a model says from now on, in turn; the last one again and again. A callable gets the request's body.

        A model without script repeats the last words of the user.
        """
        with self._lock:
            self._scripts[model] = list(replies)

    def clear(self) -> None:
        """Forget scripts, requests and gates."""
        with self._lock:
            self._scripts.clear()
            self._requests.clear()
            self._auth.clear()
            self._gates.clear()
            self._held.clear()
            self.left = 0

    def release(self, name: str) -> None:
        """Open a gate, for who waits and for who comes."""
        self._loop.call_soon_threadsafe(self._gate(name).set)

    def wait_held(self, name: str, number: int = 1, timeout: float = 10.0) -> None:
        """Wait until so many requests have come to a gate."""
        until_sync(lambda: self._held.get(name, 0) >= number, timeout, f"{number} requests are at the gate {name!r}")

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The bodies received so far, in order."""
        with self._lock:
            return list(self._requests)

    @property
    def auth(self) -> list[str]:
        """The Authorization headers received so far, in order."""
        with self._lock:
            return list(self._auth)

    def count(self, model: str | None = None) -> int:
        """How many requests came, in all or for one model."""
        return sum(model is None or body.get("model") == model for body in self.requests)

    # ---- in its own thread

    async def _open(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/messages", self._message)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=4096)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        assert self._runner is not None
        for gate in self._gates.values():
            gate.set()
        await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        with self._lock:
            self._requests.append(body)
            self._auth.append(request.headers.get("authorization", ""))
        reply = self._next(body)
        try:
            if reply.error is not None:
                return web.json_response({"error": reply.error}, status=reply.status, headers=reply.headers)
            if reply.body is not None:
                return web.Response(text=reply.body, content_type="application/json")
            if body.get("stream"):
                return await self._stream(request, body, reply)
            return await self._plain(request, body, reply)
        except (ConnectionResetError, asyncio.CancelledError):
            self.left += CUT not in request
            raise

    async def _message(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        with self._lock:
            self._requests.append(body)
        if (refused := llm_anthropic.refused(body, self._issued)) is not None:
            return refused
        reply = self._next(body)
        self._issued += reply.thinking
        for part in reply.parts:
            if not isinstance(part, str | Cut):
                await self._wait(part)
        calls = [self._call(call) for call in reply.calls]
        return await llm_anthropic.answered(request, body, reply, calls, _usage(body, reply))

    def _next(self, body: dict[str, Any]) -> Reply:
        with self._lock:
            script = self._scripts.get(body["model"]) or [_echo]
            entry = script.pop(0) if len(script) > 1 else script[0]
        return _reply(entry(body) if callable(entry) else entry)

    async def _plain(self, request: web.Request, body: dict[str, Any], reply: Reply) -> web.Response:
        text = ""
        for part in reply.parts:
            if isinstance(part, str):
                text += part
            elif isinstance(part, Cut):
                await _cut(request)
            else:
                await self._wait(part)
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if reply.calls else "")}
        if reply.thinking:
            message["reasoning_content"] = llm_anthropic.readable(reply)
        if reply.calls:
            message["tool_calls"] = [self._call(call) for call in reply.calls]
        choice = {"index": 0, "message": message, "finish_reason": reply.finish, "logprobs": None}
        answer = {**self._head(body, "chat.completion"), "choices": [choice], "usage": _usage(body, reply)}
        return web.json_response(answer, headers=reply.headers)

    async def _stream(self, request: web.Request, body: dict[str, Any], reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", **reply.headers})
        await response.prepare(request)
        head = self._head(body, "chat.completion.chunk")

        async def send(delta: dict[str, Any], finish: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            await _event(response, {**head, "choices": [choice]})

        await send({"role": "assistant", "content": ""})
        for word in _words(llm_anthropic.readable(reply)):
            await send({"reasoning_content": word})
        for part in reply.parts:
            if isinstance(part, str):
                for word in _words(part):
                    await send({"content": word})
            elif isinstance(part, Cut):
                await _cut(request)
            else:
                await self._wait(part)
        for index, call in enumerate(reply.calls):
            for delta in _in_pieces(self._call(call), index):
                await send({"tool_calls": [delta]})
        await send({}, reply.finish)
        if (body.get("stream_options") or {}).get("include_usage"):
            await _event(response, {**head, "choices": [], "usage": _usage(body, reply)})
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _wait(self, part: Pause | Gate) -> None:
        if isinstance(part, Pause):
            await asyncio.sleep(part.seconds)
            return
        gate = self._gate(part.name)
        with self._lock:
            self._held[part.name] = self._held.get(part.name, 0) + 1
        await gate.wait()

    def _gate(self, name: str) -> asyncio.Event:
        with self._lock:
            return self._gates.setdefault(name, asyncio.Event())

    def _head(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        number = next(self._numbers)
        return {"id": f"chatcmpl-{number}", "object": kind, "created": 1_790_000_000, "model": body["model"]}

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        return {"id": f"call_{next(self._numbers)}", "type": "function", "function": call}


async def _cut(request: web.Request) -> None:
    assert request.transport is not None
    request[CUT] = True
    request.transport.abort()
    await asyncio.Event().wait()  # until the server cancels us, since the connection is gone


def _after(first: Pause | Gate, reply: str | Reply) -> Reply:
    made = _reply(reply)
    return replace(made, parts=(first, *made.parts))


def _reply(entry: Any) -> Reply:
    return entry if isinstance(entry, Reply) else said(str(entry))


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*?(?=\s|$)|\s+", text)


def _in_pieces(call: dict[str, Any], index: int) -> Iterator[dict[str, Any]]:
    """A tool call as streams have it: the name first, then the arguments in two pieces."""
    raw = call["function"]["arguments"]
    yield {"index": index, **call, "function": {"name": call["function"]["name"], "arguments": ""}}
    for piece in (raw[: len(raw) // 2], raw[len(raw) // 2 :]):
        yield {"index": index, "function": {"arguments": piece}}


async def _event(response: web.StreamResponse, data: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(data)}\n\n".encode())


def _texts(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text") or "" for part in content)


def _echo(body: dict[str, Any]) -> str:
    return next((_texts(one) for one in reversed(body["messages"]) if one["role"] == "user"), "")


def _usage(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """A token a word, unless the reply says otherwise."""
    prompt = sum(len(_texts(message).split()) for message in body["messages"])
    completion = sum(len(part.split()) for part in reply.parts if isinstance(part, str)) + 5 * len(reply.calls)
    prompt, completion = reply.usage or (prompt, completion)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
