"""The demo: a deployment of its own, networks and workers on it, and a report of what held."""
