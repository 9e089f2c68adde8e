"""What of the control plane's own environment a worker may see: never its databases, brokers or secrets."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# By prefix: the control plane's own settings, and its service manager's sockets (a worker that inherited NOTIFY_SOCKET
# could report on behalf of the control plane).
_OURS: Final = re.compile(r"STOKER_|CELERY_|FLOWER_|REDBEAT_|PG[A-Z]+$|NOTIFY_SOCKET$|LISTEN_|WATCHDOG_|SSH_AUTH_SOCK$")
_SECRET: Final = re.compile(
    r"PASSW|SECRET|TOKEN|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY|(?:^|_)(?:DSN|AUTH)$|(?:DATABASE|REDIS|BROKER|RESULT)_UR[LI]",
    re.IGNORECASE,
)
_PASSWORD_IN_URL: Final = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def shareable(inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that a worker, a probe or a hook inherits; whatever else it needs stands in its profile.

    Dropped are this deployment's settings (STOKER_*, CELERY_*, ...), names that speak of a secret, and URLs that carry
    a password under any name.
    """
    source = os.environ if inherited is None else inherited
    return {
        name: value
        for name, value in source.items()
        if not (_OURS.match(name) or _SECRET.search(name) or _PASSWORD_IN_URL.search(value))
    }
