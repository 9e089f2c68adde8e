"""Workers as pods: the cluster that runs them, and what a profile says of its pods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from config.frozen import Frozen
from config.quantity import memory_bytes

Seconds = Annotated[float, Field(gt=0, le=86_400)]
_NAME: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
Name = Annotated[str, StringConstraints(pattern=f"^{_NAME}$")]
# A label's prefix, a priority class: names with dots.
DottedName = Annotated[str, StringConstraints(pattern=rf"^{_NAME}(\.{_NAME})*$", max_length=253)]
_DIGEST_MARK: Final = "@sha256:"
_HEX_DIGITS: Final = 64


def _by_digest(value: str) -> str:
    name, mark, digest = value.partition(_DIGEST_MARK)
    if not name or not mark or len(digest) != _HEX_DIGITS or set(digest) - set("0123456789abcdef"):
        msg = (
            f"image: expected NAME@sha256:DIGEST, got {value!r}; a tag may mean another image tomorrow, and warm workers of"
            " two would be taken for one kind: name the digest that `docker buildx imagetools inspect` prints"
        )
        raise ValueError(msg)
    return value


Image = Annotated[str, AfterValidator(_by_digest)]


class KubernetesLauncher(Frozen):
    """The cluster, and how hard this control plane may press its API server."""

    namespace: Name = "stoker-workers"
    # What the cluster is called in the record of workers: of another one's, this control plane leaves its hands.
    cluster: Name = "default"
    kubeconfig: Path | None = None  # none: this control plane is itself a pod, and uses its service account
    context: str | None = None  # of the kubeconfig; none: the current one
    label_prefix: DottedName = "stoker.dev"
    # As kubectl counts: requests a second, and how many at once after a pause.
    qps: float = Field(default=50.0, gt=0, le=10_000)
    burst: int = Field(default=100, gt=0, le=10_000)
    connections: int = Field(default=16, gt=0, le=1_000)
    # All tries of one request. Less than the lease of a launch: what takes longer is another's to launch.
    request_s: Seconds = 5.0
    # The server ends a watch after so long and it is resumed at once: so long at most one that was cut in silence goes unseen.
    watch_s: Seconds = 60.0
    # From a pod that fits nowhere to a node that the cluster's autoscaler has made for it.
    node_arrives_s: Seconds = 120.0
    # Of the pods that hold room for others (a profile's `headroom`): an image that does nothing, and a class of negative value.
    placeholder_image: Image | None = None
    placeholder_class: DottedName | None = None


class Toleration(Frozen):
    """A taint that the pods put up with."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class Pod(Frozen):
    """What is said of a profile's pods beside what every profile says. It decides what a worker is."""

    image: Image
    port: int = Field(default=8080, ge=1_024, le=65_535)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    priority_class: DottedName | None = None
    runtime_class: DottedName | None = None
    pull_secrets: tuple[DottedName, ...] = ()
    run_as_user: int = Field(default=65_532, gt=0)  # nobody in particular, and never root
    scratch: int = Field(default=64 * 2**20, gt=0)  # bytes of /tmp, the one place that can be written to
    # A node of which nothing is heard for so long has lost its workers.
    unreachable_s: int = Field(default=30, ge=0, le=86_400)
    # Pods of no use and of this profile's size, which make way for workers: the nodes under them are there before a spike is.
    headroom: int = Field(default=0, ge=0, le=10_000)

    @field_validator("scratch", mode="before")
    @classmethod
    def _scratch(cls, value: str | int) -> int:
        return memory_bytes(value)
