"""`ctx.config()`: live in functions, recorded in workflows."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from contexts import T0, Flags, Flow, function_ctx

from agnt5 import InvalidInputError, SerializationError
from agnt5.replay import commands as cmd
from agnt5.replay import events as ev
from agnt5.replay.machine import Machine
from agnt5.replay.outcomes import ContinuedAsNew
from agnt5.sdk.contexts import WorkflowContext

ON = {"value": True}
HALF = {"variants": {"control": 50, "treatment": 50}}


def test_redis_comes_before_the_environment_and_that_before_the_default():
    ctx, _ = function_ctx(Flags({"AGNT5_FLAG_A": "on", "AGNT5_FLAG_B_C": "5"}, a={"value": False}))
    config = ctx.config()
    assert config is ctx.config()
    assert config.get("a", default=True) is False
    assert config.get("b-c", default=1) == 5
    assert config.get("b.c") == 5
    assert config.get("b.c", default="") == "5"
    assert config.get("d", default=7) == 7
    assert config.get("d") is None


def test_a_function_reads_what_is_set_now():
    ctx, _ = function_ctx(flags := Flags(tax=ON))
    assert ctx.config().get("tax", default=False) is True
    flags.set.clear()
    assert ctx.config().get("tax", default=False) is False


def test_a_value_that_does_not_fit_is_told_and_the_default_is_used():
    ctx, _ = function_ctx(flags := Flags({"AGNT5_FLAG_RATE": "fast"}, limit={"value": {"a": 1}}))
    assert ctx.config().get("limit", default=10) == 10
    assert ctx.config().get("rate", default=1.5) == 1.5
    assert flags.warnings == [
        "config 'limit' from Redis: found {'a': 1}, expected a whole number; the default is used",
        "config 'rate' from the environment (AGNT5_FLAG_RATE): found 'fast', expected a number; the default is used",
    ]


def test_a_changed_list_changes_nobody_elses():
    ctx, _ = function_ctx(Flags(names={"value": ["a"]}))
    ctx.config().get("names", default=[]).append("b")
    ctx.config().get("names").append("c")
    assert ctx.config().get("names") == ["a"]


def test_a_source_that_fails_breaks_no_handler():
    ctx, _ = function_ctx(flags := Flags())
    flags.find = lambda question: 1 / 0
    assert ctx.config().get("tax", default=True) is True
    assert flags.warnings == [
        "config 'tax' could not be read, the default is used: ZeroDivisionError('division by zero')"
    ]


@pytest.mark.parametrize("default", [Decimal(1), object(), b"x", {1, 2}])
def test_a_default_of_no_type_of_json_is_refused(default):
    ctx, _ = function_ctx()
    with pytest.raises(InvalidInputError, match="is no type of a config value"):
        ctx.config().get("tax", default=default)


def test_who_is_asked_for_is_the_tree_or_the_unit():
    ctx, _ = function_ctx(flags := Flags(group=HALF), run_id="order-17~3", headers={"Tenant": "acme"})
    by_tree = {ctx.config().variant("group") for _ in range(3)}
    assert len(by_tree) == 1
    assert {ctx.config().variant("group", unit=f"user-{n}") for n in range(20)} == {"control", "treatment"}
    assert [asked.unit for asked in flags.asked[2:5]] == ["order-17", "user-0", "user-1"]
    assert flags.asked[0].headers["TENANT"] == "acme"
    assert flags.asked[0].handler == "shop.price"


def test_a_variant_is_text():
    ctx, _ = function_ctx(flags := Flags(group={"value": "treatment"}, number={"value": 7}))
    assert ctx.config().variant("group") == "treatment"
    assert ctx.config().variant("number") == "control"
    assert ctx.config().variant("missing", default="old") == "old"
    assert flags.warnings == ["config 'number' from Redis: found 7, expected text; the default is used"]
    with pytest.raises(InvalidInputError, match="default is a text"):
        ctx.config().variant("group", default=None)


# ---- workflows


def test_a_workflow_records_what_it_was_given():
    async def flow(ctx):
        config = ctx.config()
        return [
            config.get("tax", default=False),
            config.get("rate", default=2),
            config.get("tax", default=False),
            config.variant("group", unit="u"),
            config.get("wait", default=timedelta(seconds=1)),
            config.get("none"),
            config.get("names", default=("a",)),
        ]

    flags = Flags({"AGNT5_FLAG_RATE": "3"}, tax=ON, group={"value": "treatment"}, wait={"value": "1.5s"})
    run = Flow(flow, flags=flags)
    assert run.commands == [
        cmd.RecordConfig(seq=1, key="tax", value=True, unit=""),
        cmd.RecordConfig(seq=2, key="rate", value=3, unit=""),
        cmd.RecordConfig(seq=3, key="group", value="treatment", unit="u"),
        cmd.RecordConfig(seq=4, key="wait", value=1.5, unit=""),
        cmd.RecordConfig(seq=5, key="none", value=None, unit=""),
        cmd.RecordConfig(seq=6, key="names", value=["a"], unit=""),
    ]
    flags.set.clear()
    flags.environ = {"AGNT5_FLAG_TAX": "0", "AGNT5_FLAG_NONE": "1"}
    assert run.end() == [True, 3, True, "treatment", timedelta(seconds=1.5), None, ["a"]]


def test_a_replay_gets_what_was_recorded_whatever_is_set_by_then():
    async def flow(ctx):
        before = ctx.config().get("tax", default=False)
        await ctx.sleep(1)
        return [before, ctx.config().get("tax", default=False), ctx.config().get("other", default=0)]

    run = Flow(flow, flags=(flags := Flags()))
    flags.set = Flags(tax=ON, other={"value": 5}).set
    run.machine = Machine("order-17", run.program, processed=len(run.journal))  # another worker
    run.machine.activate(run.journal)
    assert len(flags.asked) == 1  # by the first one
    run.feed(ev.TimerFired(at=T0 + 1000, seq=2))
    assert run.end() == [False, False, 5]


def test_a_fresh_read_is_recorded_anew_and_counts_from_then_on():
    async def flow(ctx):
        first = ctx.config().get("tax", default=0)
        await ctx.sleep(1)
        return [first, ctx.config().get("tax", default=0, fresh=True), ctx.config().get("tax", default=0)]

    run = Flow(flow, flags=(flags := Flags(tax={"value": 1})))
    flags.set = Flags(tax={"value": 2}).set
    run.feed(ev.TimerFired(at=T0 + 1000, seq=2))
    flags.set.clear()
    assert run.end() == [1, 2, 2]


def test_the_next_generation_reads_anew():
    async def flow(ctx):
        value = ctx.config().get("tax", default=0)
        if value == 1:
            ctx._workflow_port.continue_as_new(value)
        return value

    run = Flow(flow, flags=(flags := Flags(tax={"value": 1})))
    assert isinstance(run.outcome, ContinuedAsNew)
    flags.set = Flags(tax={"value": 2}).set
    again = Flow(flow, flags=flags)
    assert again.end() == 2


def test_what_is_read_as_another_type_later_is_the_default_then():
    async def flow(ctx):
        config = ctx.config()
        return [config.get("x", default=1), config.get("x", default="text"), config.get("x", default=9)]

    assert Flow(flow, flags=Flags(x={"value": 5})).end() == [5, "text", 5]


def test_the_first_default_holds_where_nothing_is_set():
    async def flow(ctx):
        return [ctx.config().get("x", default=1), ctx.config().get("x", default=2), ctx.config().get("x")]

    assert Flow(flow).end() == [1, 1, 1]


def test_recorded_lists_are_copies():
    async def flow(ctx):
        ctx.config().get("x", default=[]).append(1)
        ctx.config().get("x", default=[]).append(2)
        return ctx.config().get("x", default=[])

    assert Flow(flow, flags=Flags(x={"value": [0]})).end() == [0]


def test_a_bad_default_fails_before_anything_is_recorded():
    async def flow(ctx):
        try:
            ctx.config().get("x", default=float("nan"))
        except SerializationError:
            pass
        try:
            ctx.config().get("x", default="x" * 70_000)
        except InvalidInputError as error:
            return str(error)

    run = Flow(flow)
    assert run.commands == []
    assert run.end() == "config 'x': 70,002 bytes of JSON, at most 65,536 are allowed"


def test_a_provider_s_huge_value_is_told_and_not_recorded():
    async def flow(ctx):
        return ctx.config().get("x", default="small")

    run = Flow(flow, flags=(flags := Flags({"AGNT5_FLAG_X": "x" * 70_000})))
    assert run.end() == "small"
    assert "70,002 bytes" in flags.warnings[0]


def test_config_is_read_in_the_workflow_and_not_in_its_steps():
    kept = []

    async def flow(ctx):
        kept.append(ctx)
        await ctx.sleep(1)

    run = Flow(flow, flags=Flags())
    assert isinstance(kept[0], WorkflowContext)
    with pytest.raises(Exception, match="pass values into the step"):
        kept[0].config().get("tax")
    assert run.commands[0].seq == 1
