"""The incident: instances start on networks of their own, all at once, and no change is lost."""
