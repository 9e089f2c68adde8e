"""Who may use a worker: the tenant, epoch and token state machine. Pure, thread-safe, and cheap to import."""

from __future__ import annotations

import hmac
import threading


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The gate says no: an HTTP status and a reason that repeats nothing secret."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Gate:
    """Neutral until the first activation; then bound to one tenant for life, and open at one epoch at a time.

    Epochs only grow, so that a message which was delayed or is repeated never reopens what a later one closed.
    """

    def __init__(self, activation_key: str, digest: str = "") -> None:
        """A gate that obeys whoever holds the key; of a key that is not given, the SHA-256 digest in hex will do.

        Raises:
            ValueError: an empty key, which everybody holds.
        """
        if not activation_key and not digest:
            msg = "activation key: expected a secret or its digest, got neither; set STOKER_ACTIVATION_KEY"
            raise ValueError(msg)
        self._key = activation_key
        self._digest = "" if activation_key else digest
        self._lock = threading.Lock()
        self._tenant: str | None = None
        self._epoch = 0
        self._token: str | None = None

    @property
    def epoch(self) -> int:
        """The last epoch that was activated; 0 before the first."""
        return self._epoch

    @property
    def state(self) -> str:
        """``neutral``, ``open`` or ``closed``."""
        with self._lock:
            if self._tenant is None:
                return "neutral"
            return "closed" if self._token is None else "open"

    def activate(self, key: str, tenant: str, epoch: int, token: str) -> None:
        """Open for the tenant: its new token replaces the old one.

        Raises:
            Refused: 401 wrong key, 400 an empty tenant or token, 409 another tenant or an epoch that is not later.
        """
        self._check_key(key)
        if not tenant or not token:
            raise Refused(400, "tenant and token must not be empty")
        with self._lock:
            if self._tenant not in {None, tenant}:
                raise Refused(409, "bound to another tenant for life")
            if epoch <= self._epoch:
                raise Refused(409, f"epoch {epoch} is not above {self._epoch}")
            self._tenant, self._epoch, self._token = tenant, epoch, token

    def deactivate(self, key: str, tenant: str, epoch: int) -> None:
        """Close, if this epoch is the current one. Repeating it changes nothing.

        Raises:
            Refused: 401 wrong key, 409 another tenant or another epoch.
        """
        self._check_key(key)
        with self._lock:
            if self._tenant != tenant:
                raise Refused(409, "not bound to this tenant")
            if epoch != self._epoch:
                raise Refused(409, f"epoch {epoch} is not the current {self._epoch}")
            self._token = None

    def admit(self, tenant: str, token: str) -> int:
        """Let a request pass; the epoch that it runs under.

        Raises:
            Refused: 403 another tenant than the bound one, 401 any other token than the current one.
        """
        with self._lock:
            if self._tenant is not None and tenant != self._tenant:
                raise Refused(403, "this worker serves another tenant")
            if self._token is None or not _equal(token, self._token):
                raise Refused(401, "no valid token")
            return self._epoch

    def _check_key(self, key: str) -> None:
        given, expected = (_digest(key), self._digest) if self._digest else (key, self._key)
        if not _equal(given, expected):
            raise Refused(401, "no valid activation key")


def _digest(key: str) -> str:
    import hashlib  # noqa: PLC0415 - 3 ms, for who has no key but its digest

    return hashlib.sha256(key.encode()).hexdigest()


def _equal(given: str, expected: str) -> bool:
    # As bytes: compare_digest raises on text beyond ASCII, and what is given comes from outside.
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
