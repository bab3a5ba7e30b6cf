"""A client that is closed leaves nothing behind, and can be used again."""

import gc
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.waiting import until_sync

from agnt5 import Client, StoreUnavailableError
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


@pytest.mark.parametrize("how", ["wait", "result"])
def test_calls_of_other_threads_end_when_a_client_is_closed(redis_url, admin, how):
    admin.hset("agnt5:{s0}:handlers", "a.b", '{"kind": "function", "parameters": []}')
    client = Client(redis_url)
    run = client.start("a.b", id="r")
    waits = {"wait": lambda: client.wait("r"), "result": run.result}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waits[how])
        until_sync(lambda: admin.pubsub_numsub(keys.done_channel("r"))[0][1] == 1)
        client.close()
        with pytest.raises(StoreUnavailableError):
            waiting.result(10)
