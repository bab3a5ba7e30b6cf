"""What the two sides of a machine share: the asking side (Machine) and the answering side (Answers)."""

from __future__ import annotations

from agnt5.contracts.errors import Agnt5Error
from agnt5.replay.chance import Chance
from agnt5.replay.ledger import Ledger
from agnt5.replay.loop import DeterministicLoop
from agnt5.replay.mailbox import Mailbox
from agnt5.replay.opened import OpenCommands
from agnt5.replay.outcomes import Outcome


class State:
    """The parts of one machine, and where it stands."""

    __slots__ = (
        "broken",
        "chance",
        "generation",
        "ledger",
        "loop",
        "mailbox",
        "opened",
        "outcome",
        "position",
        "run_id",
    )

    def __init__(self, run_id: str, loop: DeterministicLoop) -> None:
        self.run_id = run_id
        self.loop = loop
        self.ledger = Ledger(run_id)
        self.opened = OpenCommands()
        self.mailbox = Mailbox()
        self.chance = Chance(run_id, 0)
        self.generation = 0
        self.position = -1
        self.outcome: Outcome | None = None
        self.broken: Agnt5Error | None = None

    def end(self, outcome: Outcome) -> None:
        """The program has ended; nothing of it runs any more."""
        self.outcome = outcome
        self.loop.halt()
        self.mailbox.dismiss()
