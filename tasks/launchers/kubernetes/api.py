"""The few requests that pods need, as JSON: each within a deadline and the client's limits, and told apart by its status.

The official client reads the kubeconfig or the pod's own service account, keeps its token fresh and speaks TLS. Its models are
left aside: a list of a thousand pods takes them seconds, and what they do not know they refuse.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlencode

import urllib3

from tasks.launchers.base import LaunchPermanent
from tasks.launchers.kubernetes.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from config.kubernetes import KubernetesLauncher

Json: TypeAlias = dict[str, Any]
# Verb, status ("none": no answer), seconds waited for the limits.
Counted: TypeAlias = "Callable[[str, str, float], None]"

_PAGE: Final = 500
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
_TOO_MANY: Final = 429
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_MESSAGE_MAX: Final = 300
_MERGE: Final = "application/merge-patch+json"


@dataclass
class Refusal(Exception):  # noqa: N818 - an answer
    """The server's no, by its own codes. `message` is for people: nothing is decided by it."""

    status: int
    reason: str  # "AlreadyExists", "Forbidden", ...
    message: str = ""
    causes: tuple[tuple[str, str], ...] = ()  # (reason, field)
    retry_after_s: float | None = None


@dataclass
class Away(Exception):  # noqa: N818 - named after what is so
    """No answer within the deadline, or none that was one: what was asked for may have happened all the same."""

    got: str
    overloaded: bool = field(default=False)


class Api:
    """One namespace of one cluster. Opens no socket until it is used; safe for threads."""

    def __init__(self, config: KubernetesLauncher, counted: Counted = lambda *_: None) -> None:
        self._config = config
        self._counted = counted
        self._limits = Limits(config.qps, config.burst)
        self._lock = threading.Lock()
        self._connection: tuple[Any, Any] | None = None
        self.pods = f"/api/v1/namespaces/{config.namespace}/pods"
        self.nodes = "/api/v1/nodes"

    def create(self, manifest: Json) -> Json:
        """Create a pod. Raises Refusal or Away; after Away it may exist."""
        return self.request("POST", self.pods, body=manifest)

    def get(self, name: str) -> Json | None:
        """The pod of that name, as the server has it now."""
        return self._get(f"{self.pods}/{name}")

    def node(self, name: str) -> Json | None:
        """The node of that name, as the server has it now."""
        return self._get(f"{self.nodes}/{name}")

    def _get(self, path: str) -> Json | None:
        try:
            return self.request("GET", path)
        except Refusal as refusal:
            if refusal.reason == "NotFound":
                return None
            raise

    def pods_of(self, selector: str) -> list[Json]:
        """All pods with these labels."""
        return self.list_all(self.pods, selector)[0]

    def delete(self, name: str, uid: str, grace_s: int) -> bool:
        """Ask for the end of exactly that pod; False if it is gone, or another bears its name."""
        return self._of_exactly("DELETE", name, {"gracePeriodSeconds": grace_s, "preconditions": {"uid": uid}})

    def annotate(self, name: str, uid: str, annotations: Mapping[str, str | None]) -> bool:
        """Set annotations of exactly that pod, None removes one; False if it is gone."""
        return self._of_exactly("PATCH", name, {"metadata": {"uid": uid, "annotations": dict(annotations)}})

    def _of_exactly(self, verb: str, name: str, body: Json) -> bool:
        try:
            self.request(verb, f"{self.pods}/{name}", body=body)
        except Refusal as refusal:
            if refusal.reason in {"NotFound", "Conflict"}:
                return False
            raise
        return True

    def quotas(self) -> list[Json]:
        """What the namespace may use, and uses."""
        return self.list_all(f"/api/v1/namespaces/{self._config.namespace}/resourcequotas", "")[0]

    def may(self, verb: str, resource: str, *, everywhere: bool = False) -> bool:
        """Whether this client's own rights allow it, in the namespace or of the whole cluster.

        What is refused all the same, an admission refuses.
        """
        asked = {"verb": verb, "resource": resource, "namespace": "" if everywhere else self._config.namespace}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        answer = self.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
        return bool(answer["status"].get("allowed"))

    def list_all(self, path: str, selector: str) -> tuple[list[Json], str]:
        """All objects, page by page, and the version as of which they are so."""
        items: list[Json] = []
        query: dict[str, str | int] = {"limit": _PAGE}
        if selector:
            query["labelSelector"] = selector
        while True:
            page = self.request("GET", path, query=query, verb="LIST")
            items += page["items"]
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                return items, page["metadata"]["resourceVersion"]

    def watch(self, path: str, selector: str, version: str, opened: Callable[[Any], None]) -> Iterator[Json]:
        """Events after that version, bookmarks among them, until the server ends the watch.

        `opened` is given what can be shut down from another thread.
        """
        query: dict[str, str | int] = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": max(1, int(self._config.watch_s)),
        }
        if selector:
            query["labelSelector"] = selector
        # What is silent for longer than the server would have let it last has been cut.
        timeout = urllib3.Timeout(connect=self._config.request_s, read=self._config.watch_s + self._config.request_s)
        wait_s = self._limits.reserve(self._config.watch_s) or 0.0
        _rest(wait_s)
        try:
            response = self._send("GET", path, query, None, timeout)
            self._counted("WATCH", str(response.status), wait_s)
            if response.status != 200:  # noqa: PLR2004
                raise _refusal(response)
        except urllib3.exceptions.HTTPError as error:
            self._counted("WATCH", "none", wait_s)
            raise Away(type(error).__name__) from error
        opened(response)
        rest = b""
        try:
            for chunk in response.stream(amt=None):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Away(type(error).__name__) from error
        finally:
            response.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Json | None = None,
        verb: str = "",
    ) -> Json:
        """One request, repeated within its deadline while the server is overloaded or away. All are safe to repeat.

        Raises:
            Refusal: the server's no.
            Away: no answer in time.
        """
        deadline = time.monotonic() + self._config.request_s
        pause_s = _FIRST_PAUSE_S
        failure: Refusal | Away = Away("no turn under the limits of this client", overloaded=True)
        while (left_s := deadline - time.monotonic()) > 0:
            waited_s = self._limits.reserve(left_s)
            if waited_s is None:
                break
            _rest(waited_s)
            left_s = max(0.001, deadline - time.monotonic())
            try:
                response = self._send(method, path, query, body, urllib3.Timeout(total=left_s))
                data = response.read()
                self._counted(verb or method, str(response.status), waited_s)
                if response.status < 300:  # noqa: PLR2004
                    answer: Json = json.loads(data)
                    return answer
                failure = _refusal(response, data)
            except (urllib3.exceptions.HTTPError, ValueError) as error:
                self._counted(verb or method, "none", waited_s)
                failure = Away(type(error).__name__)
            else:
                if failure.status not in _AGAIN:
                    raise failure
                if failure.status == _TOO_MANY:
                    self._limits.pause(failure.retry_after_s or pause_s)
            _rest(min(pause_s, max(0.0, deadline - time.monotonic())))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if isinstance(failure, Refusal):
            failure = Away(f"{failure.status} {failure.reason}", overloaded=failure.status == _TOO_MANY)
        raise failure

    def _send(
        self, method: str, path: str, query: Mapping[str, str | int] | None, body: Json | None, timeout: urllib3.Timeout
    ) -> Any:  # noqa: ANN401 - urllib3's response
        configuration, pool = self._connected()
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = _MERGE if method == "PATCH" else "application/json"
        # Read anew for each: the token of a service account is renewed every hour.
        for scheme in configuration.auth_settings().values():
            headers[scheme["key"]] = scheme["value"]
        url = configuration.host + path + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        return pool.request(
            method, url, body=data, headers=headers, timeout=timeout, retries=False, preload_content=False
        )

    def _connected(self) -> tuple[Any, Any]:
        with self._lock:
            if self._connection is None:
                self._connection = _connect(self._config)
            return self._connection


def _connect(config: KubernetesLauncher) -> tuple[Any, Any]:
    """The configuration, whose token may be renewed, and connections."""
    what, expected = "connection to the cluster", "a kubeconfig, or the service account of this pod"
    try:
        # Half a second of import, for who uses a cluster.
        from kubernetes import config as loading  # noqa: PLC0415
        from kubernetes.client.configuration import Configuration  # noqa: PLC0415
        from kubernetes.client.rest import RESTClientObject  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise LaunchPermanent(what, "its client", str(error), "pip install 'stoker[kubernetes]'") from error
    configuration = Configuration()
    # Those of the launcher's own threads, and as many for watches and for tasks that launch: none is thrown away and made anew.
    configuration.connection_pool_maxsize = 2 * config.connections
    load: Any = loading  # untyped
    try:
        if config.kubeconfig is None:
            load.load_incluster_config(client_configuration=configuration)
        else:
            load.load_kube_config(str(config.kubeconfig), config.context, client_configuration=configuration)
    except load.ConfigException as error:
        remedy = "set launcher.kubernetes.kubeconfig, or mount the account's token (automountServiceAccountToken)"
        raise LaunchPermanent(what, expected, str(error), remedy) from error
    return configuration, RESTClientObject(configuration).pool_manager


def _refusal(response: Any, data: bytes | None = None) -> Refusal:  # noqa: ANN401 - urllib3's
    raw = response.read() if data is None else data
    try:
        status = json.loads(raw)
    except ValueError:
        status = {}
    details = status.get("details") or {}
    causes = tuple((one.get("reason", ""), one.get("field", "")) for one in details.get("causes") or ())
    after = response.headers.get("Retry-After", "") or str(details.get("retryAfterSeconds", ""))
    return Refusal(
        response.status,
        status.get("reason") or "",
        str(status.get("message") or "")[:_MESSAGE_MAX],
        causes,
        float(after) if after.isdecimal() else None,
    )


def _rest(seconds: float) -> None:
    if seconds > 0:
        threading.Event().wait(seconds)
