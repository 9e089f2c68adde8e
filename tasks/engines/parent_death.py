"""The last step before a child becomes its program: give up rights, and agree to die with the parent.

Run as a script (by `launch`), never imported for its effects: between fork and exec a threaded Python must not run
Python, so this is a process of its own that replaces itself. It therefore uses nothing but the standard library.

On Linux the kernel sends the chosen signal when the THREAD that forked ends, not only when its process does: launch
children from a thread that lives as long as they should. Elsewhere there is no such signal, and a child outlives a
parent that is killed with SIGKILL.
"""

import ctypes
import os
import signal
import sys

GO = b"g"
PR_SET_PDEATHSIG = 1
EXIT_PARENT_GONE = 125
EXIT_NO_PROGRAM = 127


def become(parent: int, death_signal: int, uid: int, gid: int, argv: list[str]) -> None:
    """Replace this process by `argv` once the parent says so. `death_signal` 0 and `uid` -1 stand for "leave as is"."""
    # The parent writes down who we are before it says go: a killed parent leaves either no program or a recorded one.
    if os.read(0, 1) != GO:
        sys.exit(EXIT_PARENT_GONE)
    if uid != -1:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After setuid, which clears it.
    if death_signal and sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        # A parent that died before the call above sends no signal any more.
        if os.getppid() != parent:
            sys.exit(EXIT_PARENT_GONE)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Python ignores SIGPIPE, and what is ignored stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execv(argv[0], argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]}: {error.strerror}\n")
        sys.exit(EXIT_NO_PROGRAM)


if __name__ == "__main__":
    _parent, _death_signal, _uid, _gid = map(int, sys.argv[1:5])
    become(_parent, _death_signal, _uid, _gid, sys.argv[5:])
