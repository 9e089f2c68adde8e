"""The demo's workers: a DuckDB server over a public data set, and an echo with the same manners."""
