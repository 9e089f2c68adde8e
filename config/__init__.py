"""Facts: everything an operator sets, typed and checked before anything starts. Imports nothing of ours."""
