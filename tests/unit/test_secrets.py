"""`ctx.secrets()`: where a key is looked for, how long a value is kept, and what happens when a provider fails."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from support.secret_values import found_in, made
from support.waiting import until_sync

from agnt5 import ConfigurationError, InvalidInputError, SecretNotFoundError, SecretProviderError, WrongContextError
from agnt5.contracts.masking import MASKER, masked
from agnt5.contracts.settings import Settings
from agnt5.replay.loop import DeterministicLoop
from agnt5.sdk.secrets import Secrets
from agnt5.secrets.known import is_secret, learn
from agnt5.secrets.places import LocalSecrets, variable
from agnt5.secrets.reader import FAILED_S, NOT_FOUND_S, SecretReader

VALUE = made("value")


@pytest.fixture(autouse=True)
def known():
    before = dict(MASKER._values)
    yield
    MASKER.forget()
    MASKER.learn_all((name, value) for value, name in before.items())


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Provider:
    """Gives what it has; `gate` holds it up, `fault` makes it fail."""

    values: dict[str, str] = field(default_factory=dict)
    name: str = "fake"
    asked: list[str] = field(default_factory=list)
    fault: Exception | None = None
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def fetch(self, key):
        self.asked.append(key)
        self.gate.wait(20)
        if self.fault:
            raise self.fault
        return self.values.get(key)

    def place(self, key):
        return f"shelf {key}"


def reader(tmp_path, *providers, env=None, **more) -> SecretReader:
    return SecretReader(LocalSecrets(str(tmp_path), env or {}), providers, **{"clock": Clock(), **more})


# ---- places


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("openai_api_key", "AGNT5_SECRET_OPENAI_API_KEY"),
        ("Database-Password", "AGNT5_SECRET_DATABASE_PASSWORD"),
        ("apps/shop#db.password", "AGNT5_SECRET_APPS_SHOP_DB_PASSWORD"),
    ],
)
def test_a_key_has_one_variable(key, name):
    assert variable(key) == name


def test_places_are_looked_at_in_order(tmp_path):
    provider = Provider({"api_key": made("of the provider")})
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text(made("of another file"))
    folder = tmp_path / "secrets"
    folder.mkdir()
    env = {"AGNT5_SECRET_API_KEY": made("of the variable"), "AGNT5_SECRET_API_KEY_FILE": str(elsewhere)}
    (folder / "api_key").write_text(made("of the folder") + "\n")
    assert reader(folder, provider, env=env).get("api_key") == made("of the variable")
    del env["AGNT5_SECRET_API_KEY"]
    assert reader(folder, provider, env=env).get("api_key") == made("of another file")
    del env["AGNT5_SECRET_API_KEY_FILE"]
    assert reader(folder, provider, env=env).get("api_key") == made("of the folder")
    assert reader(folder, provider, env=env).get("API_KEY") == made("of the folder")
    (folder / "api_key").unlink()
    assert provider.asked == []
    assert reader(folder, provider, env=env).get("api_key") == made("of the provider")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (VALUE, VALUE),
        (f"{VALUE}\n", VALUE),
        (f"{VALUE}\r\n", VALUE),
        (f"{VALUE}\n\n", f"{VALUE}\n"),
        (f" {VALUE} ", f" {VALUE} "),
    ],
)
def test_one_newline_at_the_end_of_a_file_is_not_part_of_it(tmp_path, written, read):
    (tmp_path / "k").write_bytes(written.encode())
    assert reader(tmp_path).get("k") == read


def test_a_field_of_a_file_that_is_a_json_object(tmp_path):
    (tmp_path / "db").write_text(json.dumps({"password": VALUE, "port": 5432}))
    secrets = reader(tmp_path)
    assert (secrets.get("db#password"), secrets.get("db#port")) == (VALUE, "5432")
    with pytest.raises(SecretNotFoundError, match=r"/db \(which has no field 'user'\)"):
        secrets.get("db#user")
    (tmp_path / "text").write_text(VALUE)
    with pytest.raises(SecretProviderError, match="text is no JSON object") as failed:
        secrets.get("text#password")
    assert not found_in(str(failed.value))


def test_nothing_out_of_the_folder_is_read(tmp_path):
    (tmp_path / "outside").write_text(VALUE)
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "outside")
    secrets = reader(folder)
    for key in ("../outside", "a/../../outside", "..", "/../outside"):
        with pytest.raises(InvalidInputError, match=r"without '\.\.'"):
            secrets.get(key)
    with pytest.raises(SecretProviderError, match="leads out of the folder of secrets"):
        secrets.get("link")
    with pytest.raises(SecretNotFoundError):
        secrets.get("/outside")
    (folder / "..data").mkdir()  # as Kubernetes mounts them
    (folder / "..data" / "token").write_text(VALUE)
    (folder / "token").symlink_to("..data/token")
    assert secrets.get("token") == VALUE


def test_files_that_are_none_of_a_secret(tmp_path):
    (tmp_path / "big").write_bytes(b"x" * 65_537)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    secrets = reader(tmp_path, env={"AGNT5_SECRET_GONE_FILE": str(tmp_path / "gone")})
    for key, said in [
        ("big", "secret 'big': .*/big: more than 65,536 bytes"),
        ("binary", "secret 'binary': .*/binary: no text in UTF-8"),
        (
            "gone",
            "secret 'gone': AGNT5_SECRET_GONE_FILE names .*/gone: No such file or directory; correct",
        ),
    ]:
        with pytest.raises(SecretProviderError, match=said):
            secrets.get(key)
    for key in ("folder", "pipe"):
        with pytest.raises(SecretNotFoundError, match=f"/{key} \\(which is no file\\)"):
            secrets.get(key)


def test_an_empty_file_is_no_secret(tmp_path):
    provider = Provider({"empty": VALUE})
    for name in ("empty", "line"):
        (tmp_path / name).write_text("\n" if name == "line" else "")
    secrets = reader(tmp_path, provider, env={"AGNT5_SECRET_NAMED_FILE": str(tmp_path / "empty")})
    assert secrets.get("empty") == VALUE
    with pytest.raises(SecretNotFoundError, match=r"/line \(which is empty\)"):
        secrets.get("line")
    with pytest.raises(SecretProviderError, match="secret 'named': AGNT5_SECRET_NAMED_FILE names .*: it is empty"):
        secrets.get("named")


@pytest.mark.parametrize("key", ["", " ", "a b", "a\nb", "x" * 201, None, 3, "#field", "a#b#c"])
def test_what_cannot_be_a_key_is_refused_and_not_shown(tmp_path, key):
    with pytest.raises(InvalidInputError, match="the key of a secret"):
        reader(tmp_path).get(key)
    with pytest.raises(InvalidInputError) as refused:
        reader(tmp_path).get(f"given by mistake: {VALUE}")
    assert not found_in(str(refused.value))


def test_a_missing_secret_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(SecretNotFoundError) as missing:
        reader(tmp_path, Provider(), Provider(name="other")).get("apps/shop#pin")
    assert str(missing.value) == (
        "secret 'apps/shop#pin' was not found; looked at the variable AGNT5_SECRET_APPS_SHOP_PIN, the file that"
        f" AGNT5_SECRET_APPS_SHOP_PIN_FILE names, {tmp_path}/apps/shop, fake (shelf apps/shop#pin), other (shelf"
        " apps/shop#pin). Set it in one of them, or give a default: ctx.secrets().get('apps/shop#pin', default=...)"
    )
    assert reader(tmp_path).get("pin", default=None) is None
    assert reader(tmp_path).get("pin", "none") == "none"


# ---- time


def test_a_value_is_asked_for_once_and_renewed_before_it_is_too_old(tmp_path):
    clock, provider = Clock(), Provider({"k": made("old")})
    secrets = reader(tmp_path, provider, clock=clock, ttl_s=100)
    assert [secrets.get("k") for _ in range(5)] == [made("old")] * 5
    assert provider.asked == ["k"]
    provider.values["k"] = made("new")
    clock.now += 79
    assert secrets.get("k") == made("old")
    assert provider.asked == ["k"]
    clock.now += 2
    provider.gate.clear()
    assert secrets.get("k") == made("old")  # at once, though the provider is slow
    assert secrets.get("k") == made("old")
    provider.gate.set()
    until_sync(lambda: secrets.get("k") == made("new"), 10.0)
    assert provider.asked == ["k", "k"]
    assert masked(f"{made('old')} {made('new')}") == "[secret:k] [secret:k]"


def test_a_value_that_nobody_asked_for_in_a_long_time_is_not_given_any_more(tmp_path):
    clock, provider = Clock(), Provider({"k": made("old")})
    secrets = reader(tmp_path, provider, clock=clock, ttl_s=100)
    secrets.get("k")
    provider.values["k"] = made("new")
    clock.now += 201
    assert secrets.get("k") == made("new")


def test_what_is_nowhere_is_remembered_for_a_short_while(tmp_path):
    clock, provider = Clock(), Provider()
    secrets = reader(tmp_path, provider, clock=clock)
    for _ in range(3):
        assert secrets.get("k", None) is None
    assert provider.asked == ["k"]
    provider.values["k"] = VALUE
    clock.now += NOT_FOUND_S + 1
    assert secrets.get("k") == VALUE


def test_many_who_ask_at_once_wait_for_one_answer(tmp_path):
    provider = Provider({"k": VALUE})
    provider.gate.clear()
    secrets, found = reader(tmp_path, provider), []
    threads = [threading.Thread(target=lambda: found.append(secrets.get("k"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    until_sync(lambda: provider.asked, 10.0)
    provider.gate.set()
    for thread in threads:
        thread.join()
    assert (found, provider.asked) == ([VALUE] * 8, ["k"])


def test_secrets_are_read_ahead(tmp_path, caplog):
    provider = Provider({"k": VALUE})
    secrets = reader(tmp_path, provider)
    with caplog.at_level(logging.WARNING, "agnt5.secrets"):
        secrets.prefetch(["k", "missing", "no key"])
        until_sync(lambda: "'missing' was not found" in caplog.text, 10.0)
    assert "the key of a secret" in caplog.text
    provider.gate.clear()
    assert secrets.get("k") == VALUE


# ---- failures


def test_a_provider_that_fails_is_named_and_its_words_are_masked(tmp_path):
    MASKER.learn("vault_token", token := made("token"))
    provider = Provider(fault=ConnectionError(f"no route for https://u:{token}@host/?t={token}"))
    clock = Clock()
    secrets = reader(tmp_path, provider, clock=clock)
    for _ in range(3):
        with pytest.raises(
            SecretProviderError, match=r"secret 'k': fake failed \(ConnectionError: .*shelf k"
        ) as failed:
            secrets.get("k", default="never where a provider failed")
        assert not found_in(str(failed.value))
    assert provider.asked == ["k"]  # it is left alone for a while
    provider.fault, provider.values["k"] = None, VALUE
    clock.now += FAILED_S + 0.1
    assert secrets.get("k") == VALUE


def test_a_later_provider_does_not_stand_in_for_one_that_fails(tmp_path):
    first, second = Provider(fault=OSError("down")), Provider({"k": VALUE}, name="second")
    with pytest.raises(SecretProviderError, match="fake failed"):
        reader(tmp_path, first, second).get("k")
    assert second.asked == []
    first.fault = None
    assert reader(tmp_path, first, second).get("k") == VALUE


def test_the_value_of_before_is_used_while_a_provider_fails(tmp_path, caplog):
    clock, provider = Clock(), Provider({"k": VALUE})
    secrets = reader(tmp_path, provider, clock=clock, ttl_s=100)
    secrets.get("k")
    provider.fault = OSError("down")
    with caplog.at_level(logging.WARNING, "agnt5.secrets"):
        for asked in range(2, 6):
            clock.now += 300
            assert secrets.get("k") == VALUE
            until_sync(lambda asked=asked: len(provider.asked) == asked and not secrets._reading, 10.0)
    assert "its value of 300 s ago is used until it can be read again" in caplog.text
    assert not found_in(caplog.text)
    provider.fault, provider.values["k"] = None, made("again")
    clock.now += 300
    assert secrets.get("k") == made("again")


def test_a_provider_that_is_too_slow_is_not_waited_for(tmp_path):
    provider = Provider({"k": VALUE})
    provider.gate.clear()
    secrets = reader(tmp_path, provider, timeout_s=0.05)
    with pytest.raises(SecretProviderError, match=r"no answer within 0.05 s of fake \(AGNT5_SECRETS_TIMEOUT\)"):
        secrets.get("k")
    with pytest.raises(SecretProviderError, match="no answer within"):
        asyncio.run(secrets.fetch("k"))
    provider.gate.set()
    until_sync(lambda: not secrets._reading, 10.0)
    assert (secrets.get("k"), provider.asked) == (VALUE, ["k"])


def test_whoever_blocks_others_by_a_slow_read_is_told_of_fetch(tmp_path, caplog):
    clock, provider = Clock(), Provider({"k": VALUE})
    provider.fetch, fetch = lambda key: (setattr(clock, "now", clock.now + 1.5), fetch(key))[1], provider.fetch
    with caplog.at_level(logging.WARNING, "agnt5.secrets"):
        reader(tmp_path, provider, clock=clock).get("k")
    assert "the first read of secret 'k' took 1.5 s" in caplog.text


@pytest.mark.parametrize("value", [3, b"bytes", {"a": 1}])
def test_a_provider_gives_text(tmp_path, value):
    with pytest.raises(SecretProviderError, match=f"fake gave a {type(value).__name__}, not text"):
        reader(tmp_path, Provider({"k": value})).get("k")


def test_a_forked_child_reads_for_itself(tmp_path):
    provider = Provider({"k": VALUE})
    provider.gate.clear()
    secrets = reader(tmp_path, provider)
    secrets.prefetch(["k"])  # its thread does not live in the child
    until_sync(lambda: provider.asked, 10.0)
    if (pid := os.fork()) == 0:
        provider.gate = threading.Event()
        provider.gate.set()
        os._exit(0 if secrets.get("k") == VALUE else 1)
    provider.gate.set()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ---- on ctx


async def test_fetch_leaves_the_loop_to_others(tmp_path):
    provider = Provider({"k": VALUE})
    provider.gate.clear()
    reading = asyncio.ensure_future(Secrets(reader(tmp_path, provider)).fetch("k"))
    while not provider.asked:
        await asyncio.sleep(0.001)
    provider.gate.set()
    assert await reading == VALUE
    assert await Secrets(reader(tmp_path)).fetch("k", default=None) is None


def test_the_code_of_a_workflow_gets_and_does_not_fetch(tmp_path):
    secrets = Secrets(reader(tmp_path, env={"AGNT5_SECRET_K": VALUE}))
    loop: Callable[..., object] = DeterministicLoop.__new__(DeterministicLoop)
    asyncio._set_running_loop(loop)
    try:
        assert secrets.get("k") == VALUE
        with pytest.raises(WrongContextError, match=r"ctx.secrets\(\).fetch\('k'\) waits for a network"):
            secrets.fetch("k").send(None)
    finally:
        asyncio._set_running_loop(None)


# ---- what a process knows when it starts


def test_secrets_of_this_machine_are_known_before_they_are_read(tmp_path):
    (tmp_path / "in_folder").write_text(made("in folder") + "\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").write_text(made("elsewhere"))
    env = {
        "AGNT5_SECRET_ONE": made("one"),
        "AGNT5_SECRET_TWO_FILE": str(tmp_path / "elsewhere" / "x"),
        "OPENAI_API_KEY": made("openai", prefix="sk-"),
        "HOME": made("no secret by its name"),
    }
    settings = Settings.from_env({
        "AGNT5_SECRETS_DIR": str(tmp_path),
        "AGNT5_REDIS_URL": f"redis://:{made('redis')}%21@host/0",
        "AGNT5_BROKER_URL": f"amqp://user:{made('broker')}@host//",
        "AGNT5_LINK_SECRET": made("link"),
    })  # fmt: skip
    learn(settings, env)
    shown = masked(" ".join([
        made("one"), made("elsewhere"), made("in folder"), env["OPENAI_API_KEY"], made("redis") + "!", made("broker"),
        made("link"), str(tmp_path),
    ]))  # fmt: skip
    assert shown == (
        "[secret:one] [secret:two] [secret:in_folder] [secret:openai_api_key] [secret:redis_url] [secret:broker_url]"
        f" [secret:link_secret] {tmp_path}"
    )
    assert masked(made("no secret by its name")) == made("no secret by its name")


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("OPENAI_API_KEY", "sk-0123456789", True),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG", True),
        ("DB_PASSWORD", "tr0ub4dor", True),
        ("VAULT_TOKEN", "hvs.CAESIJ", True),
        ("PASSWORD", "correct4horse", True),
        ("DB_PASSWORD", "postgres", False),  # a word of every other log line
        ("DB_PASSWORD", "correct horse", False),
        ("DB_PASSWORD", "short1", False),
        ("MAX_TOKEN", "4096000000", False),
        ("CSRF_TOKEN", "/run/token", False),
        ("SESSION_SECRET", "https://example.com/", False),
        ("TOKENS_PER_MINUTE", "sk-0123456789", False),
        ("KEYBOARD", "us-intl-2020", False),
        ("SSH_KEY_PATH", "~/.ssh/id_rsa", False),
        ("AGNT5_SECRET_X", "sk-0123456789", False),  # those are known without looking at them
    ],
)
def test_what_a_variable_must_be_to_count_as_a_secret(name, value, secret):
    assert is_secret(name, value) is secret


def test_providers_by_setting():
    assert Settings.from_env({"AGNT5_SECRETS_PROVIDERS": "aws, vault"}).secrets_providers == ("aws", "vault")
    with pytest.raises(ConfigurationError, match="AGNT5_SECRETS_PROVIDERS: expected names .* of vault and aws"):
        Settings.from_env({"AGNT5_SECRETS_PROVIDERS": "gcp"})
    with pytest.raises(ConfigurationError, match="Set VAULT_ADDR"):
        SecretReader.of(Settings(secrets_providers=("vault",)))
    assert SecretReader.of(Settings(secrets_providers=("aws",))).providers[0].name == "aws"
    assert SecretReader.of(Settings(secrets_providers=("aws",)), []).providers == ()
