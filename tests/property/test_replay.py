"""Laws of the replay core, over random programs, random orders of answers and random crashes."""

from __future__ import annotations

import os
import random
from dataclasses import MISSING, fields, replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from replay_world import RUN_ID, Interpreter, identities, play, programs, simple, summary

from agnt5.contracts.errors import NonDeterminismError
from agnt5.replay import events as ev
from agnt5.replay.commands import CancelTimer, RunStep, WithdrawApproval
from agnt5.replay.journal import KINDS, decode, encode
from agnt5.replay.machine import Machine

SCALE = int(os.environ.get("AGNT5_TEST_SCALE", "1"))
"""More examples, for a long search: AGNT5_TEST_SCALE=50 pytest tests/property/test_replay.py."""

seeds = st.integers(0, 2**32 - 1)
steady = settings(deadline=None, max_examples=150 * SCALE, suppress_health_check=[HealthCheck.too_slow])


def replayed(block, events, seen=None, journal=(), **options):
    machine = Machine(RUN_ID, Interpreter(block, seen, journal=journal), **options)
    return machine, machine.activate(events)


@steady
@given(programs, seeds)
def test_replaying_an_unchanged_journal_changes_nothing_and_asks_nothing_new(block, seed):
    world = play(block, seed)
    live = summary(world.machine, world.answer)
    assert live[0] == world.asked
    for processed in (0, len(world.journal)):
        machine, answer = replayed(block, world.events(), world.seen, processed=processed)
        assert summary(machine, answer) == live
        recorded = identities(world.events())
        for command in answer.commands:
            if isinstance(command, RunStep):
                assert command.seq not in recorded
            else:
                assert isinstance(command, CancelTimer | WithdrawApproval) and not processed, command
        machine.close()


@steady
@given(programs, seeds)
def test_each_signal_is_consumed_once_or_is_left(block, seed):
    world = play(block, seed)
    received = [event.payload for event in world.events() if isinstance(event, ev.SignalReceived)]
    consumed = [value for value in world.seen.values() if isinstance(value, str) and value.startswith("signal#")]
    left = [event.payload for event in world.machine._mailbox.unconsumed()]
    assert sorted(consumed + left) == sorted(received)


@steady
@given(programs, seeds, st.lists(st.integers(1, 6), max_size=30))
def test_any_cut_of_a_journal_into_activations_leads_to_the_same(block, seed, sizes):
    world = play(block, seed)
    journal = world.events()
    live = summary(world.machine, world.answer)
    machine = Machine(RUN_ID, Interpreter(block, world.seen, journal=journal))
    answer = None
    while journal:
        size = sizes.pop() if sizes else 1
        cut, journal = journal[:size], journal[size:]
        answer = machine.activate(cut)
    assert summary(machine, answer) == live
    machine.close()


@steady
@given(programs, seeds, seeds)
def test_every_prefix_of_a_journal_asks_a_prefix_of_the_same_commands(block, seed, where):
    world = play(block, seed)
    cut = where % len(world.journal) + 1
    machine, _ = replayed(block, world.events()[:cut], world.seen, journal=world.events())
    asked = machine._ledger.asked
    assert asked == world.asked[: len(asked)]
    machine.close()


@steady
@given(programs, seeds)
def test_the_life_of_the_run_and_repeated_answers_make_no_difference(block, seed):
    world = play(block, seed)
    rng = random.Random(seed)
    answers = (ev.TaskCompleted, ev.TaskFailed, ev.TimerFired, ev.StepCompleted, ev.SignalDelivered, ev.CancelRequested)
    noisy: list[ev.Event] = []
    past: list[ev.Event] = []
    for event in world.events():
        noisy.append(event)
        if isinstance(event, answers):
            past.append(event)
        if rng.random() < 0.3:
            noisy.append(ev.HostLost(at=event.at))
        if past and rng.random() < 0.3:
            repeated = rng.choice(past)
            noisy.append(replace(repeated, result="other") if hasattr(repeated, "result") else repeated)
    machine, answer = replayed(block, noisy, world.seen)
    assert summary(machine, answer) == summary(world.machine, world.answer)
    machine.close()


def changed(block, rng: random.Random, other):
    """The program with one operation replaced, left out or added, at some depth."""
    block = list(block)
    spots = [index for index, op in enumerate(block) if any(isinstance(part, list) for part in op)]
    if spots and rng.random() < 0.6:
        index = rng.choice(spots)
        op = list(block[index])
        place = rng.choice([i for i, part in enumerate(op) if isinstance(part, list)])
        inner = op[place]
        if inner and isinstance(inner[0], list):
            which = rng.randrange(len(inner))
            op[place] = [changed(b, rng, other) if i == which else b for i, b in enumerate(inner)]
        else:
            op[place] = changed(inner, rng, other)
        block[index] = tuple(op)
        return block
    index = rng.randint(0, len(block))
    kind = rng.choice(("insert", "remove", "replace"))
    if kind == "insert" or index == len(block):
        block.insert(index, other)
    elif kind == "remove":
        del block[index]
    else:
        block[index] = other
    return block


@settings(steady, max_examples=300 * SCALE)
@given(programs, seeds, simple)
def test_a_changed_program_is_noticed_or_fits_the_journal(block, seed, other):
    world = play(block, seed)
    mutant = changed(block, random.Random(seed), other)
    assume(mutant != block)
    journal = world.events()
    machine = Machine(RUN_ID, Interpreter(mutant))
    try:
        machine.activate(journal)
    except NonDeterminismError as error:
        assert f"run {RUN_ID}, command " in str(error)
        assert "ctx.patched" in str(error)
        with pytest.raises(NonDeterminismError):
            machine.activate([])
        return
    asked = machine._ledger.asked
    for seq, identity in identities(journal).items():
        assert asked[seq - 1] == identity
    machine.close()


# ---- journal entries

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
BY_TYPE = {
    "int": st.integers(0, 2**53),
    "bool": st.booleans(),
    "str": st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    "str | None": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    "Any": json_values,
    "dict[str, Any]": st.dictionaries(st.text("abc", max_size=3), json_values, max_size=3),
    "dict[str, Any] | None": st.none() | st.dictionaries(st.text("abc", max_size=3), json_values, max_size=3),
    "list[str]": st.lists(st.text("abc", max_size=3), max_size=3),
    "dict[str, str]": st.dictionaries(st.text("abc", max_size=3), st.text("xyz", max_size=3), max_size=3),
}


def events_of(kind):
    given_fields = {}
    for field in fields(kind):
        values = BY_TYPE[field.type]
        if field.default is not MISSING and field.default is not None:
            values = st.just(field.default) | values
        given_fields[field.name] = values
    return st.builds(kind, **given_fields)


def typed(value):
    """A value with the types in it, since 0 == False == 0.0."""
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    return type(value).__name__, value


@settings(deadline=None, max_examples=400 * SCALE)
@given(st.sampled_from(sorted(KINDS)).flatmap(lambda name: events_of(KINDS[name])))
def test_any_event_survives_its_encoding(event):
    body = encode(event)
    back = decode(b'{"at":%d,' % event.at + body[1:])
    assert back == event
    assert all(typed(getattr(back, f.name)) == typed(getattr(event, f.name)) for f in fields(event))
    assert encode(back) == body
