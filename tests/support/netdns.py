"""Ask one name server for one IPv4 address: `python -m tests.support.netdns SERVER NAME`."""

from __future__ import annotations

import secrets
import socket
import struct
import sys

_ANSWERS = struct.Struct("!6H")


def ask(server: str, name: str) -> str:
    number = secrets.randbits(16)
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    question = labels + b"\0" + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(1.0)
        asking.sendto(_ANSWERS.pack(number, 0x0100, 1, 0, 0, 0) + question, (server, 53))
        try:
            answer = asking.recv(512)
        except (TimeoutError, ConnectionRefusedError):
            return "nobody answers"
    got, flags, _, answers, _, _ = _ANSWERS.unpack_from(answer)
    if got != number or flags & 0xF or not answers:
        return f"code {flags & 0xF}"
    return socket.inet_ntoa(answer[-4:])


if __name__ == "__main__":
    sys.stdout.write(ask(sys.argv[1], sys.argv[2]))
