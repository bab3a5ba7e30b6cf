"""Entities and workers on the pages."""

from __future__ import annotations

import json

import pytest
from page_kit import HOSTILE, Markup, Site, harmless
from support.waiting import until_sync


@pytest.fixture
def client(page_cluster):
    return page_cluster.client


@pytest.fixture
def root(site):
    with site.reader("root") as reader:
        yield reader


def test_an_entity_is_listed_and_tells_its_state(root, client):
    client.entity("Counter", "told/1").add(amount=5, note=HOSTILE)
    page = harmless(root.get("/entities?type=Counter"))
    assert page.all("a", href="/entities/Counter/told%2F1")
    page = harmless(root.get("/entities/Counter/told%2F1"))
    assert json.dumps(HOSTILE) in page.text
    assert "value 5" in page.text
    assert "free" in page.text
    assert [one for one in page.all("a") if (one["href"] or "").startswith("/runs/Counter%2Ftold%2F1~@")]
    assert json.loads(root.get("/entities/Counter/told%2F1/raw")) == {"value": 5, "note": HOSTILE}


def test_types_are_told_apart_and_unknown_ones_are_empty(root):
    assert "No entity of this type has state" in root.get("/entities?type=Nothing")
    harmless(root.get("/entities", 422, params={"type": HOSTILE}))
    assert "There is no such entity" in root.get("/entities/Counter/none", 404)


def test_who_holds_and_who_waits_is_shown_and_a_held_entity_is_not_deleted(root, client):
    client.entity("Counter", "held").add()
    holder = client.start("Counter.add", {"pause": 600}, key="held")
    waiter = client.start("Counter.add", key="held")
    until_sync(lambda: client.entity_state("Counter", "held").waiting, 20)
    page = Markup(root.get("/entities/Counter/held"))
    assert "held" in page.text
    links = [one["href"] for one in page.all("a")]
    for run in (holder, waiter):
        assert f"/runs/{run.id.replace('/', '%2F')}" in links
    busy = root.send("/entities/Counter/held", {"sure": "yes"})
    assert (busy.status_code, "The entity is busy" in busy.text) == (409, True)
    waiter.cancel()
    holder.cancel()
    until_sync(lambda: client.entity_state("Counter", "held").holder is None, 20)
    assert root.send("/entities/Counter/held", {}).status_code == 422
    assert root.send("/entities/Counter/held", {"sure": "yes"}).status_code == 303
    assert "There is no such entity" in root.get("/entities/Counter/held", 404)


def test_only_an_admin_deletes(site, client):
    client.entity("Counter", "kept").add()
    with site.reader("ann") as ann:
        assert "Delete this entity" not in ann.get("/entities/Counter/kept")
        assert ann.send("/entities/Counter/kept", {"sure": "yes"}, page="/workers").status_code == 403
    assert client.entity_state("Counter", "kept").state


# ---- workers


def test_workers_queues_and_beats_are_shown(root, client):
    client.start("page_shop.echo", {"text": "hi"}).result(20)  # a queue is shown once it was used
    page = harmless(root.get("/workers"))
    for part in ("w1@", "alive", "1 beat", "agnt5.page_shop", "page_shop.echo"):
        assert part in page.text, part


def test_the_doctor_is_asked_by_a_form(root):
    answer = root.send("/workers", {})
    assert answer.status_code == 200
    page = harmless(answer.text)
    assert "Nothing is wrong." in page.text or "warning" in page.text


@pytest.mark.parametrize(("url", "shown"), [("https://flower.example/", True), ("javascript:alert(1)", False)])
def test_flower_is_linked_where_it_is_known(page_cluster, url, shown):
    with Site(page_cluster.server.url, env={"AGNT5_FLOWER_URL": url}) as site, site.reader() as reader:
        assert bool(Markup(reader.get("/workers")).all("a", href=url)) is shown
