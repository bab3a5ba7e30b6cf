"""LiteLLM's own chat call without the bookkeeping that LiteLLM wraps around it, where that has nothing to do.

The wrapper prepares callbacks, caches and spend logs, which is almost half of the CPU of a call. Where none of them is
configured, the call below it is made directly: the same translation, client and answer. Anything that is not as it
was when this was written leads back to the wrapper.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cache
from itertools import count
from typing import Any

_CALLBACKS = (
    "callbacks", "input_callback", "success_callback", "failure_callback", "service_callback", "_async_input_callback",
    "_async_success_callback", "_async_failure_callback", "post_call_rules", "pre_call_rules",
)  # fmt: skip
"""What of LiteLLM's settings has a list of things that its wrapper calls."""

_OTHERS = ("cache", "max_budget", "num_retries", "model_fallbacks", "credential_list", "max_end_user_budget")
"""What else its wrapper looks after."""

_numbers = count(1)


async def call(litellm: Any, arguments: dict[str, Any]) -> Any:
    """What `litellm.acompletion(**arguments)` gives."""
    inner = _inner(litellm)
    if inner is None or any(getattr(litellm, name, None) for name in (*_CALLBACKS, *_OTHERS)):
        return await litellm.acompletion(**arguments)
    # ids that it would make itself, of random bytes, and that nobody sees
    number = f"{os.getpid()}-{next(_numbers)}"
    given = {"litellm_call_id": number, "litellm_trace_id": number, **arguments}
    log, given = litellm.utils.function_setup("acompletion", None, datetime.now(), **given)  # noqa: DTZ005 - as LiteLLM
    return await inner(**given, litellm_logging_obj=log)


@cache
def _inner(litellm: Any) -> Callable[..., Awaitable[Any]] | None:
    """The call that the wrappers lead to; None where they do not look as they are known to."""
    wrapped = litellm.acompletion
    for _ in range(5):
        if (within := getattr(wrapped, "__wrapped__", None)) is None:
            break
        wrapped = within
    known = wrapped is not litellm.acompletion and callable(getattr(litellm.utils, "function_setup", None))
    return wrapped if known else None
