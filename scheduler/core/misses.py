"""Why a claim got no worker (I3)."""

from __future__ import annotations

from enum import StrEnum


class MissReason(StrEnum):
    """The reasons, by the remedy each of them has."""

    NO_WARM = "no_warm"  # none is ready: more are on their way
    TENANT_CAP = "tenant_cap"  # this tenant holds all it may: it must release one
    PROFILE_CAP = "profile_cap"  # the profile runs all it may: somebody must release one
    DRAINING = "draining"  # the profile is being emptied: claim another
    QUEUE_FULL = "queue_full"  # this tenant has as many claims waiting as it may

    @property
    def is_demand(self) -> bool:
        """Whether more workers would serve this claim."""
        return self is MissReason.NO_WARM

    @property
    def may_wait(self) -> bool:
        """Whether time alone can turn the miss into a claim."""
        return self in {MissReason.NO_WARM, MissReason.TENANT_CAP, MissReason.PROFILE_CAP}
