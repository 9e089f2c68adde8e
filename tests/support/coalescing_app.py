"""A Celery app whose tasks do as a test says, over lists in a Redis database beside the broker's; `-m` runs its worker."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import redis
from celery import Celery, Task
from celery.exceptions import Ignore, Reject
from celery.signals import before_task_publish, worker_ready

from tasks.coalescing import CoalescingTask

DEFAULT, URGENT = "background", "user_waiting"
# A worker takes from all of them but the shelf: what is put there stays until a test moves it.
QUEUES, SHELF = (DEFAULT, URGENT, "spawn"), "shelf"
PATIENCE_S = 60


class Stage:
    """What tests and tasks tell each other. Everything is for one key, so that tests may share a worker."""

    def __init__(self, url: str) -> None:
        # What is popped and not read in time would be lost: no timeout of the socket's.
        self.redis = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=None, retry=redis.retry.Retry(_backoff(), 1_000)
        )

    def hold(self, *keys: str) -> None:
        """Runs of these keys wait for `let`."""
        self.redis.sadd("held", *keys)

    def let(self, key: str, *verbs: str) -> None:
        self.redis.rpush(f"verbs:{key}", *(verbs or ("return",)))

    def say(self, event: str, key: str, **more: Any) -> None:
        said = json.dumps({"event": event, "key": key, "pid": os.getpid(), **more})
        with self.redis.pipeline() as pipe:
            pipe.rpush("history", said)
            pipe.rpush(f"{event}:{key}", said)
            pipe.execute()

    def hear(self, event: str, key: str, *, within_s: float = 60.0) -> dict[str, Any]:
        """The next of these events, oldest first."""
        heard = self.redis.blpop([f"{event}:{key}"], timeout=within_s)
        assert heard is not None, f"not within {within_s:g} s: {event} of {key}"
        said: dict[str, Any] = json.loads(heard[1])
        return said

    def history(self, *keys: str) -> list[dict[str, Any]]:
        """What happened to these, in the one order that Redis gave it."""
        said = [json.loads(each) for each in self.redis.lrange("history", 0, -1)]
        return [each for each in said if each["key"] in keys]

    def runs(self, key: str) -> int:
        return int(self.redis.get(f"runs:{key}") or 0)

    def perform(self, task: Task, key: str) -> str:
        run = int(self.redis.incr(f"runs:{key}"))
        self.say("begins", key, id=task.request.id, run=run, noted=self.redis.llen(f"notes:{key}"))
        try:
            verb, _, what = "return", "", ""
            if self.redis.sismember("held", key):
                told = self.redis.blpop([f"verbs:{key}"], timeout=PATIENCE_S)
                assert told is not None, f"nobody said what {key} does"
                verb, _, what = told[1].partition(":")
            return self._act(task, verb, what, f"{key}#{run}")
        finally:
            self.say("ends", key, run=run)

    def _act(self, task: Task, verb: str, what: str, result: str) -> str:
        match verb:
            case "fail":
                raise ValueError(what)
            case "missing":
                raise LookupError(what)
            case "retry":
                raise task.retry(countdown=float(what), exc=ValueError("out of retries"))
            case "retry-and-return":
                task.retry(countdown=float(what), throw=False)
            case "reject":
                raise Reject(what, requeue=what == "requeue")
            case "ignore":
                raise Ignore
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                raise SystemExit(3)
            case "call":
                return f"{result} and {task(what)}"
        return result


def _backoff() -> Any:
    return redis.backoff.ConstantBackoff(0.1)


def build(broker: str, stage_url: str, **conf: Any) -> Celery:  # noqa: C901 - one task after another
    app = Celery("coalescing-test", set_as_current=False)
    app.conf.update(
        broker_url=broker,
        result_backend=broker,
        result_expires=600,
        task_default_queue=DEFAULT,
        task_track_started=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"priority_steps": [0], "sep": ":"},
    )
    for name, value in conf.items():
        app.conf[name] = {**app.conf[name], **value} if name == "broker_transport_options" else value
    stage = Stage(stage_url)

    def folding(name: str, **options: Any) -> None:
        base = options.pop("base", CoalescingTask)

        @app.task(name=name, base=base, bind=True, lazy=False, shared=False, **{"key": ("key",), **options})
        def run(self: Task, key: str, lane: str = "", note: int = 0) -> str:  # noqa: ARG001
            return stage.perform(self, key)

    class Slow(CoalescingTask):
        abstract = True

        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:  # noqa: ARG002
            stage.say("taken", args[0], id=task_id)
            stage.redis.blpop([f"begin:{args[0]}"], timeout=PATIENCE_S)

    folding("fold")
    folding("laned", lane=("lane",))
    folding("free", lane=None)
    folding("barrier", lane=("lane",), barrier=True)
    folding("quiet", ignore_result=True)
    folding("once", max_retries=1)
    folding("auto", autoretry_for=(LookupError,), retry_kwargs={"max_retries": 2, "countdown": 0.1})
    folding("retried_when_lost", retry_on_worker_lost=True, default_retry_delay=0)
    folding("rejected_when_lost", reject_on_worker_lost=True)
    folding("slow_to_begin", base=Slow)

    @app.task(name="echo", lazy=False, shared=False)
    def echo(*said: Any) -> list[Any]:
        return list(said)

    @app.task(name="note", lazy=False, shared=False)
    def note(result: str, key: str) -> None:
        stage.redis.rpush(f"notes:{key}", result)

    @app.task(name="mourn", lazy=False, shared=False)
    def mourn(request: Any, exc: Exception, _traceback: Any) -> None:
        stage.redis.rpush(f"mourned:{request.id}", repr(exc))

    @app.task(name="deadly", lazy=False, shared=False)
    def deadly(result: str, _key: str) -> str:
        return result

    @before_task_publish.connect(sender="deadly", weak=False)
    def die(body: Any, **_: Any) -> None:
        if stage.redis.getdel(f"deadly:{body[0][-1]}"):
            os.killpg(0, signal.SIGKILL)

    @app.task(name="plug", lazy=False, shared=False, acks_late=True, ignore_result=True)
    def plug(key: str) -> None:
        stage.say("plugged", key)
        stage.redis.blpop([f"unplug:{key}"], timeout=PATIENCE_S)

    return app


def main() -> None:
    arguments = json.loads(sys.argv[1])
    stage = Stage(arguments["stage_url"])
    app = build(arguments["broker"], arguments["stage_url"], **arguments["conf"])
    name = arguments["name"]
    worker_ready.connect(lambda **_: stage.say("ready", name), weak=False)
    options = {"pool": arguments["pool"], "concurrency": arguments["slots"], "queues": ",".join(QUEUES)}
    given = [f"--{option}={value}" for option, value in options.items()]
    app.worker_main(
        ["worker", *given, f"--hostname={name}@test", "--loglevel=WARNING", "--without-gossip", "--without-mingle"]
    )


if __name__ == "__main__":
    main()
