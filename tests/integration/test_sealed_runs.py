"""Runs whose values are sealed: nothing of a user is in the store, keys change under them, wrong ones harm nothing."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.dump import dump
from support.waiting import until_sync

from agnt5 import Client, DuplicateRunError, TaskFailedError
from agnt5.app import create_app
from agnt5.cli import doctor, output
from agnt5.cli import keys as commands
from agnt5.client.key_use import key_uses
from agnt5.contracts.errors import JournalLimitError, PayloadTooLargeError, SealedPayloadError
from agnt5.payload_keys import AesGcmCodec
from agnt5.sealing import Sealer, key_ids
from agnt5.store import keys

HERE = Path(__file__).parent
SECRET = "Zanzibar-4711"
KEYS = {f"k{n}": f"k{n}:{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2, 3)}
K1, K2, K21 = KEYS["k1"], KEYS["k2"], f"{KEYS['k2']},{KEYS['k1']}"


class Wire:
    """All that is published on a server, with what is base64 in it read."""

    def __init__(self, cluster: Cluster) -> None:
        self.heard: list[bytes] = []
        self._pubsub = cluster.admin.pubsub(ignore_subscribe_messages=True)
        self._pubsub.psubscribe("*")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended.is_set():
            if message := self._pubsub.get_message(timeout=0.1):
                self.heard.append(message["channel"] + b" " + _read(message["data"]))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._pubsub.close()


def _read(data: bytes) -> bytes:
    if not data.startswith(b'{"body"'):
        return data
    return data + base64.b64decode(json.loads(data)["body"])


@contextmanager
def listening(cluster: Cluster) -> Iterator[Wire]:
    wire = Wire(cluster)
    try:
        yield wire
    finally:
        wire.close()


def client_with(cluster: Cluster, given: str | None) -> Client:
    return Client(cluster.server.url, payload_keys=given)


def kept(cluster: Cluster) -> str:
    """All that the server holds, and all that it ever wrote to its file."""
    files = [path.read_bytes() for path in (cluster.server.data / "appendonlydir").iterdir()]
    return repr(dump(cluster.admin)) + repr(files)


def journal_of(cluster: Cluster, run_id: str) -> list[bytes]:
    return cluster.admin.lrange(keys.log(run_id, cluster.shards), 0, -1)


def do_everything(cluster: Cluster, client: Client, number: str) -> dict:
    """One of each thing that handlers and clients can do; what the workflow said of it."""
    mirror = client.start("sealed_kit.mirror", id=f"mirror{number}")
    run = client.start("sealed_kit.everything", {"text": SECRET, "mirror": mirror.id}, id=f"all{number}")
    until_sync(lambda: b"SignalAwaited" in b"".join(journal_of(cluster, run.id)), 30.0)
    until_sync(lambda: b"SignalReceived" in b"".join(journal_of(cluster, mirror.id)), 20.0)
    client.signal(mirror.id, "turn")
    assert mirror.result(timeout=20) == {"text": SECRET}
    client.signal(run.id, "go", {"text": SECRET})
    until_sync(lambda: client.approvals(run_id=run.id), 20.0)
    asked = client.approval(run.id, "release")
    assert (asked.payload, "reason" in asked.form["properties"]) == ({"text": SECRET}, True)
    for person in ("ann", "bob"):
        after = client.decide(
            run.id, "release", "approved", approver=person, comment=f"{SECRET} {person}", data={"reason": SECRET}
        )
    assert [vote.comment for vote in after.votes] == [f"{SECRET} ann", f"{SECRET} bob"]
    return run.result(timeout=20)


def check_reads(client: Client, number: str) -> None:
    """All ways to read are as without keys."""
    run = client.get(f"all{number}")
    assert run.state().input["text"] == SECRET
    assert SECRET in str(run.history())
    assert SECRET in str([one.event for one in run.follow()])
    assert any(state.id == run.id and state.result["step"] == SECRET for state in client.runs(limit=100))
    assert client.entity_state("Vault", "wf").state["of"] == SECRET
    assert client.entity("Vault", "wf", timeout=20).look("of") == SECRET


def what_ends_badly(cluster: Cluster, client: Client) -> None:
    failed = client.start("sealed_kit.complain", {"text": SECRET}, id="bad")
    with pytest.raises(TaskFailedError, match=f"cannot bear {SECRET}") as caught:
        failed.result(timeout=20)
    assert "sealed_kit.py" in caught.value.traceback
    cancelled = client.start("sealed_kit.patient", {"text": SECRET}, id="stopped")
    cancelled.cancel(f"because of {SECRET}")
    until_sync(lambda: cancelled.status() == "cancelled", 20.0)
    assert cancelled.state().error["message"] == f"because of {SECRET}"


EVENTS = {"sealed_kit.everything", "sealed_kit.complain", "sealed_kit.say"}


@pytest.mark.parametrize("pool", [None, "threads"], ids=["ours", "threads"])
def test_nothing_of_a_user_is_in_the_store_or_in_events(pool):
    with Cluster(["sealed_kit"], paths=[HERE], AGNT5_PAYLOAD_KEYS=K1, AGNT5_LINGER="100ms") as cluster:
        worker = cluster.worker(
            "w1", *([] if pool is None else ["-E"]), pool=pool, concurrency=None if pool is None else 8
        )
        cluster.start(worker, cluster.beat())
        with listening(cluster) as wire:
            client = cluster.client
            said = do_everything(cluster, client, "")
            assert said == {
                "child": {"said": SECRET}, "step": SECRET, "complain": f"cannot bear {SECRET}", "raise": f"no {SECRET}",
                "vault": f"nothing, now {SECRET}", "model": f"answer to {SECRET}", "signal": {"text": SECRET},
                "people": [f"{SECRET} bob", SECRET],
            }  # fmt: skip
            check_reads(client, "")
            assert client.start("sealed_kit.gather", {"text": SECRET}).result(timeout=20) == [
                {"said": SECRET}, f"nothing, now {SECRET}", f"answer to {SECRET}"
            ]  # fmt: skip
            assert [one["text"] for one in client.start("sealed_kit.say", {"text": SECRET}, id="said").stream()] == [
                SECRET
            ] * 2
            what_ends_badly(cluster, client)
            if pool is None:
                app = create_app(redis_url=cluster.server.url, payload_keys=K1)
                assert app.AsyncResult("all").get(timeout=10)["step"] == SECRET
            until_sync(lambda: any(b"task-failed" in one for one in wire.heard), 20.0)
            cluster.sound()
        heard = b"\n".join(wire.heard)
        for event in (b"task-started", b"task-succeeded", b"task-failed", b"<sealed>", b"agnt5:done:all"):
            assert event in heard
        assert SECRET.encode() not in heard
        found = kept(cluster)
        assert "$sealed" in found
        assert SECRET not in found


@pytest.fixture(scope="module")
def changing() -> Iterator[Cluster]:
    """A store that begins in clear, whose workers get one set of keys after the other."""
    with Cluster(["sealed_kit"], paths=[HERE], AGNT5_LINGER="0ms") as cluster:
        cluster.start(cluster.worker(), cluster.beat())
        yield cluster


def test_keys_come_change_and_go_while_runs_go_on(changing, monkeypatch, capsys):
    cluster, worker = changing, changing.nodes[0]
    plain = client_with(cluster, None)
    old = plain.start("sealed_kit.patient", {"text": "old"}, id="old")
    same = plain.start("sealed_kit.count", {"number": 7}, id="same")
    assert same.result(timeout=20) == 7
    assert plain.entity("Vault", "v", timeout=20).keep("plain", "p0") == "nothing, now p0"
    parked(cluster, "old")

    renew(worker, K1)  # the first key, over a store in clear
    first = client_with(cluster, K1)
    first.start("sealed_kit.patient", {"text": "middle"}, id="middle")
    broken = first.start("sealed_kit.patient", {"text": "broken"}, id="broken")
    keyed = first.start("sealed_kit.count", {"number": 8}, id="keyed")
    assert keyed.result(timeout=20) == 8
    first.signal("old", "go", "on")
    assert first.get("old").result(timeout=20) == ["old", "on", "old after"]
    with pytest.raises(SealedPayloadError, match=r"run old: .*'k1', which this process does not have"):
        old.result(timeout=20)
    assert first.entity("Vault", "v", timeout=20).keep("k1", "p1") == "nothing, now p1"
    assert first.entity_state("Vault", "v").state == {"plain": "p0", "k1": "p1"}
    assert sealed_with(cluster, "v") == {"plain": {"k1"}, "k1": {"k1"}}  # a write seals what it finds in clear
    assert first.start("sealed_kit.count", {"number": 7}, id="same").result(timeout=20) == 7  # its digest is in clear
    with pytest.raises(DuplicateRunError):
        first.start("sealed_kit.count", {"number": 8}, id="same")
    parked(cluster, "middle", "broken")

    renew(worker, K21)  # rotation in the middle of a run
    both = client_with(cluster, K21)
    both.signal("middle", "go", "further")
    assert both.get("middle").result(timeout=20) == ["middle", "further", "middle after"]
    assert [key_ids(entry) for entry in journal_of(cluster, "middle") if b"StepCompleted" in entry] == [{"k1"}, {"k2"}]
    assert both.start("sealed_kit.count", {"number": 8}, id="keyed").result(timeout=20) == 8
    with pytest.raises(DuplicateRunError):
        both.start("sealed_kit.count", {"number": 9}, id="keyed")
    uses = {use.key_id: use for use in both.call(key_uses)}
    assert (uses["k1"].open_runs, uses["k1"].entities, uses["k1"].seals) == (1, 1, False)
    assert (uses["k2"].open_runs, uses["k2"].known, uses["k2"].seals) == (0, True, True)
    assert both.entity("Vault", "v", timeout=20).keep("k2", "p2") == "nothing, now p2"
    assert sealed_with(cluster, "v") == {"plain": {"k2"}, "k1": {"k2"}, "k2": {"k2"}}

    renew(worker, K2)  # too early: a run still needs the old key
    newest = client_with(cluster, K2)
    with pytest.raises(
        SealedPayloadError, match=r"run broken: .*'k1', which this process does not have.*AGNT5_PAYLOAD_KEYS"
    ):
        newest.state("broken")
    before = journal_of(cluster, "broken")
    newest.signal("broken", "go", "at last")
    until_sync(lambda: cluster.field("broken", "trouble"), 20.0)
    assert "'k1'" in (cluster.field("broken", "trouble") or "")
    assert newest.call(lambda client: client.states(["broken"]))[0].trouble == cluster.field("broken", "trouble")
    assert [state.input for state in newest.runs() if state.id == "broken"] == ["(sealed with key k1)"]
    assert journal_of(cluster, "broken")[:-1] == before
    locked = keys.entity("Vault/locked", cluster.shards)
    cluster.admin.hset(locked, "of", Sealer(AesGcmCodec({"k1": bytes([1]) * 32})).state(b'"x"', "Vault/locked", "of"))
    call = newest.start("Vault.keep", {"name": "of", "text": "y"}, key="locked")
    queued = newest.start("Vault.keep", {"name": "of", "text": "z"}, key="locked")
    until_sync(lambda: "'k1'" in (cluster.field(call.id, "trouble") or ""), 20.0)
    told(monkeypatch, K2)
    assert doctor.check(cluster.server.url, fix=False, settle_s=0, json=True) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [one["code"] for one in findings if "key" in one["code"]] == ["payload-key-missing"]

    at, entry = next((at, one) for at, one in enumerate(before) if b"StepCompleted" in one)
    cut = entry.index(b"k1.") + 20
    changed = entry[:cut] + (b"A" if entry[cut : cut + 1] != b"A" else b"B") + entry[cut + 1 :]
    cluster.admin.lset(keys.log("broken", cluster.shards), at, changed)
    renew(worker, K21)  # with the key, but somebody has changed a value
    until_sync(lambda: "does not open" in (cluster.field("broken", "trouble") or ""), 20.0)
    assert broken.status() == "waiting"
    cluster.admin.lset(keys.log("broken", cluster.shards), at, entry)
    renew(worker, K21)
    assert both.get("broken").result(timeout=20) == ["broken", "at last", "broken after"]
    assert cluster.field("broken", "trouble") is None
    assert [both.wait(run.id, timeout=20) for run in (call, queued)] == ["x, now y", "y, now z"]
    kept = cluster.admin.hget(keys.entity("Vault/v", cluster.shards), "plain")
    line = [both.start("Vault.keep", {"name": "of", "text": str(number)}, key="v") for number in range(30)]
    assert [run.result(timeout=20) for run in line][-1] == "28, now 29"
    assert cluster.admin.hget(keys.entity("Vault/v", cluster.shards), "plain") == kept  # not written with each call
    for client in (plain, first, both, newest):
        client.close()


def test_entities_are_sealed_anew_by_a_command(changing, monkeypatch, capsys):
    cluster = changing
    name, key = "Vault/idle", keys.entity("Vault/idle", cluster.shards)
    renew(cluster.nodes[0], K21)
    with client_with(cluster, K21) as client:
        assert client.entity("Vault", "idle", timeout=20).keep("a", "1") == "nothing, now 1"
    older = Sealer(AesGcmCodec({"k1": bytes([1]) * 32}))
    cluster.admin.hset(key, mapping={"a": older.state(b'"1"', name, "a"), "b": '"in clear"'})
    told(monkeypatch, K2 + "," + KEYS["k3"])
    with pytest.raises(SealedPayloadError, match=f"entity {name}"):
        commands.reseal_entities(cluster.server.url)
    told(monkeypatch, f"{KEYS['k3']},{K21}")
    commands.reseal_entities(cluster.server.url)
    assert sealed_with(cluster, "idle") == {"a": {"k3"}, "b": {"k3"}}
    output.out.cache_clear()
    commands.list_keys(cluster.server.url, json=False)
    printed = capsys.readouterr().out
    assert "k3" in printed
    assert "seals" in printed
    commands.list_keys(cluster.server.url, json=True)
    uses = {use["key_id"]: use for use in json.loads(capsys.readouterr().out)}
    assert (uses["k1"]["entities"], uses["k2"]["entities"], uses["k1"]["open_runs"]) == (0, 0, 0)
    with client_with(cluster, f"{KEYS['k3']},{K21}") as client:
        assert client.entity_state("Vault", "idle").state == {"a": "1", "b": "in clear"}


def test_a_new_key_is_printed_as_the_setting_takes_it(capsys):
    commands.new_key("k9")
    assert Client(payload_keys=capsys.readouterr().out.strip()).settings.payload_keys[0][0] == "k9"


def test_a_plain_celery_message_is_sealed_once_it_is_a_run(changing):
    cluster, worker = changing, changing.nodes[0]
    renew(worker, K21)
    sent = cluster.celery.send_task("sealed_kit.echo", kwargs={"text": SECRET}, queue="agnt5.sealed_kit")
    wrong = cluster.celery.send_task("sealed_kit.echo", kwargs={"words": SECRET}, queue="agnt5.sealed_kit")
    with client_with(cluster, K21) as client:
        until_sync(lambda: cluster.field(wrong.id, "status") == "failed", 20.0)
        assert client.wait(sent.id, timeout=20) == {"said": SECRET}
        with pytest.raises(TaskFailedError, match="words"):
            client.wait(wrong.id, timeout=20)
    until_sync(  # its message is acknowledged, and gone, a little later
        lambda: not [name for name, value in dump(cluster.admin).items() if SECRET in repr(value)], 20.0
    )


# ---- limits


@pytest.fixture(scope="module", params=[None, K1], ids=["plain", "sealed"])
def small(request) -> Iterator[Cluster]:
    given = {} if request.param is None else {"AGNT5_PAYLOAD_KEYS": request.param}
    limits = {"AGNT5_JOURNAL_LIMIT_BYTES": "100KiB", "AGNT5_PAYLOAD_LIMIT": "20KiB"}
    with Cluster(["sealed_kit"], paths=[HERE], **limits, **given) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


@pytest.mark.parametrize(
    ("handler", "given"),
    [
        ("grower", {"by": "steps", "size": 9000}),
        ("grower", {"by": "children", "size": 9000}),
        ("grower_live", {"size": 9000}),
    ],
)
def test_a_journal_has_a_limit_of_bytes_as_they_are_before_sealing(small, handler, given):
    fits = small.client.start(f"sealed_kit.{handler}", {**given, "times": 10})
    over = small.client.start(f"sealed_kit.{handler}", {**given, "times": 14})
    assert fits.result(timeout=20) == 10
    with pytest.raises(TaskFailedError, match=r"AGNT5_JOURNAL_LIMIT_BYTES.*continue_as_new") as caught:
        over.result(timeout=20)
    assert caught.value.type == "JournalLimitError"


def test_payloads_of_all_sorts_have_the_limit_of_their_plain_size(small):
    client = small.client
    almost, over = "x" * 20_000, "x" * 20_600
    waiting = client.start("sealed_kit.patient", {"text": almost})
    until_sync(lambda: b"SignalAwaited" in b"".join(journal_of(small, waiting.id)), 20.0)
    with pytest.raises(PayloadTooLargeError, match="input"):
        client.start("sealed_kit.patient", {"text": over})
    with pytest.raises(PayloadTooLargeError, match="signal"):
        client.signal(waiting.id, "go", over)
    with pytest.raises(PayloadTooLargeError, match="reason"):
        client.cancel(waiting.id, over)
    loud = client.start("sealed_kit.loud", {"target": waiting.id, "size": 20_600})
    with pytest.raises(TaskFailedError, match="payload of signal 'big'"):
        loud.result(timeout=20)
    for _ in range(3):
        client.signal(waiting.id, "other", almost)
    with pytest.raises(JournalLimitError, match=r"signal was not taken.*bytes"):
        client.signal(waiting.id, "other", almost)
    waiting.cancel()
    shouting = client.start("sealed_kit.too_much", {"size": 300_000})
    with pytest.raises(TaskFailedError, match=r"x\.\.\. \(300,000 characters, over AGNT5_PAYLOAD_LIMIT\)"):
        shouting.result(timeout=20)
    assert len(journal_of(small, shouting.id)[-1]) < 40_000


def test_a_live_run_that_gets_what_its_worker_cannot_open_is_parked(small):
    run = small.client.start("sealed_kit.patient", {"text": "short"})
    until_sync(lambda: b"SignalAwaited" in b"".join(journal_of(small, run.id)), 20.0)
    assert small.field(run.id, "host")
    with client_with(small, K2) as stranger:
        stranger.signal(run.id, "go", "on")
    until_sync(lambda: "'k2'" in (small.field(run.id, "trouble") or ""), 20.0)
    assert (run.status(), small.field(run.id, "host")) == ("waiting", "")


# ---- helpers


def renew(worker, given: str) -> None:
    """A worker of the same name with these keys; beat needs none here."""
    worker.terminate()
    worker.env["AGNT5_PAYLOAD_KEYS"] = given
    worker.start()


def parked(cluster: Cluster, *run_ids: str) -> None:
    for run_id in run_ids:
        until_sync(
            lambda run_id=run_id: cluster.field(run_id, "status") == "waiting" and not cluster.field(run_id, "host"),
            20.0,
        )


def sealed_with(cluster: Cluster, key: str) -> dict[str, set[str]]:
    found = cluster.admin.hgetall(keys.entity(f"Vault/{key}", cluster.shards))
    return {name.decode(): key_ids(value) for name, value in found.items()}


def told(monkeypatch, given: str) -> None:
    """This process, as its environment says."""
    monkeypatch.setenv("AGNT5_PAYLOAD_KEYS", given)
