"""The one tree of errors. A message says where, what was expected, what was found and what to do."""

from __future__ import annotations

import traceback
from os import sep
from pathlib import Path
from types import TracebackType
from typing import Any

from agnt5.contracts.masking import masked, masked_value

TRACEBACK_LIMIT = 16_384
"""Characters of a recorded traceback that are kept (the end is the part that tells)."""

_RUNTIME = tuple(f"{Path(__file__).parent.parent / name}{sep}" for name in ("runtime", "sdk", "replay"))


class Agnt5Error(Exception):
    """Root of all errors that agnt5 raises on purpose."""


class ConfigurationError(Agnt5Error):
    """A setting, a decorator or the server is not usable as it is."""


class StoreUnavailableError(Agnt5Error):
    """Redis did not answer in time. Whether a call took effect is unknown; repeating it is safe."""


class StoreFullError(StoreUnavailableError):
    """Redis is at its `maxmemory`. Nothing was written; free memory or raise the limit, then repeat."""


class InvalidInputError(Agnt5Error):
    """Input that does not fit the handler, or an id, name or option of the wrong form. Nothing was started."""


class PayloadTooLargeError(InvalidInputError):
    """An input, result, step result or signal is over its limit. Nothing was written."""


class SerializationError(InvalidInputError):
    """A value has no JSON form. Nothing was written."""


class HandlerNotFoundError(InvalidInputError):
    """No handler of that name is registered."""


class DuplicateRunError(InvalidInputError):
    """A run with this id exists and was started with another handler or input."""


class RunNotFoundError(Agnt5Error):
    """No run of that id: never started, or past its retention."""


class RunEndedError(Agnt5Error):
    """The run has ended, so that it takes no signal, cancel or retry of this kind any more."""


class ResultTimeoutError(Agnt5Error, TimeoutError):
    """The run did not end within the time that the caller waits. The run itself goes on."""


class NonDeterminismError(Agnt5Error):
    """Workflow code asked for something else than its journal holds.

    The run is not failed: it waits, unchanged, for code that fits its journal.
    """


class IllegalTransitionError(Agnt5Error):
    """The run state table has no such step: a defect of agnt5, never of user code."""


class WorkflowIOError(Agnt5Error):
    """Workflow code used a socket, thread, subprocess or other thing that cannot be replayed."""


class WrongContextError(Agnt5Error):
    """This ctx call does not exist for this kind of handler."""


class JournalLimitError(Agnt5Error):
    """The journal of a run is over its limit of events or bytes."""


class SealedPayloadError(Agnt5Error):
    """A sealed value cannot be opened: its key (`key_id`) is not known here, or it was changed. Nothing was written."""

    def __init__(self, message: str, *, key_id: str = "") -> None:
        super().__init__(message)
        self.key_id = key_id


class StaleEpochError(Agnt5Error):
    """This worker no longer owns the run: another one took over, and what we wanted to write was refused."""


class RunFailedError(Agnt5Error):
    """A run, step or child ended without a result. Carries what its own code raised, as data.

    `type` is the name of the original exception class, `message` its text, `traceback` its
    formatted traceback (may be empty), `details` more JSON data where an error has any.
    """

    kind = "failed"

    def __init__(
        self,
        message: str,
        *,
        type: str = "Exception",  # noqa: A002 - the public attribute is called so
        traceback: str = "",
        where: str = "",
        details: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.type = type
        self.traceback = traceback
        self.where = where
        self.details = details

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.type}: {self.message}"


class TaskFailedError(RunFailedError):
    """A child run, or the run whose result was asked for, failed. The cause is in its attributes."""


class StepFailedError(RunFailedError):
    """A step of a workflow failed; recorded, so that every replay sees the same failure."""


class RunCancelledError(RunFailedError):
    """The run was cancelled before it had a result."""

    kind = "cancelled"


class RunTimeoutError(RunFailedError):
    """An attempt, or the whole run, took longer than its timeout."""


class WorkerLostError(RunFailedError):
    """The run killed its worker several times and is not tried again."""


class NonRetryableError(Agnt5Error):
    """Raise it from a handler (or a subclass of it) to fail the run without further attempts."""


class EntityDeadlockError(RunFailedError, NonRetryableError):
    """A chain of calls came back to an entity that it holds itself: waiting for it would never end."""


class EntityBusyError(Agnt5Error):
    """A method of this entity runs now, so that it cannot be deleted. Nothing was changed; try again later."""


class EntityNotFoundError(Agnt5Error):
    """There is no entity of this type and key: nothing was ever set in it, or all was deleted."""


class ConfigNotFoundError(Agnt5Error):
    """Nothing is set in Redis for this key of config."""


class ApprovalNotFoundError(Agnt5Error):
    """The run asks for no approval of this name."""


class ApprovalRefusedError(Agnt5Error):
    """This person may not decide, or the form is not filled in as it should be. The approval waits on.

    `reason` is "role", "assignee", "self", "voted" or "form".
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ApprovalDecidedError(Agnt5Error):
    """The approval was decided before, timed out, or was withdrawn: the first decision stands.

    `decision` is "approved", "rejected", "timeout" or "withdrawn".
    """

    def __init__(self, message: str, *, decision: str) -> None:
        super().__init__(message)
        self.decision = decision


class LLMError(Agnt5Error):
    """A language model gave no answer: rate limits, errors of its server, timeouts; after all retries and fallbacks.

    `status` is the HTTP status (0: no answer at all), `model` the one that was asked last, `retry_after` the seconds
    that the provider asks to wait, where it does: the next attempt of the run waits at least so long.
    """

    def __init__(self, message: str, *, model: str = "", status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.model = model
        self.status = status
        self.retry_after = retry_after

    @property
    def details(self) -> dict[str, Any]:
        """What is recorded beside the message."""
        return {"model": self.model, "status": self.status, "retry_after": self.retry_after}


class LLMRequestError(LLMError, NonRetryableError):
    """The provider refuses the request as it is: no key, no such model, too long, against its policy."""


class StructuredOutputError(NonRetryableError):
    """The model's answer does not fit the schema, also after it was told what is wrong. `text` is what it wrote.

    The answers are recorded, so that another attempt would find the same.
    """

    def __init__(self, message: str, *, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class ToolLoopError(NonRetryableError):
    """A model went on asking for tools past `max_rounds`."""


class BudgetExceededError(NonRetryableError):
    """A call of a language model would exceed a budget. It was not made.

    `scope` is the budget (`tree:order-17`, `key:acme~86400s`), `what` the limit that is in the way: "requests",
    "tokens" or "cost" (US dollars, as are then all amounts). `used` was spent, `reserved` is held by calls on their
    way, `asked` is what this call would probably take.
    """

    def __init__(
        self, message: str, *, scope: str = "", what: str = "", limit: float = 0, used: float = 0, reserved: float = 0,
        asked: float = 0,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.scope = scope
        self.what = what
        self.limit = limit
        self.used = used
        self.reserved = reserved
        self.asked = asked

    @property
    def details(self) -> dict[str, Any]:
        """What is recorded beside the message."""
        return dict(vars(self))


class SecretNotFoundError(Agnt5Error):
    """A secret is in none of the places that its error lists."""


class SecretProviderError(Agnt5Error):
    """A place of secrets could not be read: a provider failed or was too slow, or a file is not as it should be."""


class StreamLimitError(NonRetryableError):
    """A run yielded more chunks than a stream may have."""


def error_data(error: BaseException, *, where: str = "") -> dict[str, Any]:
    """An exception as JSON data: `{type, message, traceback, where, details}`, known secrets masked; never pickled."""
    if isinstance(error, RunFailedError):
        data: dict[str, Any] = {
            "type": error.type,
            "message": masked(error.message),
            "traceback": masked(error.traceback),
            "where": masked(error.where or where),
        }
        if error.details is not None:
            data["details"] = masked_value(error.details)
        return data
    text = "".join(traceback.format_exception(type(error), error, from_user_code(error)))
    data = {
        "type": type(error).__name__,
        "message": masked(str(error)),
        "traceback": masked(text)[-TRACEBACK_LIMIT:],
        "where": masked(where),
    }
    if isinstance(error, LLMError | BudgetExceededError):
        data["details"] = masked_value(error.details)
    return data


def from_user_code(error: BaseException) -> TracebackType | None:
    """An error's traceback without the frames of the runtime that lead to the user's code."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_RUNTIME):
        frame = frame.tb_next
    return frame or error.__traceback__


def model_error(failed: RunFailedError) -> Agnt5Error | None:
    """The error of a call of a language model that a failed step stands for, as it was raised; None for others."""
    kinds: tuple[type[LLMError | BudgetExceededError], ...] = (LLMError, LLMRequestError, BudgetExceededError)
    for kind in kinds:
        if failed.type == kind.__name__ and isinstance(failed.details, dict):
            return kind(failed.message, **failed.details)
    return None


def from_data(data: dict[str, Any], kind: type[RunFailedError] = TaskFailedError) -> RunFailedError:
    """The exception that stands for recorded error data; own errors come back as their own class."""
    own = {cls.__name__: cls for cls in (RunTimeoutError, WorkerLostError, RunCancelledError, EntityDeadlockError)}
    cls = own.get(data.get("type", ""), kind)
    return cls(
        data.get("message", ""),
        type=data.get("type", "Exception"),
        traceback=data.get("traceback", ""),
        where=data.get("where", ""),
        details=data.get("details"),
    )
