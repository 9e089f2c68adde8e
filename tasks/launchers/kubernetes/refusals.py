"""What the API server answers, in the terms of launchers: what, expected, got, and the remedy."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tasks.launchers.base import LaunchPermanent, LaunchTemporary, LaunchUnknown, Starting
from tasks.launchers.kubernetes import outcomes
from tasks.launchers.kubernetes.api import Away, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REMEDIES: Final[Mapping[str, str]] = {
    outcomes.QUOTA.name: "raise the namespace's ResourceQuota, or lower the floor",
    outcomes.FORBIDDEN.name: "apply deploy/kubernetes/rbac.yaml; if the rights are there, an admission policy says no",
    outcomes.INVALID.name: "mend the profile's [kubernetes] table",
    outcomes.NO_NAMESPACE.name: "create the namespace, or mend launcher.kubernetes.namespace",
}


def not_ready(starting: Starting, seen: outcomes.Standing, expected: str) -> LaunchTemporary:
    """The pod's time is up, or it will never be ready."""
    what = f"pod of worker {starting.worker_id} of profile {starting.profile.name}"
    got = f"{seen.waits_for.name} ({seen.detail})" if seen.detail else seen.waits_for.name
    return LaunchTemporary(what, expected, got, "see the pod's events and its worker's log", seen.waits_for)


def denied(what: str, refusal: Refusal) -> LaunchPermanent:
    """The server refuses what needs no more than the rights of the manifest."""
    got = f"{refusal.status} {refusal.reason}: {refusal.message}"
    return LaunchPermanent(
        what, "a yes", got, REMEDIES[outcomes.FORBIDDEN.name], outcomes.refused(refusal, allowed=False)
    )


@contextmanager
def asked(what: str) -> Iterator[None]:
    """Tell what the requests within came to in a launcher's terms."""
    try:
        yield
    except Away as away:
        raise unknown(what, away) from away
    except Refusal as refusal:
        raise denied(what, refusal) from refusal


def unknown(what: str, away: Away) -> LaunchUnknown:
    """No answer."""
    outcome = outcomes.THROTTLED if away.overloaded else outcomes.UNAVAILABLE
    return LaunchUnknown(what, "an answer of the API server", away.got, "it is asked again", outcome)
