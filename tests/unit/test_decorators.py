from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agnt5
from agnt5 import BackoffPolicy, Context, RetryPolicy, function, workflow
from agnt5.contracts.errors import ConfigurationError, InvalidInputError
from agnt5.contracts.runs import Kind
from agnt5.registry import isolated
from agnt5.sdk.cron import next_fire_ms
from agnt5.sdk.decorators import handler_of


@pytest.fixture(autouse=True)
def registry():
    with isolated() as registry:
        yield registry


def test_a_bare_decorator_registers_and_gives_the_function_back(registry):
    def add(ctx, a, b):
        return a + b

    assert function(add) is add
    assert add(None, 1, 2) == 3
    assert registry.get("test_decorators.add") is add.__agnt5__
    assert add.__agnt5__.kind is Kind.FUNCTION


async def test_a_decorated_workflow_runs_when_it_is_called():
    @workflow
    async def double(ctx: Context, n: int) -> int:
        return n * 2

    assert await double(None, 4) == 8
    assert double.__agnt5__.kind is Kind.WORKFLOW


def test_options_are_kept_in_milliseconds():
    @function(
        service="analytics", name="count-all", timeout=timedelta(minutes=5), run_timeout=90, priority=3, retries=5
    )
    def count(ctx): ...

    h = handler_of(count)
    assert h.address == "analytics.count-all"
    assert (h.options.timeout_ms, h.options.run_timeout_ms, h.options.priority) == (300_000, 90_000, 3)
    assert h.options.retries == RetryPolicy(max_attempts=5)
    assert h.describe()["options"]["retries"]["max_attempts"] == 5


def test_backoff_completes_a_policy():
    linear = BackoffPolicy(type="linear")

    @function(retries=RetryPolicy(max_attempts=9), backoff=linear)
    def one(ctx): ...

    @function(backoff=linear)
    def other(ctx): ...

    assert handler_of(one).options.retries == RetryPolicy(max_attempts=9, backoff=linear)
    assert handler_of(other).options.retries == RetryPolicy(backoff=linear)


def test_a_schedule_is_kept_with_its_policies():
    @workflow(cron="0 7 * * mon-fri", timezone="Europe/Berlin", overlap="allow", catch_up="all", input={"region": "eu"})
    async def report(ctx, region: str, limit: int = 5): ...

    o = handler_of(report).options
    assert (o.cron, o.timezone, o.overlap, o.catch_up, o.input) == (
        "0 7 * * mon-fri",
        "Europe/Berlin",
        "allow",
        "all",
        {"region": "eu"},
    )


async def fine(ctx): ...


async def needs_region(ctx, region): ...


def sync(ctx): ...


async def agen(ctx):
    yield 1


@pytest.mark.parametrize(
    ("decorator", "options", "fn", "message"),
    [
        (workflow, {}, sync, "a workflow is an `async def` without `yield`; write `async def`"),
        (workflow, {}, agen, "streaming is for functions"),
        (workflow, {"cron": "61 * * * *"}, fine, "cron: '61 * * * *' is no cron expression"),
        (workflow, {"cron": "0 0 30 2 *"}, fine, "cron: '0 0 30 2 *' is no cron expression"),
        (workflow, {"cron": ""}, fine, "expected a cron expression, for example"),
        (workflow, {"cron": "R * * * *"}, fine, "random field"),
        (workflow, {"cron": "0 0 * * *", "timezone": "Mars/Base"}, fine, "'Europe/Berlin', found 'Mars/Base'"),
        (workflow, {"cron": "0 0 * * *"}, needs_region, "input of the cron schedule: parameter 'region' is missing"),
        (workflow, {"cron": "0 0 * * *", "input": {"x": 1, "y": 2}}, fine, "unknown parameter 'x'"),
        (workflow, {"overlap": "wait"}, fine, "overlap: expected one of skip, allow, cancel_previous, found 'wait'"),
        (workflow, {"catch_up": "some"}, fine, "catch_up: expected one of"),
        (function, {"timeout": -1}, fine, "timedelta or number of seconds is needed, found -1"),
        (function, {"timeout": 0}, fine, "timeout: expected a duration above 0"),
        (function, {"run_timeout": "5m"}, fine, "number of seconds is needed, found '5m'"),
        (function, {"retries": 0}, fine, "max_attempts"),
        (function, {"retries": "three"}, fine, "retries: expected a RetryPolicy or a number"),
        (function, {"priority": 10}, fine, "priority: expected a number from 0 to 9, found 10"),
        (function, {"name": "a b"}, fine, "handler name 'a b'"),
        (function, {"service": "a.b"}, fine, "service 'a.b'"),
        (function, {"service": ""}, fine, "service ''"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_written(decorator, options, fn, message):
    with pytest.raises(ConfigurationError) as caught:
        decorator(**options)(fn)
    assert message in str(caught.value)
    assert "test_decorators.py:" in str(caught.value)


def test_a_schedule_without_its_input_is_refused():
    with pytest.raises(ConfigurationError, match="input of the cron schedule: .*'a' is missing"):

        @workflow(cron="0 0 * * *")
        async def two(ctx, a, b): ...


def test_unknown_options_and_misplaced_arguments_are_refused():
    with pytest.raises(ConfigurationError, match="@function: option 'cron' is not known"):
        function(cron="0 0 * * *")
    with pytest.raises(ConfigurationError, match="@function: expected a function, found 'orders'"):
        function("orders")

    class Thing:
        def __call__(self, ctx): ...

    with pytest.raises(ConfigurationError, match="expected a function"):
        function(Thing())


def test_handler_of_takes_whatever_stands_for_a_handler(registry):
    h = handler_of(function(sync))
    assert handler_of(h) is h
    assert handler_of("test_decorators.sync") is h
    assert handler_of("elsewhere.thing") == "elsewhere.thing"
    with pytest.raises(InvalidInputError, match="fine is not a handler: decorate it"):
        handler_of(fine)
    with pytest.raises(InvalidInputError, match="'service.handler'"):
        handler_of("nodot")


def test_a_script_and_a_module_run_with_m_give_their_names(tmp_path):
    code = "from agnt5 import function\n@function\ndef ship(ctx): ...\nprint(ship.__agnt5__.address)\n"
    (tmp_path / "shop.py").write_text(code)
    package = tmp_path / "stall"
    package.mkdir()
    (package / "__main__.py").write_text(code)
    (tmp_path / "2fast.py").write_text(code)
    run = lambda *args: subprocess.run(
        [sys.executable, *args], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run("shop.py").stdout.strip() == "shop.ship"
    assert run("-m", "shop").stdout.strip() == "shop.ship"
    assert run("-m", "stall").stdout.strip() == "stall.ship"
    assert "give service=" in run("2fast.py").stderr


# ---- cron


def fires(expression: str, after: datetime, timezone: str, count: int) -> list[str]:
    found, ms = [], round(after.timestamp() * 1000)
    for _ in range(count):
        ms = next_fire_ms(expression, after_ms=ms, timezone=timezone)
        found.append(datetime.fromtimestamp(ms / 1000, ZoneInfo(timezone)).strftime("%m-%d %H:%M%z"))
    return found


def test_a_daily_time_fires_once_a_day_through_both_changes_of_the_clock():
    spring = fires("30 2 * * *", datetime(2026, 3, 28, 12, tzinfo=UTC), "Europe/Berlin", 2)
    autumn = fires("30 2 * * *", datetime(2026, 10, 24, 12, tzinfo=UTC), "Europe/Berlin", 2)
    assert spring == ["03-29 03:00+0200", "03-30 02:30+0200"]
    assert autumn == ["10-25 02:30+0200", "10-26 02:30+0100"]


def test_every_half_hour_fires_by_real_time_when_the_clock_goes_back():
    found = fires("*/30 * * * *", datetime(2026, 10, 24, 23, 45, tzinfo=UTC), "Europe/Berlin", 5)
    assert found == ["10-25 02:00+0200", "10-25 02:30+0200", "10-25 02:00+0100", "10-25 02:30+0100", "10-25 03:00+0100"]


@given(
    st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 1 * *", "0 0 * * 0", "@hourly", "5 1-3 * * *"]),
    st.integers(1_700_000_000_000, 1_900_000_000_000),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_the_next_time_is_always_later_and_nothing_lies_between(expression, after_ms, timezone):
    fire = next_fire_ms(expression, after_ms=after_ms, timezone=timezone)
    assert fire > after_ms
    assert next_fire_ms(expression, after_ms=(after_ms + fire) // 2, timezone=timezone) == fire


# ---- imports


def test_defining_handlers_loads_neither_celery_nor_redis_nor_pydantic():
    code = """
import sys, time
from agnt5 import function, workflow, Context, RetryPolicy
@function
def f(ctx, a: int): ...
@workflow(retries=3, timeout=5)
async def w(ctx, a: int): ...
heavy = {"celery", "kombu", "redis", "litellm", "croniter", "pydantic", "hiredis"} & set(sys.modules)
assert not heavy, heavy
import agnt5
assert agnt5.InvalidInputError and agnt5.__version__
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_is_quick():
    took = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import agnt5"], capture_output=True, text=True, check=False
        )
        line = next(line for line in done.stderr.splitlines() if line.endswith(" agnt5"))
        took.append(int(line.split("|")[1]))
    assert min(took) < 150_000


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        agnt5.nope
    assert {"function", "Client", "TaskFailedError"} <= set(dir(agnt5))
