"""Microseconds per event of replaying whole journals: `python -m bench.replay [rounds]`.

`machine` is feeding alone; `with decode` adds turning the stored bytes into events.
"""

import asyncio
import gc
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

from agnt5.replay.commands import Command
from agnt5.replay.events import (
    Event,
    RunStarted,
    StepCompleted,
    TaskCompleted,
    TaskScheduled,
    TimerFired,
    TimerStarted,
)
from agnt5.replay.journal import decode, encode
from agnt5.replay.machine import Machine

WIDTH = 1000
STARTED = RunStarted(at=1_000, handler="bench.wf", kind="workflow")


async def steps(machine: Machine, _started: RunStarted) -> int:
    total = 0
    for index in range(WIDTH):
        total += await machine.step(f"step-{index}", int)
    return total


async def tasks(machine: Machine, _started: RunStarted) -> int:
    total = 0
    for index in range(WIDTH):
        total += await machine.start_task("bench.one", {"index": index}).future
    return total


async def sleeps(_machine: Machine, _started: RunStarted) -> int:
    for _ in range(WIDTH):
        await asyncio.sleep(1)
    return WIDTH


async def fan_out(machine: Machine, _started: RunStarted) -> int:
    async def one(index: int) -> int:
        return await machine.start_task("bench.one", {"index": index}).future

    return sum(await asyncio.gather(*(one(index) for index in range(WIDTH))))


def steps_journal() -> list[Event]:
    done = [StepCompleted(at=2_000 + n, seq=n + 1, name=f"step-{n}", result=1) for n in range(WIDTH)]
    return [STARTED, *done]


def tasks_journal() -> list[Event]:
    journal: list[Event] = [STARTED]
    for seq in range(1, WIDTH + 1):
        journal.append(TaskScheduled(at=2_000 + seq, seq=seq, handler="bench.one", id=f"b~{seq}"))
        journal.append(TaskCompleted(at=2_000 + seq, seq=seq, result=1))
    return journal


def sleeps_journal() -> list[Event]:
    journal: list[Event] = [STARTED]
    for seq in range(1, WIDTH + 1):
        journal.append(TimerStarted(at=1_000 * seq, seq=seq, due_ms=1_000 * (seq + 1)))
        journal.append(TimerFired(at=1_000 * (seq + 1), seq=seq))
    return journal


def fan_out_journal() -> list[Event]:
    asked = [TaskScheduled(at=2_000, seq=n, handler="bench.one", id=f"b~{n}") for n in range(1, WIDTH + 1)]
    done = [TaskCompleted(at=3_000 + n, seq=n, result=1) for n in range(WIDTH, 0, -1)]
    return [STARTED, *asked, *done]


CASES: dict[str, tuple[Callable, Callable]] = {
    "1,000 steps, one after another": (steps, steps_journal),
    "1,000 tasks, one after another": (tasks, tasks_journal),
    "1,000 sleeps, one after another": (sleeps, sleeps_journal),
    "1,000 tasks at once": (fan_out, fan_out_journal),
}


def replay(program: Callable, journal: list[Event]) -> tuple[Command, ...]:
    machine = Machine("b", program)
    answer = machine.activate(journal)
    assert answer.outcome is not None, machine.waiting_on
    assert not answer.commands, answer.commands[:3]
    return answer.commands


def timed(work: Callable[[], object], rounds: int) -> float:
    spent = []
    for _ in range(rounds):
        gc.collect()
        began = perf_counter()
        work()
        spent.append(perf_counter() - began)
    return median(spent)


def main(rounds: int) -> None:
    print(f"{'journal':<34}{'events':>8}{'machine us/event':>18}{'with decode':>13}")
    for title, (program, journal_of) in CASES.items():
        show(title, program, journal_of(), rounds)


def show(title: str, program: Callable, journal: list[Event], rounds: int) -> None:
    stored = [b'{"at":%d,' % event.at + encode(event)[1:] for event in journal]
    machine = timed(lambda: replay(program, journal), rounds)
    whole = timed(lambda: replay(program, [decode(entry) for entry in stored]), rounds)
    scale = 1e6 / len(journal)
    print(f"{title:<34}{len(journal):>8}{machine * scale:>18.2f}{whole * scale:>13.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
