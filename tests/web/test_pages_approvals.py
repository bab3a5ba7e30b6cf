"""Approvals on the pages: the inbox, the form, decision links."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from page_kit import HOSTILE, LINK_SECRET, Markup, harmless
from support.waiting import until_sync

from agnt5.links import DecisionLinks


@pytest.fixture
def client(page_cluster):
    return page_cluster.client


def asked(client, run_id, **given):
    """Start a run that asks, and wait until it does."""
    requester = given.pop("requester", "")
    client.start("page_shop.asks", given, id=run_id, requester=requester)
    (state,) = until_sync(lambda: client.approvals(run_id=run_id), 20)
    return state


def path_of(state):
    return f"/approvals/{state.run_id}/{state.ref}"


def test_an_approval_tells_what_is_asked_by_whom_until_when(site, client):
    state = asked(
        client, "asked-1", name="launch", roles=["ops"], payload={"version": "1.2"}, timeout=86_400, quorum=2,
        form=True, requester="carl",
    )  # fmt: skip
    with site.reader("ann") as ann:
        page = harmless(ann.get("/approvals"))
        for part in ("launch", "carl", '"version": "1.2"', "in 23 h", "ops", "0 of 2", "asked-1"):
            assert part in page.text, part
        assert page.all("form", action=path_of(state))
        counts = page.all("input", name="form.count")  # those of other tests' requests are of the same form
        assert {(one["type"], one["min"], "required" in one) for one in counts} == {("number", "1", True)}
        assert "launch" in harmless(ann.get("/runs/asked-1")).text


def test_a_decision_by_the_inbox_reaches_the_run(site, client):
    state = asked(client, "inbox-1", form=True)
    with site.reader("ann") as ann:
        fields = {"form.count": "3", "form.tell": "true", "form.why": "", "comment": "go", "decision": "approve"}
        answer = ann.send(path_of(state), fields)
        assert (answer.status_code, answer.headers["location"]) == (303, "/runs/inbox-1?said=approved")
        result = client.get("inbox-1").result(20)
        assert result == {"decision": "approved", "by": "ann", "comment": "go", "data": {"count": 3, "tell": True}}
        page = harmless(ann.get("/runs/inbox-1?said=approved"))
        assert "Approved. The decision is in the run's history." in page.text
        assert "approved by ann" in page.text
        assert path_of(state) not in ann.get("/approvals")


def test_a_rejection_needs_no_form(site, client):
    state = asked(client, "rejected-1", form=True)
    with site.reader("ann") as ann:
        assert ann.send(path_of(state), {"form.count": "", "comment": "no", "decision": "reject"}).status_code == 303
    assert client.get("rejected-1").result(20)["decision"] == "rejected"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"form.count": "three"}, "Count: a whole number is needed"),
        ({"form.count": "0"}, "minimum"),
        ({"form.count": ""}, "count"),
    ],
)
def test_a_form_that_does_not_fit_is_told_with_what_was_typed(site, client, fields, says):
    run_id = f"unfit-{len(says)}"
    state = asked(client, run_id, form=True)
    with site.reader("ann") as ann:
        sent = {**fields, "form.why": "because of <b>", "comment": HOSTILE, "decision": "approve"}
        answer = ann.send(path_of(state), sent)
        assert answer.status_code == 422
        page = harmless(answer.text)
        assert says in page.text
        assert HOSTILE in page.text
        assert page.all("input", name="form.why")[0]["value"] == "because of <b>"
    assert client.approval(run_id, "deploy").status == "open"


def test_who_lacks_the_role_sees_no_button_and_is_refused(site, client):
    state = asked(client, "role-1", roles=["legal"])
    with site.reader("ann") as ann:
        assert path_of(state) not in ann.get("/approvals")
        everything = ann.get("/approvals?every=true")
        assert "A role is needed: legal." in everything
        assert not Markup(everything).all("form", action=path_of(state))
        answer = ann.send(path_of(state), {"decision": "approve"}, page="/workers")
        assert answer.status_code == 403
        assert "You do not hold a role that is needed" in harmless(answer.text).text
    with site.reader("bob") as bob:
        assert bob.send(path_of(state), {"decision": "approve"}).status_code == 303


def test_who_lacks_the_scope_sees_no_button_and_is_refused(site, client):
    state = asked(client, "scope-1")
    with site.reader("reader") as reader:
        text = reader.get(path_of(state))
        assert "You have not the scope" in Markup(text).text
        assert not Markup(text).all("button", value="approve")
        answer = reader.send(path_of(state), {"decision": "approve"}, page="/workers")
        assert answer.status_code == 403
    assert client.approval("scope-1", "deploy").status == "open"


def test_the_requester_does_not_decide(site, client):
    state = asked(client, "self-1", requester="ann")
    with site.reader("ann") as ann:
        assert "You asked for this run" in Markup(ann.get(path_of(state))).text
        answer = ann.send(path_of(state), {"decision": "approve"}, page="/workers")
        assert (answer.status_code, "You asked for this run yourself" in answer.text) == (403, True)


def test_the_second_decision_is_told_that_the_first_stands(site, client):
    state = asked(client, "second-1")
    with site.reader("ann") as ann, site.reader("bob") as bob:
        assert ann.send(path_of(state), {"decision": "approve"}).status_code == 303
        late = bob.send(path_of(state), {"decision": "reject"}, page="/workers")
        assert late.status_code == 409
        page = harmless(late.text)
        assert "It is decided already: approved" in page.text
        assert "approved by ann" in page.text


def test_a_late_decision_is_not_taken_for_the_next_approval_of_its_name(site, client):
    client.start("page_shop.asks_twice", id="twice-1")
    (first,) = until_sync(lambda: client.approvals(run_id="twice-1"), 20)
    with site.reader("ann") as ann, site.reader("bob") as bob:
        assert ann.send(path_of(first), {"decision": "approve"}).status_code == 303
        until_sync(lambda: [one for one in client.approvals(run_id="twice-1") if one.ref != first.ref], 20)
        assert bob.send(path_of(first), {"decision": "approve"}, page="/workers").status_code == 409
    assert client.approval("twice-1", "again").status == "open"


def test_a_quorum_counts_votes_and_each_person_once(site, client):
    state = asked(client, "quorum-1", quorum=2)
    with site.reader("ann") as ann, site.reader("bob") as bob:
        answer = ann.send(path_of(state), {"decision": "approve"})
        assert answer.headers["location"].endswith("said=voted")
        page = Markup(ann.get(path_of(state)))
        assert "1 of 2" in page.text
        assert "You have voted." in page.text
        again = ann.send(path_of(state), {"decision": "approve"}, page="/workers")
        assert (again.status_code, "You have voted already" in again.text) == (403, True)
        assert bob.send(path_of(state), {"decision": "approve"}).headers["location"].endswith("said=approved")


def test_nothing_that_an_approval_holds_becomes_markup(site, client):
    state = asked(client, "hostile-ask", name=HOSTILE, payload={HOSTILE: [HOSTILE]}, requester=HOSTILE)
    with site.reader("ann") as ann:
        assert HOSTILE in harmless(ann.get("/approvals")).text
        ann.send(path_of(state), {"decision": "reject", "comment": HOSTILE})
        until_sync(lambda: client.get("hostile-ask").status().ended, 20)
        assert HOSTILE in harmless(ann.get("/runs/hostile-ask")).text


def test_an_unknown_approval_is_not_found(site, client):
    asked(client, "unknown-1")
    with site.reader("ann") as ann:
        assert "asked for none" in Markup(ann.get("/approvals/unknown-1/9.9", 404)).text
        assert "There is no such run" in Markup(ann.get("/approvals/never/0.1", 404)).text


# ---- links


def link_to(state, approver="dora", *, secret=LINK_SECRET, hours=1):
    until = datetime.now(UTC) + timedelta(hours=hours)
    return DecisionLinks(secret).make(state.run_id, state.name, state.ref, approver=approver, expires_at=until)


def test_a_link_decides_without_a_login_and_only_when_the_form_is_sent(site, client):
    state = asked(client, "link-1", form=True)
    path = f"/decide/{link_to(state)}"
    with site.reader() as dora:
        for _ in range(3):  # as mail scanners do
            page = harmless(dora.get(path))
        assert "You decide as dora" in page.text
        assert "/runs/link-1" not in dora.get(path)
        assert client.approval("link-1", "deploy").status == "open"
        assert dora.send(path, {"form.count": "none", "decision": "approve"}).status_code == 422
        answer = dora.send(path, {"form.count": "2", "comment": "fine", "decision": "approve"})
        assert answer.status_code == 303
        done = harmless(dora.get(answer.headers["location"]))
        assert "Approved." in done.text
        assert not done.all("button", value="approve")
        assert dora.send(path, {"decision": "reject"}, page="/login").status_code == 409
    assert client.get("link-1").result(20)["by"] == "dora"


def test_a_link_in_a_mail_works_for_who_is_logged_in_too(site, client):
    """Browsers keep the strict session cookie back when they come from a mail, and send it with the form."""
    state = asked(client, "link-mail")
    path = f"/decide/{link_to(state)}"
    with site.reader("ann") as ann:
        session = ann.http.cookies["agnt5_session"]
        ann.http.cookies.delete("agnt5_session")
        token = Markup(ann.get(path, headers={"Sec-Fetch-Site": "cross-site"})).all("input", name="csrf")[0]["value"]
        ann.http.cookies.set("agnt5_session", session)
        assert ann.http.post(path, data={"csrf": token, "decision": "approve"}).status_code == 303
    assert client.get("link-mail").result(20)["by"] == "dora"


@pytest.mark.parametrize("spoil", ["forged", "late", "cut", "junk"])
def test_a_link_that_is_not_good_decides_nothing(site, client, spoil):
    run_id = f"bad-link-{spoil}"
    state = asked(client, run_id)
    token = {
        "forged": link_to(state, secret="another secret entirely"),
        "late": link_to(state, hours=-1),
        "cut": link_to(state)[:-4],
        "junk": "junk",
    }[spoil]
    with site.reader() as dora:
        page = harmless(dora.get(f"/decide/{token}", 404))
        assert "The link is not valid" in page.text
        answer = dora.send(f"/decide/{token}", {"decision": "approve"}, page="/login")
        assert answer.status_code == 404
    assert client.approval(run_id, "deploy").status == "open"


def test_links_stay_out_of_the_log(site, client):
    state = asked(client, "logged-1")
    token = link_to(state)
    with site.reader() as dora:
        dora.get(f"/decide/{token}")
    until_sync(lambda: "/decide/***" in site.output(), 5)
    assert token not in site.output()
