"""Messages through the channel: in order, once, back again, and never out of sight."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Exchange, Message, Queue

from scheduler.errors import Refused
from scheduler.redis.queues.keys import COUNTS_KEY, REFUSED_KEY, STAMP, counter, wake_key
from tasks.transport.channel import MOST_AT_ONCE, _Act
from tasks.transport.reading import ENQUEUED_AT
from tests.support.eventually import eventually
from tests.transport.conftest import Connect

URGENT, LATER = Queue("urgent", routing_key="urgent"), Queue("later", routing_key="later")
WITHIN_S = 10


class Reader:
    """A consumer of some queues that keeps what it gets, unacknowledged."""

    def __init__(self, connection: Connection, *queues: Queue, prefetch: int = 0, no_ack: bool = False) -> None:
        self.connection = connection
        self.got: list[Message] = []
        self.consumer = Consumer(
            connection.channel(), list(queues), callbacks=[self.take], prefetch_count=prefetch or None, no_ack=no_ack
        )
        self.consumer.consume()

    def take(self, body: Any, message: Message) -> None:
        assert body == message.payload
        self.got.append(message)

    def until(self, count: int) -> list[Any]:
        """The payloads of the first so many messages."""
        while len(self.got) < count:
            self.connection.drain_events(timeout=WITHIN_S)
        return self.payloads

    def until_it_sleeps(self) -> None:
        """Nothing is there, and it waits to be called."""
        while self.channel._under_way is not _Act.SLEEP:
            with pytest.raises(TimeoutError):
                self.connection.drain_events(timeout=0.05)

    @property
    def payloads(self) -> list[Any]:
        return [message.payload for message in self.got]

    @property
    def channel(self) -> Any:
        return self.consumer.channel


def publish(connection: Connection, queue: Queue, *bodies: Any, **how: Any) -> None:
    producer = connection.Producer()
    for body in bodies:
        producer.publish(body, routing_key=queue.name, declare=[queue], **how)


def held(store: redis.Redis) -> list[Any]:
    texts: Any = store.hvals("unacked")
    return sorted(json.loads(text)[0]["body"] for text in texts)


def test_the_better_class_first_and_within_a_queue_the_older(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), LATER, 1, 2)
    publish(connect(), URGENT, 3, 4)
    reader = Reader(connect(), LATER, URGENT)
    assert reader.until(4) == [3, 4, 1, 2]
    assert store.hgetall(COUNTS_KEY) == {counter("urgent", "taken"): "2", counter("later", "taken"): "2"}
    assert store.hlen("unacked") == store.zcard("unacked_index") == 4
    for message in reader.got:
        message.ack()
    assert store.exists("unacked", "unacked_index", "urgent", "later") == 0


def test_a_message_says_when_it_was_published(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, 1)
    text = str(store.lindex("urgent", -1))
    assert text.startswith(json.dumps(STAMP).join(("{", ": ")))
    reader = Reader(connect(), URGENT)
    reader.until(1)
    assert reader.got[0].headers[ENQUEUED_AT] == json.loads(text)[STAMP]


def test_a_reader_holds_no_more_than_it_may(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, *range(20))
    reader = Reader(connect(), URGENT, prefetch=3)
    assert reader.until(3) == [0, 1, 2]
    with pytest.raises(TimeoutError):
        reader.connection.drain_events(timeout=0.2)
    assert (len(reader.got), store.llen("urgent"), store.hlen("unacked")) == (3, 17, 3)
    reader.got[0].ack()
    assert reader.until(4) == [0, 1, 2, 3]
    greedy = Reader(connect(), URGENT, prefetch=100)
    greedy.connection.drain_events(timeout=WITHIN_S)
    assert len(greedy.got) == MOST_AT_ONCE


def test_a_wait_is_no_longer_than_it_was_to_be(connect: Connect) -> None:
    """Two blocking commands end within it, and none of them begins it anew."""
    reader = Reader(connect(sleep_s=3), URGENT)
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        reader.connection.drain_events(timeout=3.3)
    assert 3.3 <= time.monotonic() - began_s < 5.7


def test_who_has_no_limit_is_given_one_message_an_event(connect: Connect) -> None:
    """`celery inspect` counts the replies that it waits for by the events that bring them."""
    publish(connect(), URGENT, 1, 2, 3)
    reader = Reader(connect(), URGENT, no_ack=True)
    for count in (1, 2, 3):
        reader.connection.drain_events(timeout=WITHIN_S)
        assert len(reader.got) == count


def test_who_sleeps_is_called(connect: Connect) -> None:
    reader = Reader(connect(), LATER, URGENT)
    with pytest.raises(TimeoutError):
        reader.connection.drain_events(timeout=0.2)
    publish(connect(), LATER, 1)
    assert reader.until(1) == [1]
    publish(connect(), URGENT, 2)
    assert reader.until(2) == [1, 2]


def test_one_call_is_passed_on_while_there_is_work(connect: Connect, store: redis.Redis) -> None:
    readers = [Reader(connect(), URGENT, prefetch=1) for _ in range(3)]
    for reader in readers:
        reader.until_it_sleeps()
    publish(connect(stock=True), URGENT, 0, 1)  # which calls nobody
    publish(connect(), URGENT, 2)
    assert [reader.until(1) for reader in readers] == [[0], [1], [2]]
    assert store.llen(wake_key("urgent")) == 0


def test_a_batch_is_as_good_as_single_messages(connect: Connect, store: redis.Redis) -> None:
    sleeper = Reader(connect(), URGENT)
    sleeper.until_it_sleeps()
    producer = connect().Producer()
    with producer.batch():
        for number in range(100):
            producer.publish(number, routing_key="urgent")
        assert store.llen("urgent") == 0
    assert (store.llen("urgent"), store.llen(wake_key("urgent"))) == (100, 0)  # the one call has been heard
    assert sleeper.until(100) == list(range(100))


def test_a_publisher_of_stock_kombu_is_heard_after_a_while(connect: Connect) -> None:
    reader = Reader(connect(sleep_s=0.1), URGENT)
    with pytest.raises(TimeoutError):
        reader.connection.drain_events(timeout=0.05)
    publish(connect(stock=True), URGENT, 1, 2)
    assert reader.until(2) == [1, 2]
    assert ENQUEUED_AT not in reader.got[0].headers


def test_a_reader_of_stock_kombu_understands_what_is_published_here(connect: Connect) -> None:
    publish(connect(), URGENT, 1, 2)
    assert Reader(connect(stock=True), URGENT).until(2) == [1, 2]


def test_a_closed_channel_puts_its_messages_back_in_order(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, *range(5))
    with connect() as connection:
        assert Reader(connection, URGENT, prefetch=3).until(3) == [0, 1, 2]
    assert store.exists("unacked") == 0
    assert sorted(Reader(connect(), URGENT).until(5)) == list(range(5))


def test_what_was_on_its_way_to_a_closing_channel_goes_back_in_order(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, *range(5))
    reader = Reader(connect(), URGENT, prefetch=8)
    poller = reader.connection.transport.cycle
    poller.on_poll_start()  # the question is asked
    eventually(lambda: store.hlen("unacked") == 5, "the question is answered", within_s=WITHIN_S)
    reader.channel.close()  # and the answer not read
    assert reader.got == []
    assert store.hlen("unacked") == 0
    assert Reader(connect(), URGENT).until(5) == list(range(5))


def test_a_queue_that_is_no_longer_served_keeps_its_messages(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, 1)
    publish(connect(), LATER, 2, 3)
    reader = Reader(connect(), URGENT, LATER, prefetch=8)
    reader.connection.transport.cycle.on_poll_start()
    eventually(lambda: store.hlen("unacked") == 3, "the answer is under way", within_s=WITHIN_S)
    reader.consumer.cancel_by_queue("later")
    assert reader.until(1) == [1]
    assert [json.loads(str(text))["headers"] for text in store.lrange("later", 0, -1)] == [{"redelivered": True}] * 2
    publish(connect(), LATER, 4)
    publish(connect(), URGENT, 5)
    assert reader.until(2) == [1, 5]
    reader.consumer.add_queue(LATER)
    reader.consumer.consume()
    assert reader.until(5) == [1, 5, 2, 3, 4]


def test_a_call_for_a_queue_that_was_given_up_is_passed_on(connect: Connect) -> None:
    first, second = Reader(connect(), URGENT, LATER), Reader(connect(), LATER)
    for reader in (first, second):
        with pytest.raises(TimeoutError):
            reader.connection.drain_events(timeout=0.2)
    first.consumer.cancel_by_queue("later")
    publish(connect(), LATER, 1)  # the first, who slept first, is called
    with pytest.raises(TimeoutError):
        first.connection.drain_events(timeout=0.2)
    assert second.until(1) == [1]


def test_one_consumer_that_fails_strands_no_message(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, *range(4))
    reader = Reader(connect(), URGENT, prefetch=8)

    def fail(body: int, message: Message) -> None:
        reader.take(body, message)
        if body == 1:
            raise RuntimeError("what a consumer may raise")

    reader.consumer.callbacks = [fail]
    with pytest.raises(RuntimeError):
        reader.until(4)
    assert reader.payloads == [0, 1, 2, 3]
    assert store.hlen("unacked") == 4


def test_one_that_is_interrupted_leaves_the_others_in_their_queue(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, *range(4))
    reader = Reader(connect(), URGENT, prefetch=8)

    def interrupted(body: int, message: Message) -> None:
        reader.take(body, message)
        if body == 1:
            raise KeyboardInterrupt

    reader.consumer.callbacks = [interrupted]
    with pytest.raises(KeyboardInterrupt):
        reader.until(4)
    assert Reader(connect(), URGENT).until(2) == [2, 3]
    assert store.hlen("unacked") == 4


def test_what_cannot_be_read_ends_no_reader(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, 1)
    store.rpush("urgent", 'no json, but "delivery_tag": "x"', '{"headers": {"delivery_tag": "x"}, "properties": {}}')
    assert Reader(connect(), URGENT).until(1) == [1]
    assert store.llen(REFUSED_KEY) == 2
    assert store.hlen("unacked") == 1


def test_without_acknowledgement_nothing_is_recorded(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, 1, 2)
    publish(connect(), LATER, 3)
    connection = connect()
    reader = Reader(connection, URGENT, no_ack=True)
    reader.consumer.add_queue(LATER)
    reader.consumer.consume()
    assert reader.until(3) == [1, 2, 3]
    assert store.exists("unacked", "unacked_index") == 0


def test_getting_one_message(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, 1, 2)
    channel = connect().channel()
    first, second = channel.basic_get("urgent"), channel.basic_get("urgent", no_ack=True)
    assert (first.payload, second.payload, channel.basic_get("urgent")) == (1, 2, None)
    assert store.hkeys("unacked") == [first.delivery_tag]
    first.ack()
    assert store.exists("unacked", "unacked_index", "urgent") == 0


def test_rejected_is_gone_and_requeued_is_back(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, 1, 2)
    reader = Reader(connect(), URGENT)
    reader.until(2)
    reader.got[0].reject()
    assert (store.hlen("unacked"), store.llen("urgent")) == (1, 0)
    reader.got[1].requeue()
    assert reader.until(3) == [1, 2, 2]
    assert reader.got[2].headers["redelivered"] is True


def test_what_a_dead_reader_held_comes_back_after_the_visibility_timeout(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, 1, 2)
    dead = Reader(connect(), URGENT)
    dead.until(2)
    dead.channel.qos._delivered.clear()  # it ends without a word
    heir = Reader(connect(visibility_timeout=0.5, unacked_restore_throttle=1, sleep_s=0.1), URGENT)
    assert sorted(heir.until(2)) == [1, 2]
    assert store.hlen("unacked") == 2


def test_a_restored_message_calls_a_sleeper(connect: Connect) -> None:
    publish(connect(), URGENT, 1)
    dead, sleeper = Reader(connect(), URGENT), Reader(connect(), URGENT)
    dead.until(1)
    with pytest.raises(TimeoutError):
        sleeper.connection.drain_events(timeout=0.2)
    dead.channel.qos.restore_by_tag(dead.got[0].delivery_tag)
    assert sleeper.until(1) == [1]


def test_scripts_that_the_server_forgot_are_sent_again(connect: Connect, store: redis.Redis) -> None:
    reader, publisher = Reader(connect(), URGENT), connect()
    for number in range(3):
        store.script_flush()
        publish(publisher, URGENT, number)
        store.script_flush()
        assert reader.until(number + 1) == list(range(number + 1))
    assert connect().channel().basic_get("urgent") is None


def test_a_queue_is_measured_emptied_and_deleted(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, 1, 2)
    channel = connect().channel()
    assert URGENT(channel).queue_declare(passive=True).message_count == 2
    assert URGENT(channel).purge() == 2
    gone = Queue("gone", Exchange("gone"), "gone")(channel)
    gone.declare()
    channel.connection.client.Producer(channel).publish(3, exchange="gone", routing_key="gone")
    assert store.exists("gone", wake_key("gone")) == 2
    gone.delete()
    assert store.exists("gone", wake_key("gone")) == 0


def test_all_keys_have_the_prefix(connect: Connect, store: redis.Redis) -> None:
    options = {"global_keyprefix": "ours:"}
    reader = Reader(connect(**options), URGENT, LATER)
    with pytest.raises(TimeoutError):
        reader.connection.drain_events(timeout=0.2)
    publisher = connect(**options)
    publish(publisher, LATER, 1)
    assert reader.until(1) == [1]
    producer = publisher.Producer()
    with producer.batch():
        producer.publish(2, routing_key="urgent")
    assert reader.until(2) == [1, 2]
    reader.got[0].requeue()
    assert reader.until(3) == [1, 2, 1]
    assert store.hlen("ours:unacked") == 2
    keys: Any = store.keys("*")
    assert [key for key in keys if not key.startswith("ours:")] == []


def test_another_database_is_another_broker(connect: Connect, broker_url: str) -> None:
    other = f"{broker_url.partition('?')[0]}?virtual_host=1"
    publish(connect(), URGENT, 1)
    publish(connect(url=other), URGENT, 2)
    assert Reader(connect(url=other), URGENT, no_ack=True).until(1) == [2]


def test_several_lists_for_one_queue_are_refused(connect: Connect) -> None:
    with pytest.raises(Refused, match=r"priority_steps.*expected \[0\].*set it to \[0\]"):
        connect(priority_steps=[0, 3, 6, 9]).connect()


def cut_off_with_an_answer_unread(reader: Reader, store: redis.Redis, held: int) -> None:
    reader.connection.transport.cycle.on_poll_start()
    eventually(lambda: store.hlen("unacked") == held, "the answer is under way", within_s=WITHIN_S)
    reader.channel.client.connection.disconnect()


def test_an_answer_that_never_came_goes_back_when_its_reader_is_connected_again(
    connect: Connect, store: redis.Redis
) -> None:
    publish(connect(), URGENT, *range(5))
    reader = Reader(connect(), URGENT, prefetch=3)
    cut_off_with_an_answer_unread(reader, store, held=3)
    assert reader.until(3) == [0, 1, 2]
    assert store.hlen("unacked") == 3


def test_or_to_the_next_channel_of_its_process(connect: Connect, store: redis.Redis) -> None:
    publish(connect(), URGENT, *range(5))
    connection = connect()
    cut_off_with_an_answer_unread(Reader(connection, URGENT, prefetch=3), store, held=3)
    connection.collect()
    assert Reader(connect(), URGENT).until(5) == list(range(5))
    assert store.hlen("unacked") == 5


def test_but_not_to_one_of_another_broker(connect: Connect, store: redis.Redis, broker_url: str) -> None:
    publish(connect(), URGENT, 0)
    connection = connect()
    cut_off_with_an_answer_unread(Reader(connection, URGENT), store, held=1)
    connection.collect()
    other = connect(url=f"{broker_url.partition('?')[0]}?virtual_host=1")
    publish(other, URGENT, 1)
    assert Reader(other, URGENT, no_ack=True).until(1) == [1]
    assert Reader(connect(), URGENT).until(1) == [0]


def test_a_reader_whose_connections_are_killed_costs_no_message(connect: Connect, store: redis.Redis) -> None:
    got: list[int] = []
    for number in range(60):
        with connect() as connection:
            publish(connection, URGENT, number)
            reader = Reader(connection, URGENT)
            for _ in range(number % 3):
                connection.transport.cycle.on_poll_start()
            store.client_kill_filter(_type="normal", skipme=True)
            with suppress(*connection.connection_errors, TimeoutError):
                connection.drain_events(timeout=0.05)
            got += reader.payloads
            for message in reader.got:
                message.ack()
    last = Reader(connect(), URGENT)
    assert sorted(got + last.until(60 - len(got))) == list(range(60))
