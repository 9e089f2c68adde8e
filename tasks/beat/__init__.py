"""Beat: `celery -A tasks beat` runs the schedule that is in SQL. Any number of them run, and one sends."""
