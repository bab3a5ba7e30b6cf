"""What went wrong at a provider, as our errors: who refused, why, what to do; never with a key or secret in it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from agnt5.contracts import masking as known
from agnt5.contracts.errors import Agnt5Error, LLMError, LLMRequestError

_SHOWN = 500
_SHORTEST_SECRET = 4
_NO_LIMIT_S = 366 * 86_400.0

_KEY_NAMES = re.compile(r"(_KEY|_TOKEN|_SECRET|_PASSWORD|_ACCESS_KEY_ID)$")
_KEY_FORMS = re.compile(r"\b(?:sk|pk|rk|gsk|xai|key|AIza|hf|r8)[-_][A-Za-z0-9_*\-]{8,}|\bBearer\s+\S+")
_WRAPPING = re.compile(r"^(?:litellm\.)?\w*(?:Error|Timeout|Exception)(?::| -)\s*")

_PASSING = frozenset({408, 409, 425, 429})
_SERVER = 500
_NO_FUNDS = "insufficient_quota"
_NO_KEY = re.compile(
    r"missing credentials|api[_ ]key.{0,80}(?:must be set|not set|missing|required|environment)", re.IGNORECASE
)

_TIMED_OUT = "Timeout"
_UNREACHED = ("APIConnectionError", "APITimeoutError")
_TOO_LONG = "ContextWindowExceededError"
_AGAINST_POLICY = "ContentPolicyViolationError"


class MalformedAnswerError(Exception):
    """A provider's answer is not what its API promises."""


class UnprocessableError(Exception):
    """The provider answered 422, also after LiteLLM had left out what it could, which then gives nothing at all."""

    status_code = 422


def failure_of(error: Exception, model: str, *, timeout_s: float, secrets: Iterable[str], provider: str) -> LLMError:
    """The error for what a try of a model raised. `LLMRequestError` where asking again is no use."""
    if isinstance(error, LLMError):
        return error
    status = _status(error)
    said = masked(_said(error, timeout_s), secrets)
    text = f"model {model}: {f'HTTP {status}: ' if status else ''}{said}"
    retry_after = _retry_after(error)
    if _is_final(error, status):
        return LLMRequestError(f"{text}; {_advice(error, status, provider)}", model=model, status=status)
    return LLMError(text, model=model, status=status, retry_after=retry_after)


def summed(failures: list[LLMError], models: tuple[str, ...]) -> LLMError:
    """The one error of all models that were asked. It is final only if each of them is."""
    if len(failures) == 1:
        return failures[0]
    last = failures[-1]
    passing = [one for one in failures if not isinstance(one, LLMRequestError)]
    text = f"none of the models {', '.join(models)} answered: {' | '.join(str(one) for one in failures)}"
    if not passing:
        return LLMRequestError(text, model=last.model, status=last.status)
    waits = [one.retry_after for one in passing]
    known = [wait for wait in waits if wait is not None]
    retry_after = min(known) if len(known) == len(waits) else None
    return LLMError(text, model=last.model, status=last.status, retry_after=retry_after)


def masked(text: str, secrets: Iterable[str]) -> str:
    """A text for people, cut, without secrets: `[secret:name]` for what this process knows, `***` for what is or looks
    like another one.
    """
    text = known.masked(text)
    for secret in sorted({*secrets, *_environment()}, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    text = _KEY_FORMS.sub("***", text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _environment() -> Iterator[str]:
    return (value for name, value in os.environ.items() if len(value) >= 8 and _KEY_NAMES.search(name))  # noqa: PLR2004


# ---- what happened


def _status(error: Exception) -> int:
    """The HTTP status; 0 where the provider did not answer, whatever LiteLLM makes of that."""
    if isinstance(error, MalformedAnswerError | TimeoutError) or _is(error, _TIMED_OUT):
        return 0
    if any(type(cause).__name__ in _UNREACHED for cause in _causes(error)) or _has_no_key(error):
        return 0
    status = getattr(error, "status_code", 0)
    return status if isinstance(status, int) and not _is_no_json(error) else 0


def _said(error: Exception, timeout_s: float) -> str:
    if isinstance(error, asyncio.TimeoutError) or _is(error, _TIMED_OUT):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, MalformedAnswerError) or _is_no_json(error):
        return f"the answer is malformed: {_plain(error)}"
    if any(type(cause).__name__ in _UNREACHED for cause in _causes(error)):
        return f"the connection failed: {_plain(error)}"
    return _plain(error)


def _plain(error: Exception) -> str:
    """What the provider said, without the names that LiteLLM puts before it."""
    text = str(getattr(error, "message", "")) or str(error) or type(error).__name__
    while (shorter := _WRAPPING.sub("", text, count=1)) != text and shorter:
        text = shorter
    return text.strip()


def _is_final(error: Exception, status: int) -> bool:
    if isinstance(error, Agnt5Error):
        return False
    if _is(error, _TOO_LONG) or _is(error, _AGAINST_POLICY) or _NO_FUNDS in str(error) or _has_no_key(error):
        return True
    if status:
        return status < _SERVER and status not in _PASSING
    # what LiteLLM raises before it sends anything: a parameter or message that it cannot translate
    return isinstance(error, TypeError | ValueError | NotImplementedError) and not _is_no_json(error)


def _advice(error: Exception, status: int, provider: str) -> str:
    variable = f"{re.sub(r'[^A-Z0-9]', '_', provider.upper())}_API_KEY" if provider else "the provider's *_API_KEY"
    if _is(error, _TOO_LONG):
        return "send less, or use a model that takes more"
    if _is(error, _AGAINST_POLICY):
        return "the provider's policy forbids it; change the prompt"
    if _NO_FUNDS in str(error):
        return "the account has nothing left; top it up, or name a fallback: model=[...]"
    if _has_no_key(error):
        return f"set {variable} for the workers, or give api_key="
    return {
        401: f"set {variable} for the workers, or give api_key=",
        402: "the account has nothing left; top it up, or name a fallback: model=[...]",
        403: f"the key in {variable} may not use this model",
        404: "check the name of the model, and api_base= where one is given",
    }.get(status, "check the messages and parameters")


def _retry_after(error: Exception) -> float | None:
    response = getattr(error, "response", None)
    for headers in (getattr(response, "headers", None), getattr(error, "litellm_response_headers", None)):
        if isinstance(headers, Mapping) and (wait := wait_of(headers)) is not None:
            return wait
    return None


def wait_of(headers: Mapping[str, Any], now: datetime | None = None) -> float | None:
    """The seconds that a provider asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    values = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            wait = float(values[name]) / unit
        except (KeyError, ValueError):
            continue
        if 0 <= wait <= _NO_LIMIT_S:
            return wait
    try:
        due = parsedate_to_datetime(values["retry-after"])
    except (KeyError, ValueError):
        return None
    wait = (due.replace(tzinfo=due.tzinfo or UTC) - (now or datetime.now(UTC))).total_seconds()
    return min(max(wait, 0.0), _NO_LIMIT_S)


def _is(error: Exception, name: str) -> bool:
    """By name: LiteLLM may not be loaded, and its classes move."""
    return any(kind.__name__ == name for kind in type(error).__mro__)


def _has_no_key(error: Exception) -> bool:
    """Whether nothing was sent for want of a key, which LiteLLM tells as an error of the server."""
    return getattr(error, "status_code", _SERVER) >= _SERVER and _NO_KEY.search(str(error)) is not None


def _is_no_json(error: Exception) -> bool:
    return any(type(cause).__name__ == "JSONDecodeError" for cause in _causes(error)) or "Expecting value" in str(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__context__ if error.__cause__ is None else error.__cause__
