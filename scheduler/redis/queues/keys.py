"""Where the queues' own keys are, and what stands in them. All of it is a hint: lost, it is as at the start (I22)."""

from __future__ import annotations

from typing import Final

# hash: class -> "<bound in ms> <reserve>", where operators have changed what the settings say. SQL is the truth.
POLICY_KEY: Final = "stoker:queues"
# hash: "<queue> <counter>" -> count since the hash was made
COUNTS_KEY: Final = "stoker:queues:counts"
# hash: class -> credit of its reserve; one hash for all workers that serve the same queues
CREDIT_KEY: Final = "stoker:queues:credit:"
# list: what came where messages are expected and has no delivery tag, or cannot be read
REFUSED_KEY: Final = "stoker:queues:refused"
REFUSED_MOST: Final = 1000
REFUSED_BYTES: Final = 16_384  # of each, its beginning
# string: what a channel was given last, "<number of its call> <delivery tag> <delivery tag> ..."
HANDED_KEY: Final = "stoker:queues:handed:"
# list: at most one token, pushed beside each message and taken by the worker that wakes up for it
WAKE_KEY: Final = "stoker:wake-queue:"
# string: the highest epoch of any beat that sent
SENDER_KEY: Final = "stoker:beat:epoch"
# string: that the message of this id was put into its queue, until SQL says so
ONCE_KEY: Final = "stoker:beat:put:"

TAKEN: Final = "taken"  # messages handed to workers
LATE: Final = "late"  # of those, had waited past their bound
RESERVED: Final = "reserved"  # of those, passed better work by their reserve

# The first key of a message: when it was published, in ms since the epoch.
STAMP: Final = "stoker-at"


def wake_key(queue: str) -> str:
    """Where the workers that serve this queue, and have nothing to do, wait to be woken."""
    return WAKE_KEY + queue


def counter(queue: str, name: str) -> str:
    """The field of a queue's counter."""
    return f"{queue} {name}"


def policy_text(bound_s: float, reserve: float) -> str:
    """How a class's bound and reserve stand in the policy hash."""
    return f"{round(bound_s * 1000)} {reserve!r}"
