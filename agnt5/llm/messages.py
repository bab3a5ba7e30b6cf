"""What a model is told: messages in OpenAI's form, checked and copied, with secrets closed until they are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

from agnt5.contracts.errors import InvalidInputError

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

Message = dict[str, Any]
Secret = SecretStr | SecretBytes


def messages_of(prompt: Any, system: Any, where: str) -> list[Message]:
    """The messages of a prompt: text, a `SecretStr`, or a list of messages; `system` comes first.

    Secrets stay what they are. Raises `InvalidInputError` that names the place and what is expected there.
    """
    if isinstance(prompt, str | SecretStr):
        messages: list[Message] = [{"role": "user", "content": prompt}]
    elif isinstance(prompt, Sequence) and not isinstance(prompt, bytes | bytearray):
        messages = [_message(one, f"{where}: prompt[{index}]") for index, one in enumerate(prompt)]
    else:
        raise InvalidInputError(
            f"{where}: prompt: expected text, a SecretStr or a list of messages, found {_kind(prompt)}"
        )
    if not messages:
        raise InvalidInputError(f"{where}: prompt: a list without messages; give at least one")
    if system is None:
        return messages
    if not isinstance(system, str | SecretStr):
        raise InvalidInputError(f"{where}: system: expected text, found {_kind(system)}")
    return [{"role": "system", "content": system}, *messages]


def opened(value: Any) -> Any:
    """A copy with secrets in clear, for the provider's eyes only."""
    return _mapped(value, _clear)


def sealed(value: Any) -> Any:
    """A copy with the digests of secrets in their place."""
    return _mapped(value, lambda secret: {"secret": hashlib.sha256(_clear(secret).encode()).hexdigest()})


def hidden(value: Any) -> Any:
    """A copy with `**********` in the place of secrets, for people and records."""
    return _mapped(value, str)


def secrets_in(value: Any) -> Iterator[str]:
    """The contents of all secrets in a value."""
    if isinstance(value, SecretStr | SecretBytes):
        yield _clear(value)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from secrets_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from secrets_in(one)


def characters(value: Any) -> int:
    """How much text a value has. What is long and has no spaces, as images have, counts as a thousand tokens."""
    if isinstance(value, str):
        return _IMAGE if len(value) > _LONG and " " not in value[:_LONG] else len(value)
    if isinstance(value, SecretStr):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(key) + characters(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return sum(characters(one) for one in value)
    return 1


_LONG = 2_000
_IMAGE = 4_000


# ---- checks


def _message(given: Any, where: str) -> Message:
    if isinstance(given, BaseModel):
        given = given.model_dump(mode="json", exclude_none=True)
    if not isinstance(given, Mapping):
        raise InvalidInputError(
            f'{where}: expected a message as {{"role": "user", "content": "..."}}, found {_kind(given)}'
        )
    role = given.get("role")
    if role not in ROLES:
        raise InvalidInputError(f"{where}.role: expected one of {', '.join(ROLES)}, found {role!r}")
    if role == "tool" and not isinstance(given.get("tool_call_id"), str):
        raise InvalidInputError(f"{where}.tool_call_id: the id of the tool call that this message answers is missing")
    _check_content(given.get("content"), role, bool(given.get("tool_calls")), f"{where}.content")
    return {str(key): _copied(value, f"{where}.{key}") for key, value in given.items()}


def _check_content(content: Any, role: str, calls: bool, where: str) -> None:
    if isinstance(content, str | SecretStr) or (content is None and (calls or role == "assistant")):
        return
    if not isinstance(content, list | tuple):
        raise InvalidInputError(f"{where}: expected text, a SecretStr or a list of parts, found {_kind(content)}")
    for index, part in enumerate(content):
        _check_part(part, f"{where}[{index}]")


def _check_part(part: Any, where: str) -> None:
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise InvalidInputError(
            f'{where}: expected a part as {{"type": "text", "text": "..."}} or '
            f'{{"type": "image_url", "image_url": {{"url": "..."}}}}, found {_kind(part)}'
        )
    if part["type"] == "text" and not isinstance(part.get("text"), str | SecretStr):
        raise InvalidInputError(f"{where}.text: expected text, found {_kind(part.get('text'))}")
    if part["type"] == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        if not isinstance(url, str | SecretStr):
            raise InvalidInputError(f"{where}.image_url: expected an address or a data: URL, found {_kind(url)}")


def _copied(value: Any, where: str) -> Any:
    """A copy that the caller's later changes do not reach: the request is sent later, on another loop."""
    if value is None or isinstance(value, str | int | float | Secret):
        return value
    if isinstance(value, Mapping):
        return {str(key): _copied(one, f"{where}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(one, f"{where}[{index}]") for index, one in enumerate(value)]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise InvalidInputError(f"{where}: expected plain data (text, numbers, lists, dicts), found {_kind(value)}")


def _mapped(value: Any, change: Callable[[Secret], Any]) -> Any:
    if value is None or isinstance(value, str | int | float):  # most of what there is
        return value
    if isinstance(value, SecretStr | SecretBytes):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(one, change) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(one, change) for one in value]
    return value


def _clear(secret: Secret) -> str:
    value = secret.get_secret_value()
    return value if isinstance(value, str) else value.decode()


def _kind(value: Any) -> str:
    """What was found, without showing what may be a prompt."""
    return "nothing" if value is None else f"a {type(value).__name__}"
