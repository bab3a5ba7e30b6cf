"""Entries of plain Celery's `beat_schedule`, with several beats at once."""

import pytest

from agnt5.app import create_app
from agnt5.runtime.beat import Scheduler
from agnt5.store import keys


@pytest.fixture
def beats(redis_url):
    app = create_app(redis_url=redis_url)
    app.conf.beat_schedule = {"report": {"task": "plain.report", "schedule": 60.0}}
    schedulers = [Scheduler(app), Scheduler(app)]
    yield schedulers
    for scheduler in schedulers:
        scheduler.close()


def overdue(admin, beats):
    """Both beats find the entry due, from what was shared last."""
    seconds, _ = admin.time()
    admin.hset(keys.static(), "report", (int(seconds) - 120) * 1000)
    entries = [beat.schedule["report"] for beat in beats]
    assert all(beat.is_due(entry).is_due for beat, entry in zip(beats, entries, strict=True))
    return entries


def test_of_two_beats_that_find_an_entry_due_one_sends_it(beats, admin):
    for beat, entry in zip(beats, overdue(admin, beats), strict=True):
        beat.apply_entry(entry, producer=beat.producer)
    assert admin.llen("celery") == 1


def test_a_beat_knows_what_another_has_run(beats, admin):
    (one, other), (entry, _) = beats, overdue(admin, beats)
    one.apply_entry(entry, producer=one.producer)
    assert not other.is_due(other.schedule["report"]).is_due


def test_each_due_time_is_sent(beats, admin):
    for sent in (1, 2, 3):
        for beat, entry in zip(beats, overdue(admin, beats), strict=True):
            beat.apply_entry(entry, producer=beat.producer)
        assert admin.llen("celery") == sent
