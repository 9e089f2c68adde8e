#!/usr/bin/python3
"""What udhcpc runs when it has a lease: give the interface the address, the MTU and the way out."""

import os
import subprocess
import sys

if sys.argv[1] in {"bound", "renew"}:
    lease = os.environ
    device = lease["interface"]
    commands = [
        f"address replace {lease['ip']}/{lease['mask']} dev {device}",
        f"link set {device} mtu {lease.get('mtu', '1500')}",
    ]
    commands += [f"route replace default via {router}" for router in lease.get("router", "").split()[:1]]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n", text=True, check=True)
