"""A story as lanes and bars: numbers only."""

from __future__ import annotations

from itertools import pairwise

import pytest

from agnt5.client.moments import collapse
from agnt5.client.timeline import timeline
from agnt5.replay import events as ev
from agnt5.web.pages.layout import MOST_LANES, Child, Try, lay_out, tries_of
from agnt5.web.pages.scale import scale_of, tick_label

DAY = 86_400_000
START = ev.RunStarted(at=1000, handler="a.b", kind="workflow")


def chart(*events, end_ms=None, now_ms=None, run=None, children=None, fold=True, every=False, **more):
    moments = timeline([START, *events])
    return lay_out(
        moments if every else collapse(moments), run or Child(1000), begin_ms=1000, end_ms=end_ms,
        now_ms=now_ms or max(event.at for event in [START, *events]), children=children, fold=fold, **more,
    )  # fmt: skip


def tasks(count, *, at=1000, took=100, every=100, handler="a.c"):
    events = []
    for n in range(count):
        begun = at + n * every
        events += [ev.TaskScheduled(at=begun, seq=n, handler=handler, id=f"r~{n}")]
        events += [ev.TaskCompleted(at=begun + took, seq=n)]
    return sorted(events, key=lambda event: event.at)


# ---- the axis


def test_a_short_run_is_drawn_in_proportion():
    scale = scale_of([1250, 1500], 1000, 2000)
    assert [scale.x(ms) for ms in (1000, 1250, 1500, 2000)] == [0, 25, 50, 100]
    assert scale.gaps == []


def test_what_is_outside_of_the_axis_stands_at_its_end():
    scale = scale_of([], 1000, 2000)
    assert (scale.x(0), scale.x(9999)) == (0, 100)


def test_a_run_without_a_length_has_an_axis():
    assert scale_of([], 1000, 1000).x(1000) == 0


def test_an_idle_day_is_drawn_short_and_what_is_around_it_stays_readable():
    scale = scale_of([2000, 2000 + DAY], 1000, 3000 + DAY)
    (gap,) = scale.gaps
    assert (gap.from_ms, gap.to_ms, gap.label) == (2000, 2000 + DAY, "1d 00h")
    assert gap.w < 15
    assert scale.x(2000) > 40
    assert scale.x(2000 + DAY) == pytest.approx(scale.x(2000) + gap.w, abs=0.01)


def test_ten_idle_minutes_beside_ten_seconds_are_drawn_short():
    (gap,) = scale_of([6000, 606_000], 1000, 611_000).gaps
    assert gap.label == "10m 00s"


def test_several_idle_stretches_are_all_drawn_short():
    times = [2000, 2000 + DAY, 3000 + DAY, 3000 + 3 * DAY]
    scale = scale_of(times, 1000, 4000 + 3 * DAY)
    assert [gap.label for gap in scale.gaps] == ["1d 00h", "2d 00h"]
    assert sum(piece.w for piece in scale.pieces) == pytest.approx(100, abs=0.01)


@pytest.mark.parametrize("times", [[1001], [2000, 3000, 4000], [11_000], [40_000, 45_000, 85_000]])
def test_waits_that_are_not_long_beside_the_rest_are_not_compressed(times):
    assert scale_of(times, 1000, max(times) + 1000).gaps == []


@pytest.mark.parametrize("length", [3, 80, 950, 7300, 59_000, 3_000_000, 40 * DAY, 900 * DAY])
def test_ticks_are_few_round_and_in_order(length):
    ticks = scale_of([], 1000, 1000 + length).ticks
    assert 2 <= len(ticks) <= 9
    assert ticks[0].label == "0"
    assert all(left.x < right.x for left, right in pairwise(ticks))
    assert len({tick.label for tick in ticks}) == len(ticks)


def test_ticks_after_an_idle_stretch_count_from_its_end():
    labels = [tick.label for tick in scale_of([9000, 9000 + DAY], 1000, 17_000 + DAY).ticks]
    assert "0" in labels
    assert any(label.startswith("+") for label in labels)
    assert not any("d" in label for label in labels)


@pytest.mark.parametrize(
    ("ms", "label"),
    [(0, "0"), (250, "250 ms"), (1500, "1.5 s"), (60_000, "1 m"), (5_400_000, "1 h 30 m"), (3 * DAY, "3 d")],
)
def test_a_tick_is_told_as_short_as_can_be(ms, label):
    assert tick_label(ms) == label


# ---- lanes and bars


def test_a_task_stands_where_it_was():
    (_, lane) = chart(*tasks(1, at=1250, took=500), end_ms=2000).lanes
    (bar,) = lane.bars
    assert (bar.x, bar.w, bar.outcome, bar.child) == (25, 50, "ok", "r~0")
    assert (lane.label, lane.took, lane.child) == ("a.c", "500 ms", "r~0")
    assert "1970-01-01 00:00:01.250 to 1970-01-01 00:00:01.750 UTC (500 ms)" in bar.title


def test_what_goes_on_reaches_to_now():
    (run, lane) = chart(ev.TaskScheduled(at=1500, seq=1, handler="a.c", id="r~1"), now_ms=2000).lanes
    assert (lane.bars[0].x + lane.bars[0].w, lane.bars[0].outcome, lane.took) == (100, "open", "")
    assert run.bars[0].w == 100


def test_the_shortest_bar_can_be_seen_at_the_end_of_the_axis():
    (_, lane) = chart(*tasks(1, at=1999, took=1), end_ms=2000).lanes
    assert lane.bars[0].w > 0.3
    assert lane.bars[0].x + lane.bars[0].w <= 100


def test_a_step_is_recorded_when_it_ends_and_drawn_from_its_beginning():
    (_, lane) = chart(ev.StepCompleted(at=1500, seq=1, name="s", took_ms=250), end_ms=2000).lanes
    assert (lane.bars[0].x, lane.bars[0].w, lane.took) == (25, 25, "250 ms")


def test_a_moment_without_length_is_a_mark():
    (_, lane) = chart(ev.StepCompleted(at=1500, seq=1, name="s"), end_ms=2000).lanes
    assert (lane.bars[0].mark, lane.bars[0].x, lane.bars[0].w) == (True, 50, 0)


def test_waits_are_told_apart_from_work():
    (_, timer, task) = chart(
        ev.TimerStarted(at=1000, seq=1, due_ms=1500, name="t"), ev.TimerFired(at=1500, seq=1), *tasks(1, at=1500),
        end_ms=2000,
    ).lanes  # fmt: skip
    assert (timer.bars[0].wait, task.bars[0].wait) == (True, False)


def test_a_retried_child_shows_its_attempts_and_the_waits_between():
    tries = (Try(1100, 1200, "failed", "E: no"), Try(1500, 2000, "ok"))
    (_, lane) = chart(*tasks(1, took=1000), end_ms=2000, children={"r~0": Child(1100, tries)}).lanes
    told = [(one.outcome, one.x, one.w) for one in lane.bars[0].segments]
    assert told == [("queued", 0, 10), ("failed", 10, 10), ("queued", 20, 30), ("ok", 50, 50)]
    assert "attempt 0: E: no" in lane.bars[0].segments[1].title


def test_the_run_itself_shows_what_happened_to_it():
    (run,) = chart(
        ev.HostLost(at=1400, host="h"), ev.AttemptStarted(at=1600, attempt=1), ev.CancelRequested(at=1800),
        ev.RunCancelled(at=2000), end_ms=2000, outcome="cancelled", run=Child(1000, ()),
    ).lanes  # fmt: skip
    assert [bar.x for bar in run.bars if bar.mark] == [40, 60, 80]
    assert run.bars[0].outcome == "cancelled"


def test_attempts_are_read_from_a_journal():
    error = {"type": "E", "message": "no"}
    events = [
        START, ev.AttemptFailed(at=1100, attempt=0, error=error), ev.AttemptStarted(at=1300, attempt=1),
        ev.HostLost(at=1400), ev.AttemptStarted(at=1500, attempt=1), ev.RunCompleted(at=1700),
    ]  # fmt: skip
    told = [(one.from_ms, one.to_ms, one.outcome) for one in tries_of(events, 1050)]
    assert told == [(1050, 1100, "failed"), (1300, 1400, "failed"), (1500, 1700, "ok")]
    assert tries_of([START], None) == []
    assert tries_of([START], 1010) == [Try(1010, None, "open")]


# ---- many


def test_collapsed_tasks_share_a_lane_in_which_none_covers_another():
    drawn = chart(*tasks(500, every=10, took=95), end_ms=7000)
    (_, lane) = drawn.lanes
    assert lane.label == "500 x a.c"
    assert 10 <= lane.rows <= 12
    rows = {}
    for bar in sorted(lane.bars, key=lambda bar: bar.x):
        assert rows.get(bar.y, -1) <= bar.x + 0.4  # no bar is drawn thinner than can be seen
        rows[bar.y] = bar.x + bar.w
    assert drawn.height < 200


def mapped(count):
    said = {"map": "map1", "total": count, "concurrency": 5, "of": "runs"}
    return [
        ev.StepCompleted(at=1000, seq=5000, name="map:classify", result=said),
        *(
            event
            for n in range(count)
            for event in (
                ev.TaskScheduled(at=1000 + n, seq=n, handler="a.c", id=f"r~map1.{n}"),
                ev.TaskCompleted(at=1400 + n, seq=n),
            )
        ),
    ]


def test_a_map_is_one_lane_with_a_bar_for_each_item():
    (_, lane) = chart(*mapped(40), end_ms=2000).lanes
    assert (lane.kind, lane.label, lane.outcome) == ("map", "map classify: 40 of 40 done", "open")
    assert len(lane.bars) == 40
    assert lane.bars[7].child == "r~map1.7"
    assert lane.child == ""


def test_many_maps_of_one_name_share_a_lane():
    events = []
    for n in range(30):
        said = {"map": f"map{n}", "total": 5 + n, "concurrency": 5, "of": "calls"}
        end = {"map": f"map{n}", "done": 5 + n, "failed": 0, "ended": True}
        events.append(ev.StepCompleted(at=1000 + 10 * n, seq=2 * n, name="map:classify", result=said))
        events.append(ev.StepCompleted(at=1008 + 10 * n, seq=2 * n + 1, name="map:classify", result=end))
    (_, lane) = chart(*events, end_ms=2000).lanes
    assert (lane.label, len(lane.bars)) == ("30 x map classify", 30)


def test_a_map_of_few_items_has_a_lane_of_its_own_before_theirs():
    (_, lane, *items) = chart(*mapped(3), end_ms=2000).lanes
    assert (lane.label, len(lane.bars), len(items)) == ("map classify: 3 of 3 done", 1, 3)


def test_more_at_once_than_there_are_rows_still_fit():
    (_, lane) = chart(*tasks(500, every=0, took=900), end_ms=2000).lanes
    assert lane.rows == 12
    assert all(lane.y <= bar.y and bar.y + bar.h <= lane.y + lane.height for bar in lane.bars)


def test_a_loop_of_many_sorts_has_a_lane_for_each_name():
    events, seq = [], 0
    for round_ in range(100):
        at = 1000 + round_ * 100
        events += [
            ev.StepCompleted(at=at, seq=seq, name="look"),
            ev.TimerStarted(at=at, seq=seq + 1, due_ms=at + 40 + round_ % 7, name="sleep"),
            ev.TimerFired(at=at + 50, seq=seq + 1),
        ]
        seq += 2
    drawn = chart(*events, end_ms=11_000)
    assert [lane.label for lane in drawn.lanes] == ["run", "100 x step look", "100 x timer sleep"]
    assert len(chart(*events, end_ms=11_000, fold=False, every=True).lanes) == MOST_LANES
    assert chart(*events, end_ms=11_000, fold=False).left_out == 201 - MOST_LANES


def test_thousands_of_bars_are_drawn_as_fewer():
    (_, lane) = chart(*tasks(9000, every=1, took=1), end_ms=10_000).lanes
    assert len(lane.bars) < 600
    assert "of them" in lane.bars[0].title


def test_lanes_stand_below_each_other():
    drawn = chart(*tasks(8, every=1), *tasks(3, handler="a.d", at=2000), end_ms=4000)
    assert all(above.y + above.height == below.y for above, below in pairwise(drawn.lanes))
    assert drawn.height == drawn.lanes[-1].y + drawn.lanes[-1].height
