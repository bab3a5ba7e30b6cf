"""The transport against a real server, with stock kombu and Celery on the other side."""

import json
import threading
import uuid

import kombu
import pytest
import redis
from celery_kit import Server, Worker, until

from agnt5.runtime.publish import Outgoing, publish
from agnt5.runtime.transport import transport_for


@pytest.fixture(scope="module")
def running():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(running):
    running.client.flushall()
    return running


def send(connection, queue, *bodies, **options):
    with connection.Producer() as producer:
        for body in bodies:
            producer.publish(body, routing_key=queue, serializer="json", **options)


class Receiver:
    """Consumes into `messages`; acknowledges nothing by itself."""

    def __init__(self, connection, *queues, prefetch=0):
        self.messages = []
        self.connection = connection
        self.consumer = connection.Consumer(
            [kombu.Queue(queue) for queue in queues], on_message=self.messages.append, accept=["json"]
        )
        self.consumer.qos(prefetch_count=prefetch)
        self.consumer.consume()

    def bodies(self):
        return [message.decode() for message in self.messages]

    def drain(self, seconds):
        try:
            self.connection.drain_events(timeout=seconds)
        except TimeoutError:
            return False
        return True

    def until(self, count, timeout=10):
        until(lambda: self.drain(0.05) and False or len(self.messages) >= count, timeout, f"{count} messages")

    def quiet(self, seconds=0.3):
        return not self.drain(seconds)


def test_messages_come_in_order_and_no_more_than_the_prefetch_count(server):
    with server.stock() as stock, server.ours() as ours:
        send(stock, "q", *range(50))
        receiver = Receiver(ours, "q", prefetch=10)
        receiver.until(10)
        assert receiver.quiet()
        assert receiver.bodies() == list(range(10))
        assert server.client.hlen("unacked") == server.client.zcard("unacked_index") == 10
        assert server.client.llen("q") == 40
        for message in receiver.messages[:3]:
            message.ack()
        receiver.until(13)
        assert receiver.quiet()
        assert (server.client.hlen("unacked"), server.client.llen("q")) == (10, 37)


def test_a_batch_takes_one_command(server):
    with server.stock() as stock, server.ours() as ours:
        send(stock, "q", *range(100))
        receiver = Receiver(ours, "q", prefetch=100)
        before = server.client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
        receiver.until(100)
        after = server.client.info("commandstats")
        assert after["cmdstat_evalsha"]["calls"] - before <= 2
        assert "cmdstat_brpop" not in after


def test_a_waiting_consumer_is_woken_by_a_stock_producer(server):
    with server.stock() as stock, server.ours() as ours:
        receiver = Receiver(ours, "a", "b")
        assert receiver.quiet()
        calls = server.client.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert receiver.quiet(1.0)
        assert server.client.info("commandstats")["cmdstat_evalsha"]["calls"] - calls <= 1, "waiting must not poll"
        send(stock, "b", "hello")
        receiver.until(1, timeout=2)
        assert receiver.bodies() == ["hello"]


def test_stock_and_ours_read_each_other_with_priorities(server):
    with server.stock() as stock, server.ours() as ours:
        send(stock, "q", "low", priority=9)
        send(stock, "q", "high", priority=0)
        receiver = Receiver(ours, "q")
        receiver.until(2)
        assert receiver.bodies() == ["high", "low"]
        for message in receiver.messages:
            message.ack()
        receiver.consumer.cancel()
        send(ours, "q", "low", priority=9)
        send(ours, "q", "high", priority=0)
        other = Receiver(stock, "q")
        other.until(2)
        assert other.bodies() == ["high", "low"]
        for message in other.messages:
            message.ack()
        assert server.client.hlen("unacked") == 0


def test_fanout_reaches_both_sides(server):
    exchange = kombu.Exchange("news", type="fanout")
    with server.stock() as stock, server.ours() as ours:
        got = []
        consumers = [
            connection.Consumer([kombu.Queue(name, exchange)], on_message=lambda m: got.append(m.decode()))
            for name, connection in (("n1", stock), ("n2", ours))
        ]
        for consumer in consumers:
            consumer.consume()
        receivers = (stock, ours)

        def drain():
            for connection in receivers:
                try:
                    connection.drain_events(timeout=0.05)
                except TimeoutError:
                    pass

        def subscribed():
            drain()
            clients = [client for client in server.client.client_list() if client["name"] != "leaks"]
            return sum(int(client["psub"]) for client in clients) == 2

        until(subscribed, what="both subscribed")
        for connection in receivers:
            with connection.Producer() as producer:
                producer.publish("x", exchange=exchange, serializer="json")
        until(lambda: drain() or len(got) == 4, what="four deliveries")


def test_requeue_puts_a_message_behind_the_others_and_marks_it(server):
    with server.ours() as ours:
        send(ours, "q", 1, 2)
        receiver = Receiver(ours, "q", prefetch=1)
        receiver.until(1)
        receiver.messages[0].requeue()
        receiver.until(2)
        receiver.messages[1].ack()
        receiver.until(3)
        assert receiver.bodies() == [1, 2, 1]
        assert receiver.messages[2].delivery_info["redelivered"]
        receiver.messages[2].reject()
        assert server.client.hlen("unacked") == 0


def test_what_cannot_be_given_back_raises_nothing_and_waits_for_its_lease(server, monkeypatch, caplog):
    def away(*_):
        raise redis.ConnectionError("no server answers")

    with server.ours() as ours:
        send(ours, "q", 1)
        receiver = Receiver(ours, "q")
        receiver.until(1)
        with monkeypatch.context() as broken:
            broken.setattr(receiver.messages[0].channel, "give_back", away)
            receiver.messages[0].requeue()
        assert "could not be given back: no server answers" in caplog.text
        assert server.client.hlen("unacked") == 1


def test_closing_gives_back_what_is_held_in_its_order(server):
    with server.ours() as ours:
        send(ours, "q", 1, 2, 3)
        receiver = Receiver(ours, "q")
        receiver.until(3)
        receiver.messages[1].ack()
    assert server.client.hlen("unacked") == 0
    with server.stock() as stock:
        receiver = Receiver(stock, "q")
        receiver.until(2)
        assert receiver.bodies() == [1, 3]


def test_a_script_flush_is_survived(server):
    with server.ours() as ours:
        receiver = Receiver(ours, "q")
        for number in range(3):
            server.client.script_flush()
            send(ours, "q", number)
            receiver.until(number + 1)
            receiver.messages[-1].ack()
        assert receiver.bodies() == [0, 1, 2]
        assert server.client.hlen("unacked") == 0


def test_an_undecodable_message_is_dropped_and_the_others_come(server):
    with server.ours() as ours:
        server.client.lpush("q", "not json", "{}")
        send(ours, "q", "good")
        receiver = Receiver(ours, "q")
        receiver.until(1)
        assert receiver.bodies() == ["good"]
        receiver.messages[0].ack()
        assert server.client.hlen("unacked") == server.client.zcard("unacked_index") == 0


def test_a_lost_reply_costs_no_message_and_doubles_none(server):
    """The connection is cut after the server ran the pull and before its reply is read."""
    with server.stock() as stock, server.ours() as ours:
        receiver = Receiver(ours, "q", prefetch=20)
        puller = receiver.consumer.channel.puller
        send(stock, "q", *range(20))
        puller.tick()  # sends the pull
        until(lambda: server.client.hlen("unacked") == 20, what="the pull ran")
        puller._link.close()
        receiver.until(20)
        assert receiver.bodies() == list(range(20))
        assert len({message.delivery_tag for message in receiver.messages}) == 20
        for message in receiver.messages:
            message.ack()
        assert server.client.hlen("unacked") == server.client.zcard("unacked_index") == 0


def test_cut_connections_lose_nothing(server):
    with server.stock() as stock, server.ours() as ours:
        receiver = Receiver(ours, "q", prefetch=7)
        acked = set()

        def turn():
            receiver.drain(0.02)
            for message in receiver.messages:
                if message.delivery_tag not in acked:
                    message.ack()
                    acked.add(message.delivery_tag)
            return len(acked) >= 300

        for number in range(300):
            if number % 25 == 0:
                server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                turn()
            send(stock, "q", number)
        until(turn, what="300 messages")
        assert sorted(receiver.bodies()) == list(range(300))
        assert server.client.hlen("unacked") == 0


def test_acknowledging_from_another_thread(server):
    with server.ours() as ours:
        send(ours, "q", *range(30))
        receiver = Receiver(ours, "q", prefetch=10)
        receiver.until(10)
        thread = threading.Thread(target=lambda: [message.ack() for message in receiver.messages[:10]])
        thread.start()
        thread.join()
        receiver.until(20)
        assert server.client.hlen("unacked") == 10


def test_a_dead_consumers_messages_come_back_and_a_live_ones_do_not(server):
    with server.ours(unacked_lease=1.0, unacked_restore_interval=0.2) as dead:
        with server.ours(unacked_lease=1.0, unacked_restore_interval=0.2) as live:
            send(live, "q", "held by the dead", "held by the live")
            gone = Receiver(dead, "q", prefetch=1)
            gone.until(1)
            receiver = Receiver(live, "q", prefetch=5)
            receiver.until(1)
            # the dead one is not turned any more; the live one holds its message for several leases
            receiver.until(2, timeout=6)
            assert receiver.bodies() == ["held by the live", "held by the dead"]
            assert not any(receiver.drain(0.2) for _ in range(10)), "a held message came twice"
            for message in receiver.messages:
                message.ack()
            gone.messages[0].ack()
            assert server.client.hlen("unacked") == 0


def test_stock_kombu_restores_what_a_consumer_of_ours_held(server):
    with server.ours() as ours, server.stock(visibility_timeout=1, unacked_restore_throttle=1) as stock:
        send(ours, "q", "x", priority=6)
        Receiver(ours, "q").until(1)
        other = Receiver(stock, "q")
        tag = server.client.zrange("unacked_index", 0, 0)[0]
        server.client.zadd("unacked_index", {tag: 1})
        other.until(1)
        assert other.bodies() == ["x"]
        assert other.messages[0].delivery_info["redelivered"]


def test_a_stock_workers_unacked_message_keeps_its_visibility_timeout(server):
    entry = json.dumps([{"body": "IjEi", "headers": {}, "properties": {"delivery_info": {}}}, "", "q"])
    now = server.client.time()[0]
    server.client.hset("unacked", mapping={"young": entry, "old": entry})
    server.client.zadd("unacked_index", {"young": now - 100, "old": now - 4000})
    with server.ours(unacked_lease=1.0) as ours:
        channel = ours.default_channel
        assert channel.restore_overdue(100) == 1
        assert server.client.hkeys("unacked") == ["young"]
        assert server.client.llen("q") == 1


def test_a_full_server_can_still_be_drained(server):
    with server.stock() as stock, server.ours() as ours:
        send(stock, "q", *["x" * 1000] * 50)
        receiver = Receiver(ours, "q", prefetch=10)
        receiver.until(10)
        server.client.config_set("maxmemory", "1mb")
        try:
            while len(receiver.messages) < 50:
                for message in receiver.messages[-10:]:
                    message.ack()
                receiver.until(min(50, len(receiver.messages) + 1))
        finally:
            server.client.config_set("maxmemory", "0")


def test_the_url_is_shown_as_plain_redis(server):
    with server.ours() as ours:
        assert ours.as_uri().startswith("redis://")
        assert ours.transport.driver_type == "redis"
    assert transport_for("amqp://") is None
    assert transport_for("sentinel://h:1") is None


# -- with workers ----------------------------------------------------------------------------------


@pytest.fixture
def app(server):
    app = server.sender()
    yield app
    app.close()


def outgoing(count, name="record", **options):
    return [Outgoing(name, str(uuid.uuid4()), "kit", **options) for _ in range(count)]


def recorded(server):
    return server.client.hgetall("recorded")


def test_a_stock_worker_reads_what_we_publish_in_bulk(server, app):
    messages = outgoing(40, "record_sync") + outgoing(10, "record_sync", priority=9, headers={"x": "ü"})
    publish(app, messages)
    assert server.client.llen("kit") == 40
    with Worker(server, KIT_STOCK="1") as worker:
        until(lambda: len(recorded(server)) == 50, what="all recorded")
        worker.stop()
    assert set(recorded(server)) == {message.task_id for message in messages}


def test_sigkill_of_a_busy_worker_loses_nothing(server, app):
    messages = outgoing(6000)
    publish(app, messages)
    for kill in range(6):
        with Worker(server, "-c", "50", KIT_LEASE="1") as worker:
            goal = min(6000, 900 * (kill + 1))
            until(lambda: len(recorded(server)) >= goal, what=f"{goal} recorded")
            worker.kill()
    with Worker(server, "-c", "50", KIT_LEASE="1"):
        until(lambda: len(recorded(server)) == 6000, timeout=30, what="all recorded")
        until(lambda: server.client.hlen("unacked") == 0, what="all acknowledged")
    assert set(recorded(server)) == {message.task_id for message in messages}


def test_a_restart_of_the_server_is_ridden_out():
    server = Server()
    app = server.sender()
    try:
        messages = outgoing(3000, kwargs={"pause": 0.02})
        publish(app, messages)
        with Worker(server, "-c", "20", "-E") as worker:
            for share in (300, 900):
                until(lambda: len(recorded(server)) > share, what="some recorded")
                server.stop()
                server.start()
            until(lambda: len(recorded(server)) >= 3000, timeout=30, what="all recorded")
            for _ in range(3):
                more = outgoing(5)
                publish(app, more)
                until(lambda: all(each.task_id in recorded(server) for each in more), what="more recorded")
            until(lambda: app.control.ping([worker.name], timeout=0.5), timeout=10, what="ping after the restart")
            assert worker.process.poll() is None
            assert "consumer: Connection to broker lost" not in worker.output()
            until(lambda: server.client.hlen("unacked") == 0, what="all acknowledged")
    finally:
        app.close()
        server.close()


def test_a_paused_server_is_ridden_out(server, app):
    publish(app, outgoing(300, kwargs={"pause": 0.01}))
    with Worker(server, "-c", "10") as worker:
        until(lambda: len(recorded(server)) > 50, what="some recorded")
        server.client.execute_command("CLIENT", "PAUSE", "1500")
        until(lambda: len(recorded(server)) == 300, what="all recorded")
        assert worker.process.poll() is None
    assert set(recorded(server).values()) == {"1"}
