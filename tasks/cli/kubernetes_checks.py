"""What `stoker doctor` checks of a cluster: that it answers, has room for workers, and gives this control plane its rights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from config.settings import Settings
from tasks.cli.check import Check
from tasks.launchers.base import LaunchPermanent
from tasks.launchers.kubernetes.api import Api, Away, Refusal

# Resource, whether it is of the whole cluster, verbs: what deploy/kubernetes/rbac.yaml grants.
NEEDED: Final = (
    ("pods", False, ("create", "get", "list", "watch", "patch", "delete")),
    ("resourcequotas", False, ("list",)),
    ("nodes", True, ("get", "list", "watch")),
)


def cluster(settings: Settings) -> Iterator[Check]:
    """Nothing where workers are processes."""
    if settings.launcher.kind != "kubernetes":
        return
    facts = settings.launcher.kubernetes
    api = Api(facts)
    where = f"kubernetes {facts.cluster}"
    try:
        missing = [
            f"{verb} {resource}"
            for resource, everywhere, verbs in NEEDED
            for verb in verbs
            if not api.may(verb, resource, everywhere=everywhere)
        ]
    except Away as away:
        yield Check(
            where, ok=False, found=f"no answer: {away.got}", remedy="see that its API server can be reached from here"
        )
        return
    except (Refusal, LaunchPermanent) as error:
        yield Check(where, ok=False, found=str(error), remedy="mend launcher.kubernetes.kubeconfig, or its token")
        return
    yield Check(where, ok=True, found=f"answers; workers in namespace {facts.namespace}")
    found = f"missing: {', '.join(missing)}" if missing else "all that are needed"
    yield Check(
        "rights on kubernetes", not missing, found, "apply deploy/kubernetes/rbac.yaml for this control plane's account"
    )
