"""Ask one name server for one IPv4 address: `python -m demo.lab_dns SERVER NAME`."""

from __future__ import annotations

import secrets
import socket
import struct
import sys
from typing import Final

NOBODY: Final = "nobody answers"
_ANSWERS = struct.Struct("!6H")
_PORT = 53
_LONGEST = 512
_WAIT_S = 1.0
_WANTS_RECURSION = 0x0100
_CODE = 0xF
_ADDRESS_BYTES = 4


def ask(server: str, name: str) -> str:
    """The address, or why there is none."""
    number = secrets.randbits(16)
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    question = labels + b"\0" + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(_WAIT_S)
        asking.sendto(_ANSWERS.pack(number, _WANTS_RECURSION, 1, 0, 0, 0) + question, (server, _PORT))
        try:
            answer = asking.recv(_LONGEST)
        except (TimeoutError, ConnectionRefusedError):
            return NOBODY
    got, flags, _, answers, _, _ = _ANSWERS.unpack_from(answer)
    if got != number or flags & _CODE or not answers:
        return f"code {flags & _CODE}"
    return socket.inet_ntoa(answer[-_ADDRESS_BYTES:])


if __name__ == "__main__":
    sys.stdout.write(ask(sys.argv[1], sys.argv[2]))
