"""The beat of this deployment: `celery -A beat beat`. Run two or more; each thing that is due is done once.

It serves timers, dead workers and the cron workflows of `workers` (`@workflow(cron=...)`). Plain Celery entries such
as the one below work beside them, once per due time over all beats.
"""

from workers import app

app.conf.beat_schedule = {
    "process all datasets each hour": {
        "task": "analytics.process_all",
        "schedule": 3600.0,
        "kwargs": {"datasets": ["users", "orders"]},
    },
}

__all__ = ["app"]
