"""Measures what Stoker promises, each figure as a ratio to a baseline taken in the same run: `python -m bench NAME`."""
