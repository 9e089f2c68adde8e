"""A channel of kombu's Redis transport that takes messages by one script, and sleeps on wake-ups instead of messages.

kombu pops a message and then records that it is held: who is killed in between loses it. Here one script does both, for up
to eight messages at once, and picks them by policy (I30, I33). To wait for a message without polling, kombu blocks on the
lists of messages themselves; this channel blocks on lists of wake-ups, so that what a dying worker takes along is a token.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from enum import Enum, auto
from queue import Empty
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

import redis
from kombu.log import get_logger
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.json import dumps
from redis.exceptions import NoScriptError

from config.names import class_of
from scheduler.core.queues import QueueClass
from scheduler.redis.queues import PICK, PUT, WAKE_MS, Picked, Picking
from scheduler.redis.queues.keys import HANDED_KEY, REFUSED_BYTES, REFUSED_KEY, REFUSED_MOST, STAMP, wake_key
from tasks.transport.reading import MalformedError, check_length, read_message

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from redis.client import Pipeline

# What the channel reads of broker_transport_options beside kombu's own.
_OPTIONS: Final = ("queue_classes", "message_most_bytes")
# More at once gain nothing (measured), and what is taken and has not begun is kept from other workers.
MOST_AT_ONCE: Final = 8

logger = get_logger(__name__)


class QoS(kombu_redis.QoS):
    """The messages that a channel holds. Those that the script took are recorded already."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Hold one more."""
        if delivery_tag == self.channel.recorded:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)


class PublishBatch(kombu_redis.PublishBatch):
    """kombu's batch of messages, which ends with one call for each queue that it filled.

    Not before: who is called looks once, and would not see what comes after it.
    """

    def __init__(self, channel: Channel, max_size: int) -> None:
        super().__init__(channel, max_size)
        self.queues: set[str] = set()

    def flush(self) -> None:
        """Publish what was gathered."""
        if self._buffered:
            for queue in self.queues:
                self.channel.call_for(queue, self.pipeline)
            self.queues.clear()
        super().flush()


class _Act(Enum):
    """What a channel asks next: to be given messages; when there are none, to be woken; when nobody called, if there are any."""

    PICK = auto()
    SLEEP = auto()
    # Somebody may publish by other means, and wake nobody. It costs one command, whatever the number of queues.
    PEEK = auto()


class _CutOff(NamedTuple):
    """A question for messages whose answer was never heard: the connection broke."""

    broker: tuple[Any, ...]
    key: str
    call: int


# Of this process. Celery gives up the channel with its connection, so that the next channel has to know.
_cut_off: Final[set[_CutOff]] = set()


class Channel(kombu_redis.Channel):
    """On one server."""

    QoS = QoS
    from_transport_options = (*kombu_redis.Channel.from_transport_options, *_OPTIONS)  # type: ignore[assignment]
    priority_steps = [0]  # noqa: RUF012 - kombu's own

    # name -> {"rank", "bound_s", "reserve"}; without any, queues are served in the order in which they were named
    queue_classes: Mapping[str, Mapping[str, Any]] = {}
    # Of one message, as it stands in its queue: neither published nor read if it is longer.
    message_most_bytes = 64 * 1024 * 1024
    recorded: str | None = None  # the delivery tag of the message that is being handed out

    _picking: Picking | None = None  # for the queues that are served now
    _asked: Picking  # of which the reply is under way
    _next = _Act.PICK
    _under_way = _Act.PICK
    _calls = 0  # how often messages were asked for
    _unheard = False  # it was asked, and its answer has not been read
    _script_is_known = True  # until the server says otherwise
    _client_of_pool: tuple[Any, redis.Redis] | None = None
    _direct: redis.Redis | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._unrecorded: set[str] = set()
        self._name = uuid4().hex
        super().__init__(*args, **kwargs)
        info = self.connection.client
        self._broker = (info.hostname, info.port, info.virtual_host, self.global_keyprefix)

    # Taking.

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:  # noqa: FBT001 - kombu's own
        """Serve this queue too."""
        (self._unrecorded.discard if self._records(no_ack=no_ack) else self._unrecorded.add)(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:  # noqa: ARG002, FBT001, FBT002 - kombu's own
        """One message of this queue, or None."""
        records = self._records(no_ack=no_ack)
        picking = self._picking_of([queue], () if records else (queue,))
        reply = self._evaluate(PICK, picking.arguments(_now_ms(), 1))
        for picked in picking.read(reply)[0]:
            payload = self._opened(picked)
            if payload is None:
                continue
            message = self.Message(payload, channel=self)
            if not no_ack:
                with self._recorded(picked.tag if records else None):
                    self.qos.append(message, picked.tag)
            return message
        return None

    def close(self) -> None:
        """End; what was taken and not handed out goes back, and a wait for a wake-up is broken off."""
        if self._under_way is _Act.SLEEP:
            self._in_poll = False
        try:
            super().close()
        finally:
            self._note_if_cut_off()

    def _update_queue_cycle(self) -> None:
        super()._update_queue_cycle()
        self._picking, self._next = None, _Act.PICK

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Send the next command."""
        queues = self.active_queues
        if not queues:
            return
        if self._picking is None:
            self._picking = self._picking_of(queues, self._unrecorded)
        if self._next is _Act.PICK:
            self._recover()
        self._asked, self._under_way = self._picking, self._next
        connection = self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()  # type: ignore[assignment]
        if self._under_way is _Act.SLEEP:
            connection.send_command("BRPOP", *self._asked.wake_keys, timeout or self.brpop_timeout or 0)
        elif self._under_way is _Act.PEEK:
            connection.send_command("EXISTS", *self._asked.lists)
        else:
            self._calls += 1
            self._unheard = True
            script = ("EVALSHA", PICK.sha) if self._script_is_known else ("EVAL", PICK.text)
            connection.send_command(*script, *self._asked.arguments(_now_ms(), self._room(), self._calls))

    def _brpop_read(self, **options: Any) -> bool:  # noqa: ARG002 - kombu's own
        """Read the reply, and hand out what was taken.

        Raises:
            Empty: no message was handed out.
        """
        connection, asked, done = self.client.connection, self._asked, self._under_way
        try:
            # Not by the client: with a key prefix, it would take that off the reply of a BRPOP.
            reply = connection.read_response()
            self._unheard = False
        except NoScriptError:
            self._script_is_known = self._unheard = False
            raise Empty from None
        except self.connection_errors:
            self._next = _Act.PICK
            connection.disconnect()
            raise
        finally:
            self._in_poll, self._under_way = False, _Act.PICK
            # The connection is at rest: the moment for new credentials.
            self._flush_brpop_reauth()
        if done is _Act.SLEEP:
            self._woken(reply)
            raise Empty
        if done is _Act.PEEK:
            self._next = _Act.PICK if reply else _Act.SLEEP
            raise Empty
        self._script_is_known = True
        taken, more = asked.read(reply)
        if asked is self._picking:
            self._next = _Act.PICK if more else _Act.SLEEP
        if self._closing:
            self._put_back(taken)
        elif taken:
            self._hand_out(taken)
            return True
        raise Empty

    def _woken(self, reply: tuple[bytes, bytes] | None) -> None:
        self._next = _Act.PICK if reply else _Act.PEEK
        # Of a queue that is no longer served here: the call was for another.
        if reply and (self._picking is None or reply[0].decode() not in self._picking.wake_keys):
            with self._create_client().pipeline() as pipe:
                self.call_for(self._asked.queues[self._asked.wake_keys.index(reply[0].decode())], pipe)
                pipe.execute()

    def _picking_of(self, queues: Sequence[str], unrecorded: Collection[str]) -> Picking:
        kinds = {
            name: QueueClass(name, float(kind["bound_s"]), float(kind["reserve"]))
            for name, kind in self.queue_classes.items()
        }
        return Picking(
            queues,
            {queue: kinds[class_of(queue)] for queue in queues if class_of(queue) in kinds},
            sorted(kinds, key=lambda name: int(self.queue_classes[name]["rank"])),
            held_key=self.unacked_key,
            index_key=self.unacked_index_key,
            prefix=self.global_keyprefix,
            asker=self._name,
            unrecorded=unrecorded,
        )

    def _records(self, *, no_ack: bool) -> bool:
        return bool(self.ack_emulation) and not no_ack

    def _room(self) -> int:
        """How many messages may be taken at once."""
        # worker_disable_prefetch puts a rule of the worker's own here, which knows of the next message only.
        if "can_consume" in vars(self.qos):
            return 1
        free = self.qos.can_consume_max_estimate()
        # Without a limit it is no worker: who waits for an answer takes each message for one event.
        return 1 if free is None else max(1, min(MOST_AT_ONCE, free))

    def _hand_out(self, taken: list[Picked]) -> None:
        """Each message to its consumer. One whose consumer fails leaves the others to theirs."""
        failed: Exception | None = None
        unserved = []  # cancelled while the reply was under way
        try:
            while taken:
                picked = taken.pop(0)
                if picked.queue not in self._active_queues:
                    unserved.append(picked)
                elif (payload := self._opened(picked)) is not None:
                    try:
                        with self._recorded(None if picked.queue in self._unrecorded else picked.tag):
                            self.connection._deliver(payload, picked.queue)  # noqa: SLF001 - kombu's channels do
                    except Exception as error:  # noqa: BLE001 - whatever a consumer raises, the others' are not its own
                        failed = failed or error
        finally:
            self._put_back([*unserved, *taken])
        if failed is not None:
            raise failed

    @contextmanager
    def _recorded(self, tag: str | None) -> Iterator[None]:
        self.recorded = tag
        try:
            yield
        finally:
            self.recorded = None

    def _opened(self, picked: Picked) -> dict[str, Any] | None:
        """The message. What cannot be read is set aside, where somebody may look at it and no worker dies of it."""
        try:
            return read_message(picked.message, picked.tag, self.message_most_bytes)
        except MalformedError as error:
            self._set_aside(picked, str(error))
            return None

    def _set_aside(self, picked: Picked, why: str) -> None:
        logger.critical("Message in %s cannot be read: %s. It stands in the list %s", picked.queue, why, REFUSED_KEY)
        with self._pipeline() as pipe:
            pipe.lpush(self._prefixed(REFUSED_KEY), picked.message[:REFUSED_BYTES])
            pipe.ltrim(self._prefixed(REFUSED_KEY), 0, REFUSED_MOST - 1)
            pipe.hdel(self._prefixed(self.unacked_key), picked.tag)
            pipe.zrem(self._prefixed(self.unacked_index_key), picked.tag)
            pipe.execute()

    def _note_if_cut_off(self) -> None:
        if self._unheard:
            self._unheard = False
            _cut_off.add(_CutOff(self._broker, self._prefixed(HANDED_KEY + self._name), self._calls))

    def _recover(self) -> None:
        """Put back what was on its way to this process when a connection broke: nobody has seen it, and no other may take it."""
        self._note_if_cut_off()
        for cut in [cut for cut in _cut_off if cut.broker == self._broker]:
            call, *tags = bytes(self._script_client().get(cut.key) or b"-").decode().split()  # type: ignore[arg-type]
            if call == str(cut.call):
                for tag in reversed(tags):
                    self.qos.restore_by_tag(tag)
            _cut_off.discard(cut)

    def _put_back(self, taken: Iterable[Picked]) -> None:
        """To the heads of their queues, in the order in which they stood there."""
        for picked in reversed(list(taken)):
            self.qos.restore_by_tag(picked.tag)

    # Giving.

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """A batch for a producer."""
        return PublishBatch(self, max_size)

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        """Publish. A message begins with its stamp: its age is read from its first bytes."""
        stamped = message if STAMP in message else {STAMP: _now_ms(), **message}
        text = dumps(stamped)
        check_length(text, self.message_most_bytes)
        batch = kwargs.get("_publish_batch")
        if batch is not None:
            super()._put(queue, stamped, **kwargs)
            if isinstance(batch, PublishBatch):
                batch.queues.add(queue)
            return
        keys = (self._prefixed(queue), self._prefixed(wake_key(queue)))
        self._evaluate(PUT, (len(keys), *keys, text))
        if self._expires:
            self._maybe_update_queues_expire(self._create_client(), queue)

    def _do_restore_message(
        self,
        payload: dict[str, Any],
        exchange: str,
        routing_key: str,
        pipe: Pipeline,
        leftmost: bool = False,  # noqa: FBT001, FBT002 - kombu's own
    ) -> None:
        super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)
        for queue in self._lookup(exchange, routing_key):
            self.call_for(queue, pipe)

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        super()._delete(queue, *args, **kwargs)
        self._script_client().delete(self._prefixed(wake_key(queue)))

    def call_for(self, queue: str, pipe: Pipeline) -> None:
        """Call somebody who sleeps on this queue by a pipeline of kombu's, where no script can look first."""
        key = wake_key(queue)
        pipe.lpush(key, 1)
        # kombu's prefixing client knows the others, and leaves this one to whoever uses it.
        pipe.ltrim(self._prefixed(key), 0, 0)
        pipe.pexpire(key, WAKE_MS)

    def _prefixed(self, key: str) -> str:
        return f"{self.global_keyprefix}{key}"

    def _create_client(self, asynchronous: bool = False) -> redis.Redis:  # noqa: FBT001, FBT002 - kombu's own
        """A client, made once: kombu makes one for each acknowledgement, which costs more than to acknowledge."""
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[no-any-return]
        if self._client_of_pool is None or self._client_of_pool[0] is not self.pool:
            self._client_of_pool = self.pool, super()._create_client()
        return self._client_of_pool[1]

    def _evaluate(self, script: Any, arguments: Iterable[str | int | float]) -> Any:
        client = self._script_client()
        try:
            return client.execute_command("EVALSHA", script.sha, *arguments)
        except NoScriptError:
            return client.execute_command("EVAL", script.text, *arguments)

    def _pipeline(self) -> Pipeline:
        return self._script_client().pipeline(transaction=True)

    def _script_client(self) -> redis.Redis:
        """A client that prefixes nothing: kombu's would prefix the first key of a script and no other."""
        if self._direct is None or self._direct.connection_pool is not self.pool:
            self._direct = redis.Redis(connection_pool=self.pool)
        return self._direct


class SentinelChannel(Channel, kombu_redis.SentinelChannel):
    """On the master that the sentinels name."""

    from_transport_options = (*kombu_redis.SentinelChannel.from_transport_options, *_OPTIONS)  # type: ignore[assignment]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
