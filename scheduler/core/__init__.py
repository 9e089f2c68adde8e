"""Pure decisions: a snapshot and ``now`` in, frozen data out. Standard library only; no clock, no randomness, no I/O."""
