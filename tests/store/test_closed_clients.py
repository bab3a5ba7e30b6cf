"""A client that is closed leaves nothing behind, and can be used again."""

import gc
import threading
import warnings

from agnt5 import Client


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
