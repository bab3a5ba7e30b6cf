"""The places on this machine: variables `AGNT5_SECRET_*`, and files of one folder."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from agnt5.contracts.errors import SecretProviderError
from agnt5.contracts.masking import LONGEST
from agnt5.secrets.provider import field_of, split_key

PREFIX = "AGNT5_SECRET_"
FILE = "_FILE"

FILES = 300
"""Files of the folder that are known before they are read."""


def variable(key: str) -> str:
    """The environment variable of a key: `openai_api_key` -> `AGNT5_SECRET_OPENAI_API_KEY`."""
    return PREFIX + re.sub(r"[^A-Z0-9]+", "_", key.upper()).strip("_")


class LocalSecrets:
    """Environment, then files: at once, without a network."""

    def __init__(self, folder: str, environ: Mapping[str, str] | None = None) -> None:
        self._folder = Path(folder)
        self._environ = os.environ if environ is None else environ

    def in_environment(self, key: str) -> str | None:
        """The value of the key's variable; an empty one counts as not set."""
        return self._environ.get(variable(key)) or None

    def in_files(self, key: str) -> str | None:
        """What is in the file that `AGNT5_SECRET_<NAME>_FILE` names, or in the folder's file of this name.

        One newline at the end is not part of it; an empty file of the folder counts as not there. Raises
        `SecretProviderError` for a file that cannot be read, is too long, or is not in the folder, and for an empty
        one that the variable names.
        """
        if path := self._environ.get(variable(key) + FILE):
            try:
                return read_file(Path(path), needed=True)
            except SecretProviderError as error:
                raise SecretProviderError(f"secret {key!r}: {variable(key)}{FILE} names {error}") from None
        path_, field = split_key(key)
        for name in dict.fromkeys((path_.lstrip("/"), path_.lstrip("/").lower())):
            text = self._in_folder(name)
            if text is not None:
                return self._field(text, field, name)
        return None

    def places(self, key: str) -> list[str]:
        """Where it looks, for people."""
        name, field = split_key(key)
        path = self._folder / name.lstrip("/")
        own = variable(key)
        return [f"the variable {own}", f"the file that {own}{FILE} names", f"{path}{_fault(path, field)}"]

    def all(self) -> Iterator[tuple[str, str]]:
        """Every secret that is here, by its name. What cannot be read is left out."""
        for name, value in self._environ.items():
            if name.startswith(PREFIX) and value:
                own = name.removeprefix(PREFIX).lower()
                text = _quietly(Path(value)) if name.endswith(FILE) else None
                yield (own, value) if text is None else (own.removesuffix(FILE.lower()), text)
        for path in self._files():
            if (text := _quietly(path)) is not None:
                yield str(path.relative_to(self._folder)).lower(), text

    def _in_folder(self, name: str) -> str | None:
        path = self._folder / name
        try:
            inside = path.resolve().is_relative_to(self._folder.resolve())
        except (OSError, RuntimeError):
            return None
        if not inside:
            raise SecretProviderError(f"secret {name!r}: {path} leads out of the folder of secrets; it is not read")
        try:
            return read_file(path)
        except SecretProviderError as error:
            raise SecretProviderError(f"secret {name!r}: {error}") from None

    def _field(self, text: str, field: str, name: str) -> str | None:
        if not field:
            return text
        try:
            return field_of(text, field, str(self._folder / name))
        except ValueError as error:
            raise SecretProviderError(f"secret '{name}#{field}': {error}") from None

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if path.is_file())[:FILES]
        except OSError:
            return []


def read_file(path: Path, *, needed: bool = False) -> str | None:
    """A file's text without the newline at its end; None where there is none. Raises `SecretProviderError`.

    `needed`: raise where there is none, too.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold us up
        with open(number, "rb") as file:  # noqa: PTH123 - opened by number
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise IsADirectoryError("no regular file")  # noqa: TRY301
            data = file.read(LONGEST + 1)
        text = data.decode()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        if needed:
            raise SecretProviderError(
                f"{path}: {error.strerror or error}; correct the variable that names it"
            ) from None
        return None
    except OSError as error:
        raise SecretProviderError(f"{path}: {error.strerror}; let the worker's user read it") from None
    except UnicodeDecodeError:
        raise SecretProviderError(f"{path}: no text in UTF-8; write it there in base64") from None
    if len(data) > LONGEST:
        raise SecretProviderError(f"{path}: more than {LONGEST:,} bytes, which no secret has")
    text = text.removesuffix("\n").removesuffix("\r")
    if needed and not text:
        raise SecretProviderError(f"{path}: it is empty; write the secret into it")
    return text or None


def _fault(path: Path, field: str) -> str:
    """Why what is at a path is no secret, for people; "" where nothing is there."""
    try:
        found = path.stat()
    except OSError:
        return ""
    if not stat.S_ISREG(found.st_mode):
        return " (which is no file)"
    if found.st_size <= len("\r\n"):
        return " (which is empty)"
    return f" (which has no field {field!r})" if field else ""


def _quietly(path: Path) -> str | None:
    try:
        return read_file(path)
    except (SecretProviderError, ValueError):
        return None
