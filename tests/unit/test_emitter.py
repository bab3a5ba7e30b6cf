"""What a generator yields on its way to the store, whose answers are given by hand here."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace

import pytest
from support import secret_values
from support.waiting import until

from agnt5.contracts.errors import PayloadTooLargeError, StaleEpochError, StreamLimitError
from agnt5.contracts.masking import MASKER
from agnt5.llm.responses import LLMChunk
from agnt5.runtime.emitter import AHEAD, AHEAD_BYTES, emit_all, emit_from_thread


class Live:
    """The run of a generator, and its host and store: `sent` has what went out, `answers` what is owed."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.host = self.store = self
        self.settings = SimpleNamespace(payload_limit=4 << 20)
        self.stream_limit = 10_000
        self.handler = SimpleNamespace(address="s.h")
        self.own = object()
        self.ended = False
        self.sent: list[tuple[int, list]] = []
        self.answers: list[asyncio.Future[None]] = []
        self.wrong: list[BaseException] = []
        self.auto = False

    def emit(self, own, *, first: int, chunks: list[bytes]) -> asyncio.Future[None]:
        assert own is self.own
        self.sent.append((first, [json.loads(chunk) for chunk in chunks]))
        answer: asyncio.Future[None] = self.loop.create_future()
        if self.auto:
            answer.set_result(None)
        self.answers.append(answer)
        return answer

    def spawn(self, coro, live) -> None:
        assert live is self
        task = self.loop.create_task(coro)
        task.add_done_callback(lambda done: done.exception() and self.wrong.append(done.exception()))

    async def call(self, fn):
        return await self.loop.run_in_executor(None, fn)

    @property
    def count(self) -> int:
        return sum(len(chunks) for _, chunks in self.sent)

    def answer(self, error: Exception | None = None) -> None:
        for answer in self.answers:
            if not answer.done():
                answer.set_exception(error) if error else answer.set_result(None)


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    """A run whose store answers at last, so that a failed test does not hang."""
    live = Live()
    yield live
    live.ended = live.auto = True
    live.answer()


async def turns(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def numbers(count: int, size: int = 0):
    for number in range(count):
        yield "x" * size if size else number


async def test_the_first_chunk_goes_out_at_once_and_others_with_those_of_their_tick(live):
    task = asyncio.ensure_future(emit_all(live, numbers(40)))
    await asyncio.sleep(0)
    assert live.sent[0] == (1, [0])
    await turns()
    assert live.count == 40
    assert len(live.sent) < 10
    assert [first for first, _ in live.sent] == [
        1 + sum(len(c) for _, c in live.sent[:n]) for n in range(len(live.sent))
    ]
    live.answer()
    assert await task == list(range(40))


async def test_each_chunk_of_a_handler_that_blocks_is_out_before_it_goes_on(live):
    async def blocking():
        for number in range(5):
            assert live.count == number
            yield number
            threading.Event().wait(0.002)  # keeps the loop from going on

    task = asyncio.ensure_future(emit_all(live, blocking()))
    await turns()
    live.answer()
    assert await task == [0, 1, 2, 3, 4]


async def test_a_generator_waits_when_it_is_too_far_ahead(live):
    task = asyncio.ensure_future(emit_all(live, numbers(200)))
    await turns()
    assert live.count == AHEAD
    await turns()
    assert live.count == AHEAD
    live.answers[0].set_result(None)
    await turns()
    assert live.count == AHEAD + len(live.sent[0][1])
    live.auto = True
    live.answer()
    assert await task == list(range(200))


async def test_a_generator_of_large_chunks_waits_sooner(live):
    size = AHEAD_BYTES // 4
    task = asyncio.ensure_future(emit_all(live, numbers(10, size)))
    await turns()
    assert live.count == 4
    live.auto = True
    live.answer()
    assert len(await task) == 10


async def test_it_has_not_ended_before_all_is_stored(live):
    task = asyncio.ensure_future(emit_all(live, numbers(3)))
    await turns()
    assert not task.done()
    live.answer()
    await turns()
    assert task.done()


@pytest.mark.parametrize("ended_by", ["error", "cancel"])
async def test_chunks_before_a_failure_are_stored_before_it_is_told(live, ended_by):
    closed = []

    async def failing():
        try:
            yield 1
            if ended_by == "error":
                raise ValueError("no")
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    task = asyncio.ensure_future(emit_all(live, failing()))
    await turns()
    if ended_by == "cancel":
        task.cancel()
        await turns()
    assert closed
    assert not task.done()
    live.answer()
    with pytest.raises(ValueError if ended_by == "error" else asyncio.CancelledError):
        await task


async def test_what_the_store_refuses_is_told_to_the_run_once_and_nothing_more_is_sent(live):
    closed = []

    async def endless():
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    task = asyncio.ensure_future(emit_all(live, endless()))
    await turns(10)
    sent = live.count
    live.answer(StaleEpochError("another worker"))
    await turns()
    assert [type(error) for error in live.wrong] == [StaleEpochError]
    assert live.count <= sent + 1
    live.ended = True  # what the run does then
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert closed


@pytest.mark.parametrize("threaded", [False, True])
async def test_the_limit_of_chunks_ends_it(live, threaded):
    reached = []
    live.auto, live.stream_limit = True, 3

    def emit(own, *, first, chunks):
        answer = Live.emit(live, own, first=first, chunks=chunks)
        if first + len(chunks) - 1 > 3:
            answer = live.loop.create_future()
            answer.set_exception(StreamLimitError("too many"))
        return answer

    live.emit = emit

    async def counting():
        for number in range(9):
            reached.append(number)
            yield number

    def counting_too():
        for number in range(9):
            reached.append(number)
            yield number

    with pytest.raises(StreamLimitError):
        await (emit_from_thread(live, counting_too) if threaded else emit_all(live, counting()))
    assert reached == [0, 1, 2, 3]
    assert not live.wrong


async def test_what_could_never_be_a_result_ends_at_the_chunk_that_is_too_much(live):
    live.auto, live.settings.payload_limit, closed = True, 30, []

    async def closing():
        try:
            async for chunk in numbers(9, 5):
                yield chunk
        finally:
            closed.append(True)

    with pytest.raises(PayloadTooLargeError, match=r"result of s\.h: its first 4 chunks are 33 bytes of JSON"):
        await emit_all(live, closing())  # [ and ], 4 times 7, 3 commas
    assert closed
    assert live.count == 3


async def test_a_thread_waits_too_and_stops_when_its_run_is_over(live):
    yielded, closed = [], threading.Event()

    def endless():
        try:
            while True:
                yielded.append(1)
                yield 1
        finally:
            closed.set()

    task = asyncio.ensure_future(emit_from_thread(live, endless))
    await until(lambda: live.count == AHEAD)
    await turns()
    assert live.count == AHEAD == len(yielded)
    live.ended = True
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    live.answer()
    await asyncio.to_thread(closed.wait, 5)
    assert closed.is_set()
    assert len(yielded) <= AHEAD + 1


# ---- secrets in pieces

KEY = secret_values.made("emitter")
START, END, LABEL = KEY[:9], KEY[9:], "[secret:key]"


@pytest.fixture
def known():
    """What the process knows during one test."""
    before = dict(MASKER._values)
    MASKER.learn("key", KEY)
    yield
    MASKER.forget()
    MASKER.learn_all((name, value) for value, name in before.items())


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_secret_that_is_split_over_chunks_is_masked_where_it_begins(live, known, threaded):
    live.auto = True
    chunks = ["a ", START, END, " b", KEY, {"x": START}, {"x": END}]

    async def saying():
        for chunk in chunks:
            yield chunk

    def saying_too():
        yield from chunks

    given = await (emit_from_thread(live, saying_too) if threaded else emit_all(live, saying()))
    assert given == ["a ", LABEL, "", " b", LABEL, {"x": START}, {"x": END}]
    assert [chunk for _, sent in live.sent for chunk in sent] == given


async def test_a_chunk_that_is_a_secret_is_masked_as_the_beginning_of_the_longer_one_that_it_is(live, known):
    live.auto = True
    MASKER.learn("longer", KEY + " and more")

    async def saying():
        yield KEY
        yield " and more"

    assert await emit_all(live, saying()) == ["[secret:longer]", ""]


async def test_texts_of_agents_and_models_are_one_text_with_all_that_is_beside_them_kept(live, known):
    live.auto = True

    async def telling():
        told = {"type": "text", "text": START, "n": 1.0, "key": KEY}
        yield told
        told["text"] = END[:3]
        yield told
        yield LLMChunk(text=END[3:] + "!")
        yield {"type": "done", "text": None}

    last = {"text": "!", "response": None}
    label = {"type": "text", "text": LABEL, "n": 1.0, "key": LABEL}
    assert await emit_all(live, telling()) == [label, {**label, "text": ""}, last, {"type": "done", "text": None}]


async def test_only_what_may_be_the_beginning_of_a_secret_waits(live, known):
    live.auto = True
    yields = iter([("a", ["a"]), (START[:2], [START[:2]]), (f"b {START}", []), (5, [f"b {START}", 5]), (START, []),
                   (END + START, [LABEL]), ("c", [START, "c"])])  # fmt: skip
    expected = []

    async def slow():
        for chunk, sent in yields:
            yield chunk
            await turns()
            expected.extend(sent)
            assert [chunk for _, sent in live.sent for chunk in sent] == expected

    assert await emit_all(live, slow()) == ["a", START[:2], f"b {START}", 5, LABEL, START, "c"]
    assert live.count == 7


@pytest.mark.parametrize("ended_by", ["error", "cancel", "limit"])
async def test_what_waits_is_stored_however_the_generator_ends(live, known, ended_by):
    live.auto = True

    async def ending():
        yield "a"
        yield START
        if ended_by == "error":
            raise ValueError("no")
        if ended_by == "cancel":
            await asyncio.Event().wait()
        live.settings.payload_limit = 10
        yield END

    task = asyncio.ensure_future(emit_all(live, ending()))
    await turns()
    if ended_by == "cancel":
        assert live.count == 1
        task.cancel()
    kinds = {"error": ValueError, "cancel": asyncio.CancelledError, "limit": PayloadTooLargeError}
    with pytest.raises(kinds[ended_by]):
        await task
    assert [chunk for _, sent in live.sent for chunk in sent] == ["a", START]


async def test_the_bytes_of_a_result_are_counted_as_they_are_stored(live, known):
    live.auto = True
    live.settings.payload_limit = len(f'["{LABEL}","","{LABEL}"]')

    async def saying():
        for chunk in (START, END, LABEL):
            yield chunk

    assert await emit_all(live, saying()) == [LABEL, "", LABEL]
