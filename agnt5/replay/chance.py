"""Random numbers and UUIDs that are the same in every replay of a generation of a run."""

from __future__ import annotations

import hashlib
import random
import uuid


class Chance:
    """Draws from the run id and the generation alone."""

    def __init__(self, run_id: str, generation: int) -> None:
        self._seed = f"agnt5:{run_id}:{generation}"
        self._random: random.Random | None = None
        self._uuids = 0

    def random(self) -> random.Random:
        """One generator for the whole run: each draw moves it on, in the order of asking."""
        if self._random is None:
            self._random = random.Random(self._seed)  # noqa: S311 - replayable, and so never a secret
        return self._random

    def uuid(self) -> uuid.UUID:
        """The next UUID (version 4 in form)."""
        self._uuids += 1
        digest = hashlib.sha256(f"{self._seed}:uuid:{self._uuids}".encode()).digest()
        return uuid.UUID(bytes=digest[:16], version=4)
