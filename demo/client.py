"""A tenant's connection to its worker: SQL by HTTP with the token of its claim."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

TIMEOUT_S: Final = 10.0
OK: Final = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker said to a query. `rows` is empty unless the status is 200."""

    status: int
    rows: list[list[object]]
    error: str

    @property
    def served(self) -> bool:
        """Whether the worker ran the query."""
        return self.status == OK


class SqlClient:
    """One kept-open connection to a worker."""

    def __init__(self, endpoint: str, tenant: str, token: str) -> None:
        host = urlsplit(endpoint)
        self._connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=TIMEOUT_S)
        self._headers = {
            "Authorization": f"Bearer {token}",
            "X-Stoker-Tenant": tenant,
            "Content-Type": "application/json",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def ask(self, sql: str) -> Answer:
        """Run the query on the worker.

        Raises:
            OSError, http.client.HTTPException: the worker cannot be reached.
        """
        self._connection.request("POST", "/sql", json.dumps({"sql": sql}), self._headers)
        response = self._connection.getresponse()
        document: dict[str, Any] = json.loads(response.read())
        return Answer(response.status, document.get("rows", []), str(document.get("error", "")))


def is_served(endpoint: str, tenant: str, token: str) -> bool:
    """Whether the worker at this endpoint runs a query for that tenant and token; one that cannot be reached does not."""
    try:
        with SqlClient(endpoint, tenant, token) as client:
            return client.ask("SELECT 1").served
    except (OSError, http.client.HTTPException):
        return False
