"""When a model is asked again: pure, with chance passed in."""

from __future__ import annotations

from agnt5.contracts.errors import LLMError, LLMRequestError

LONGEST_WAIT_S = 60.0
"""A longer wait is not sat out in the step: the run's next attempt comes so much later instead."""

DURABLE_WAIT_S = 10.0
"""The same for a workflow that asks one model: it waits by a timer, as for all that takes longer than it lingers."""

_FIRST_S = 0.5
_GROWN_S = 30.0


def wait_s(failure: LLMError, tries: int, retries: int, chance: float, longest_s: float) -> float | None:
    """Seconds to wait after so many tries, or None: do not ask this model again.

    They double with each try, shortened by up to half by `chance` (0 to 1), so that what failed together does not
    come back together; but what the provider asks for is waited in full, and a little more by chance, unless it asks
    for more than `longest_s`.
    """
    if isinstance(failure, LLMRequestError) or tries > retries or put_off_s(failure, longest_s) is not None:
        return None
    grown: float = min(_FIRST_S * 2 ** (tries - 1), _GROWN_S) * (1 - chance / 2)
    if failure.retry_after is None:
        return grown
    return max(grown, failure.retry_after * (1 + chance / 20))


def put_off_s(failure: LLMError, longest_s: float) -> float | None:
    """Seconds that the provider asks to wait, where they are too many to be sat out in the step; else None."""
    if isinstance(failure, LLMRequestError) or failure.retry_after is None or failure.retry_after <= longest_s:
        return None
    return failure.retry_after
