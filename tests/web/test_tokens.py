"""Tokens, identities and what is masked: without a server."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from agnt5 import ConfigurationError
from agnt5.contracts import errors
from agnt5.web import Identity, Token, create_api
from agnt5.web.accesslog import masked
from agnt5.web.api.common import key_of
from agnt5.web.identity import local_identity
from agnt5.web.problems import kind_of, problem_of
from agnt5.web.tokens import VARIABLE, digest, entry_of, find, load, new_token


def entry(**more):
    return {"name": "ann", "roles": ["ops"], "scopes": ["read"], "sha256": digest("secret"), **more}


def test_a_token_is_found_by_its_secret_only():
    made = [new_token(f"p{at}", (), ("read",)) for at in range(3)]
    tokens = [token for _, token in made]
    assert [find(tokens, secret).name for secret, _ in made] == ["p0", "p1", "p2"]
    for wrong in ("", "x", made[0][0][:-1], made[0][1].sha256, made[0][0].upper()):
        assert find(tokens, wrong) is None
    assert len({secret for secret, _ in made}) == 3


def test_neither_secret_nor_hash_is_shown():
    secret, token = new_token("ann", ("ops",), ("read",))
    assert secret not in repr(token)
    assert token.sha256 not in repr(token)
    assert secret not in json.dumps(entry_of(token))
    web = create_api(tokens=[token], redis_url="redis://:hidden@localhost:1/0").state.agnt5
    assert token.sha256 not in repr(web)
    assert "hidden" not in repr(web)


def test_a_file_of_tokens_is_read(tmp_path, monkeypatch):
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps([entry(), entry(name="bob", sha256=digest("other").upper())]))
    assert [token.name for token in load(path)] == ["ann", "bob"]
    assert load(None) == ()
    monkeypatch.setenv(VARIABLE, str(path))
    assert find(load(None), "other").name == "bob"
    assert not create_api().state.agnt5.open
    assert create_api(authenticate=nobody).state.agnt5.tokens == ()  # no second door by accident


async def nobody(_):
    return None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "no token in it"),
        ([{**entry(), "token": "secret"}], "sha256sum"),
        ([entry(sha256="abc")], "64 hex digits"),
        ([entry(scopes=["all"])], "no scope 'all'"),
        ([entry(scopes="read")], "list of texts"),
        ([entry(roles=["*"])], "cannot be given away"),
        ([entry(name="a b")], "name"),
        ([entry(extra=1)], "'extra'"),
        ([{"name": "ann"}], "sha256"),
        ([entry(), entry(name="bob")], "one owner"),
        (["secret"], "an object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_entry_is_told_without_its_values(tmp_path, given, told):
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps(given))
    for source in (path, given):
        with pytest.raises(ConfigurationError, match=told) as raised:
            load(source)
        assert "secret" not in str(raised.value).replace("secret-", "")


@pytest.mark.parametrize("text", ["", "{", '{"a": "agnt5_hidden"}', '["agnt5_hidden"'])
def test_a_broken_file_is_told_without_its_text(tmp_path, text):
    path = tmp_path / "tokens.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"tokens\.json") as raised:
        load(path)
    assert "hidden" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "none.json")


def test_admin_may_all_and_others_what_they_have():
    assert all(Identity("a", scopes=frozenset({"admin"})).may(scope) for scope in ("read", "start", "decide"))
    reader = Identity("r", scopes=frozenset({"read"}))
    assert reader.may("read")
    assert not reader.may("start")
    assert reader.roles_for(["ops"]) == []
    local = local_identity()
    assert local.roles_for(["ops", "legal"]) == ["legal", "ops"]
    assert local.holds("anything")
    assert local.requester == ""
    with pytest.raises(dataclasses.FrozenInstanceError):
        local.name = "root"


def test_an_idempotency_key_is_bound_to_its_owner():
    ann, bob = Identity("ann"), Identity("bob")
    assert key_of(ann, "k") == key_of(ann, '"k"') != key_of(bob, "k")
    assert key_of(ann, None) is None
    for wrong in ("", "a b", "a~b", "x" * 200):
        with pytest.raises(errors.InvalidInputError, match="Idempotency-Key"):
            key_of(ann, wrong)


def test_every_error_of_the_tree_has_a_status_or_is_no_clients_business():
    told = {}
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, errors.Agnt5Error):
            more = {"reason": "role"} if cls is errors.ApprovalRefusedError else {}
            more = {"decision": "approved"} if cls is errors.ApprovalDecidedError else more
            told[cls.__name__] = problem_of(cls("text", **more), "r").status
    assert told["StoreFullError"] == told["StoreUnavailableError"] == 503
    assert told["PayloadTooLargeError"] == 413
    assert {name for name, status in told.items() if status == 404} == {
        "HandlerNotFoundError", "RunNotFoundError", "EntityNotFoundError", "ApprovalNotFoundError",
    }  # fmt: skip
    assert {name for name, status in told.items() if status == 409} == {
        "DuplicateRunError", "RunEndedError", "ApprovalDecidedError", "EntityBusyError", "JournalLimitError",
    }  # fmt: skip
    assert {"ConfigurationError", "StaleEpochError"} <= {name for name, status in told.items() if status == 500}
    assert kind_of(errors.RunNotFoundError) == "run-not-found"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/api/v1/runs?limit=5&status=failed", "/api/v1/runs?limit=5&status=failed"),
        ("/api/v1/runs?token=abc&limit=5", "/api/v1/runs?token=***&limit=5"),
        ("/api/v1/runs?x=a%26token%3Db", "/api/v1/runs?x=***"),
        ("/api/v1/links/eyJydW4i.abc", "/api/v1/links/***"),
        ("/shop/links/eyJydW4i.abc?next=1", "/shop/links/***?next=***"),
        ("/api/v1/runs/agnt5_0123456789abcdef0123", "/api/v1/runs/***"),
        ("/api/v1/runs?handler=agnt5_0123456789abcdef0123", "/api/v1/runs?handler=***"),
        ("/api/v1/runs/order-17~3", "/api/v1/runs/order-17~3"),
    ],
)
def test_a_log_shows_paths_without_secrets(path, shown):
    assert masked(path) == shown


def test_credentials_cannot_be_allowed_to_reach_handlers():
    for name in ("Authorization", "cookie", "X-Api-Key"):
        with pytest.raises(ConfigurationError, match=name.lower()):
            create_api(headers=["user-agent", name])


def test_the_library_loads_without_fastapi():
    code = "import sys, agnt5, agnt5.client, agnt5.cli.main; print({'fastapi', 'starlette'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "set()", done


def test_a_token_needs_the_form_of_a_hash():
    with pytest.raises(ConfigurationError):
        Token("ann", sha256="plain")
