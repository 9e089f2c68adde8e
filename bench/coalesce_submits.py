"""What it costs to submit, where nothing consumes: each request another key, and each request the key of one that is pending."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from bench.coalesce_app import ONCE, SINGLETON, STOCK, STOKER, UNSERVED, Board, build

if TYPE_CHECKING:
    from celery import Celery

    from bench.progress import Progress

WAYS: Final = (STOCK, STOKER, SINGLETON, ONCE)
MODES: Final = ("lead", "fold")

Measured = dict[str, dict[str, list[float]]]


def measure(broker_url: str, lease_s: float, rounds: int, each: int, progress: Progress) -> Measured:
    """By mode and way the microseconds a submit of each round. The ways take turns, and so does who begins."""
    app, board = build(broker_url, lease_s), Board(broker_url)
    for way in WAYS:  # opens its connections; and from here on one of the key that is folded into is pending
        _submit(app, way, "pending", 0)
    found: Measured = {mode: {way: [] for way in WAYS} for mode in MODES}
    for number in range(rounds + 1):
        progress.say(f"submits, round {number} of {rounds}")
        for mode in MODES:
            for turn in range(len(WAYS)):
                way = WAYS[(turn + number) % len(WAYS)]
                took_us = _burst(app, board, way, mode, number, each)
                if number > 0:
                    found[mode][way].append(took_us)
    board.redis.flushdb()  # nothing of this is left to be found, or repaired, by what comes next
    board.close()
    app.close()
    return found


def _burst(app: Celery, board: Board, way: str, mode: str, number: int, each: int) -> float:
    keys = [f"{number}.{place}" if mode == "lead" else "pending" for place in range(each)]
    board.redis.delete(UNSERVED)
    began = time.perf_counter()
    for place, key in enumerate(keys):
        _submit(app, way, key, place)
    took_s = time.perf_counter() - began
    expected = each if mode == "lead" or way == STOCK else 0
    published: Any = board.redis.llen(UNSERVED)
    assert published == expected, f"{way}, {mode}: expected {expected} messages, got {published}"
    return 1e6 * took_s / each


def _submit(app: Celery, way: str, key: str, number: int) -> None:
    app.tasks[f"{way}.quiet"].apply_async((key, number), queue=UNSERVED)
