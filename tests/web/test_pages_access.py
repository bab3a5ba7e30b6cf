"""Who may see and do what on the pages: sessions, forms, headers."""

from __future__ import annotations

import time

import httpx
import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from page_kit import LINK_SECRET, Markup, Site, harmless
from web_kit import people

from agnt5.web.tokens import digest


def cookie_of(answer, name):
    (found,) = [value for value in answer.headers.get_list("set-cookie") if value.startswith(f"{name}=")]
    return found


class YesterdaysSigner(TimestampSigner):
    def get_timestamp(self) -> int:
        return int(time.time()) - 24 * 3600


def content_of(cookie):
    """What anybody can read in a session cookie."""
    return URLSafeTimedSerializer("none").loads_unsafe(cookie)[1]


def test_nobody_is_sent_to_the_login_and_back(site):
    with site.reader() as reader:
        answer = reader.http.get("/runs/x?journal=2")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fruns%2Fx%3Fjournal%3D2")
        harmless(reader.get(answer.headers["location"]))
        fields = {"token": site.secrets["ann"], "next": "/runs/x?journal=2"}
        assert reader.send("/login", fields).headers["location"] == "/runs/x?journal=2"
        assert "ann" in reader.get("/")


@pytest.mark.parametrize(
    "aim", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", ""]
)
def test_a_login_leads_to_no_other_site(site, aim):
    with site.reader() as reader:
        assert reader.send("/login", {"token": site.secrets["ann"], "next": aim}).headers["location"] == "/"


def test_a_wrong_token_lets_nobody_in(site):
    with site.reader() as reader:
        answer = reader.send("/login", {"token": "agnt5_wrong"})
        assert answer.status_code == 401
        assert "That is no valid token" in harmless(answer.text).text
        assert "agnt5_session" not in answer.headers.get("set-cookie", "")
        assert "agnt5_wrong" not in answer.text


def test_the_session_cookie_is_locked_up_and_does_not_tell_the_token(site):
    with site.reader() as reader:
        cookie = cookie_of(reader.send("/login", {"token": site.secrets["ann"]}), "agnt5_session")
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Secure" not in cookie
        told = str(content_of(reader.http.cookies["agnt5_session"]))
        secret = site.secrets["ann"]
        for hidden in (secret, digest(secret)):
            assert not any(hidden[at : at + 12] in told + cookie for at in range(len(hidden) - 12))
    with site.reader() as reader:
        answer = reader.send("/login", {"token": site.secrets["ann"]}, headers={"X-Forwarded-Proto": "https"})
        assert "Secure" in cookie_of(answer, "agnt5_session")


def test_a_forged_or_changed_session_is_nobody(site):
    with site.reader("ann") as reader:
        right = reader.http.cookies["agnt5_session"]
        for wrong in ("x", right[:-2], right + "a", "." + right):
            reader.http.cookies.clear()
            reader.http.cookies.set("agnt5_session", wrong)
            assert reader.http.get("/").headers["location"].startswith("/login")


def test_a_session_ends_when_its_token_is_taken_away(page_cluster, tmp_path):
    path, secrets = people(tmp_path)
    with Site(page_cluster.server.url, tokens=path, secrets=secrets) as before, before.reader("ann") as reader:
        kept = reader.http.cookies["agnt5_session"]
    path, secrets = people(tmp_path)  # everybody got a new one
    with Site(page_cluster.server.url, tokens=path, secrets=secrets) as after, after.reader() as reader:
        reader.http.cookies.set("agnt5_session", kept)
        assert reader.http.get("/").status_code == 303


@pytest.mark.parametrize(("signer", "status"), [(TimestampSigner, 200), (YesterdaysSigner, 303)])
def test_a_session_ends_by_itself(site, signer, status):
    with site.reader("ann") as reader:
        content = content_of(reader.http.cookies["agnt5_session"])
        cookie = URLSafeTimedSerializer(LINK_SECRET, salt="agnt5.session", signer=signer).dumps(content)
        reader.http.cookies.clear()
        reader.http.cookies.set("agnt5_session", cookie)
        assert reader.http.get("/").status_code == status


def test_logging_out_forgets_the_session(site):
    with site.reader("ann") as reader:
        assert reader.send("/logout", {}, page="/").status_code == 303
        assert "agnt5_session" not in reader.http.cookies
        assert reader.http.get("/").headers["location"].startswith("/login")


FORMS = ["/logout", "/runs/x", "/workers", "/entities/Counter/x", "/approvals/x/0.1", "/login", "/decide/x"]


@pytest.mark.parametrize("path", FORMS)
def test_a_form_without_its_token_is_refused(site, path):
    with site.reader("root") as reader:
        reader.get("/workers")
        for data in ({}, {"csrf": ""}, {"csrf": "0" * 64}):
            answer = reader.http.post(path, data=data)
            assert answer.status_code == 403, path
            assert "was not made in this session" in harmless(answer.text).text


def test_a_form_token_of_another_session_is_refused(site):
    with site.reader("ann") as ann, site.reader("bob") as bob:
        page = ann.get("/workers")
        token = Markup(page).all("input", name="csrf")[0]["value"]
        assert bob.http.post("/workers", data={"csrf": token}).status_code == 403
        assert ann.http.post("/workers", data={"csrf": token}).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_form_that_another_site_sends_is_refused(site, headers):
    with site.reader("root") as reader:
        answer = reader.send("/workers", {}, headers=headers)
        assert answer.status_code == 403
        assert "Another site" in answer.text
        own = {"Origin": site.url, "Sec-Fetch-Site": "same-origin"}
        assert reader.send("/workers", {}, headers=own).status_code == 200


@pytest.mark.parametrize("path", ["/login", "/decide/x"])
def test_a_form_that_asks_for_no_login_is_refused_from_other_sites_too(site, path):
    with site.reader() as reader:
        answer = reader.send(
            path, {"token": site.secrets["ann"]}, page="/login", headers={"Origin": "https://evil.example"}
        )
        assert (answer.status_code, "Another site" in answer.text) == (403, True)


def test_a_link_on_another_site_comes_in_by_a_detour(site):
    """A strict cookie is kept back from a navigation that another site begins; our own page asks again."""
    with site.reader() as reader:
        text = reader.get("/runs/x", headers={"Sec-Fetch-Site": "cross-site"})
        assert 'http-equiv="refresh"' in text
        assert reader.http.get("/runs/x", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303


@pytest.mark.parametrize(
    "path", ["/", "/runs/nope", "/approvals", "/entities", "/workers", "/login", "/decide/x", "/nowhere"]
)
def test_every_page_is_served_with_its_guards(site, path):
    with site.reader("root") as reader:
        answer = reader.http.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


def test_files_are_kept_by_browsers_for_as_long_as_they_stay_the_same(site):
    with site.reader("ann") as reader:
        (sheet,) = Markup(reader.get("/")).all("link", rel="stylesheet")
        assert "immutable" in reader.http.get(sheet["href"]).headers["cache-control"]
        assert reader.http.get("/static/pages.css").headers["cache-control"] == "no-cache"
        assert reader.http.get("/static/nope.css").status_code == 404
        assert reader.http.get("/static/..%2Fapp.py").status_code == 404


def test_who_may_only_decide_sees_the_inbox_only(site):
    with site.reader("decider") as reader:
        page = Markup(reader.get("/approvals"))
        assert page.all("a", href="/approvals")
        assert not page.all("a", href="/workers")
        for path in ("/", "/workers", "/entities", "/runs/x"):
            assert "has not the scope" in Markup(reader.get(path, 403)).text
    with site.reader("nobody") as reader:
        assert Markup(reader.get("/approvals", 403)).text


def test_without_tokens_this_machine_needs_no_login_and_others_are_refused(local_site):
    with local_site.reader() as reader:
        assert "local" in reader.get("/")
        assert reader.http.get("/login").headers["location"] == "/"
        stranger = reader.http.get("/", headers={"X-Forwarded-For": "10.0.0.1"})
        assert stranger.status_code == 403
        assert "No tokens are set" in harmless(stranger.text).text
        assert reader.http.post("/workers", headers={"X-Forwarded-For": "10.0.0.1"}).status_code == 403


def test_a_token_of_the_api_also_opens_pages(site):
    headers = {"Authorization": f"Bearer {site.secrets['ann']}", "Accept": "text/html"}
    assert httpx.get(f"{site.url}/workers", headers=headers).status_code == 200
