"""Decides and remembers: pure decisions in core, the truth in store, hints in redis. Knows tasks only by name."""
