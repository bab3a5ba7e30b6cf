"""Where the broker is the store's own database, scripts send the messages; they must be those that a worker sends."""

import json
import re

import pytest

from agnt5.runtime.dispatch import envelope, read_envelope
from agnt5.store.replies import Dispatch
from agnt5.store.store import Batch, Store
from tests.support import runs


@pytest.fixture
def posting(store):
    return Store(store.link, shards=16, retention_ms=60_000, posts=True)


def sent(admin, name):
    return admin.lrange(name, 0, -1)


@pytest.mark.parametrize(("priority", "name"), [(0, "q"), (2, "q"), (3, "q\x06\x163"), (9, "q\x06\x169")])
async def test_a_created_run_is_announced_as_a_worker_would(posting, admin, priority, name):
    created = await posting.create(
        "r-1", handler="s.h", kind="", queue="q", priority=priority, body=b'{"e":"RunStarted"}', digest="d"
    )
    assert created.out == []
    [message] = sent(admin, name)
    tag = json.loads(message)["properties"]["delivery_tag"]
    assert message.decode() == envelope(Dispatch("q", priority, "s.h", "r-1"), tag)
    assert re.fullmatch(r"r-1/\d+\.\d+", tag)


async def test_a_child_is_announced_with_its_parent_and_root(posting, admin):
    own = await runs.owned(posting)
    await posting.append(own, Batch(bodies=[runs.body("TaskScheduled", seq=1)], children=[runs.child("r~1", 1)]))
    messages = [text for name in admin.keys("*") if admin.type(name) == b"list" for text in sent(admin, name)]
    [message] = [text for text in messages if b'"id":"r~1"' in text]
    headers = json.loads(message)["headers"]
    assert (headers["root_id"], headers["parent_id"], headers["agnt5"]) == ("r", "r", 1)
    assert read_envelope(message) == (headers["task"], "r~1")
