"""Flower's configuration, which `celery -A tasks flower` finds by itself (FLOWER_CONF, set where the app is made).

What is given on the command line wins over it, and it over FLOWER_* variables, but for FLOWER_BASIC_AUTH.
"""

from __future__ import annotations

import os

from celery.events.state import TASK_EVENT_TO_STATE, Task
from celery.states import STARTED
from flower import urls
from flower.api.tasks import TaskAbort, TaskApply, TaskResult

from config.by_file import SecretFileError
from config.flower_files import FLOWER_USER, FlowerFileError, cookie_file, password, secret
from config.settings import SettingsError, load

STARTS = ("queue", "wait_s", "lane_wait_s", "defers", "folded")
# Flower takes each name that is an option of its own, and leaves the others.
try:
    _settings = load()
    # Users of one's own choice, by the variable that Flower itself knows.
    _given = os.environ.get("FLOWER_BASIC_AUTH")
    basic_auth = _given.split(",") if _given else [f"{FLOWER_USER}:{password(_settings.locations)}"]
    cookie_secret = secret(cookie_file(_settings.locations))
except (FlowerFileError, SecretFileError, SettingsError) as _error:
    raise SystemExit(f"Flower: {_error}") from None

address = str(_settings.flower.address)
port = _settings.flower.port
url_prefix = _settings.flower.url_prefix

# The arguments of a call are one text (tasks/shown.py), so kwargs would be empty; the id leads to a task's own page.
tasks_columns = "name,args,state,received,runtime,worker,uuid"
natural_time = True

# Workers answer from a thread that shares its processor with 32 tasks; the default of 1 s misses one that is busy.
inspect_timeout = 3_000.0
# Worker names hold the host's, and a container's is new with each start.
purge_offline_workers = 600
# About 3 kB each, in memory alone; what was before stands in `stoker events` and `stoker op`.
max_tasks = 20_000
# Kept between starts it would be a pickle, which whoever writes to it can make run anything.
persistent = False

# What a task says when it starts, and why not earlier, is on its page. Flower takes an event that it does not know for the
# state of the task: one that was terminated would be STARTED-EXECUTING for ever, and none that runs could be.
TASK_EVENT_TO_STATE["started-executing"] = STARTED
for _field in STARTS:
    setattr(Task, _field, None)
Task._fields += STARTS

# A claim's result is the token by which its worker is used: Flower would read it from Redis for whoever asks, and an abort
# writes over it. No task here can be aborted.
_OFF = {TaskAbort, TaskApply, TaskResult}
urls.handlers[:] = [handler for handler in urls.handlers if not (isinstance(handler, tuple) and handler[1] in _OFF)]
