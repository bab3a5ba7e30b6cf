"""A client that is closed leaves nothing behind, and can be used again."""

import asyncio
import contextlib
import gc
import threading
import warnings

import pytest
from support.waiting import until, until_sync

from agnt5 import AsyncClient, Client, StoreUnavailableError
from agnt5.client import waiting
from agnt5.store import keys


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "agnt5-client"}


def test_a_closed_client_leaves_neither_thread_nor_loop_nor_socket(redis_url):
    gc.collect()  # what others left
    before = threads()
    client = Client(redis_url)
    assert client.runs() == []
    client.close()
    client.close()
    assert client.runs() == []
    assert len(threads() - before) == 1
    client.close()
    assert threads() - before == set()
    del client
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        gc.collect()
    assert [str(one.message) for one in told if issubclass(one.category, ResourceWarning)] == []


def announce(admin) -> None:
    admin.hset("agnt5:{s0}:handlers", "a.b", '{"kind": "function", "parameters": []}')


async def unending(client: AsyncClient) -> None:
    with contextlib.suppress(StoreUnavailableError):
        await client.wait("r")
    await asyncio.sleep(600)


@pytest.mark.parametrize("how", ["wait", "result", "anything"])
def test_calls_of_other_threads_end_when_a_client_is_closed(redis_url, admin, how):
    announce(admin)
    client = Client(redis_url)
    run = client.start("a.b", id="r")
    ways = {
        "wait": lambda: client.wait("r"),
        "result": run.result,
        "anything": lambda: client.call(unending),
    }
    raised: list[Exception] = []

    def wait() -> None:
        try:
            ways[how]()
        except Exception as error:  # noqa: BLE001 - looked at below
            raised.append(error)

    threading.Thread(target=wait, daemon=True).start()
    until_sync(lambda: admin.pubsub_numsub(keys.done_channel("r"))[0][1] == 1)
    client.close()
    until_sync(lambda: raised)
    assert isinstance(raised[0], StoreUnavailableError)


async def test_waits_end_when_an_async_client_is_closed(redis_url, admin, monkeypatch):
    monkeypatch.setattr(waiting, "LOOK_S", 60)
    announce(admin)
    client = AsyncClient(redis_url)
    await client.start("a.b", id="r")
    wait = asyncio.create_task(client.wait("r"))
    await until(lambda: admin.pubsub_numsub(keys.done_channel("r"))[0][1] == 1)
    await client.close()
    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(wait, 10)
