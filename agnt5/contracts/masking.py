"""Values that nobody may see: what this process knows of secrets, and how text is freed of them.

Whatever leaves a process as text goes through `masked` (logs, errors, events) or `masked_json` (payloads at rest).
A value is known from the moment it is read, so that it is masked wherever it turns up later.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from urllib.parse import quote, quote_plus

SHORTEST = 6
"""Characters of a value that can be masked; shorter ones would take innocent text with them."""


class Masker:
    """The values known to be secret. Safe from any thread; costs next to nothing while it knows none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        self._bytes: re.Pattern[bytes] | None = None

    def learn(self, name: str, value: str) -> bool:
        """Mask `value` from now on, as `[secret:name]`; also its lines and its JSON, URL and base64 forms.

        False for a value of fewer than `SHORTEST` characters, which stays as it is.
        """
        forms = _forms(value)
        if not forms:
            return False
        with self._lock:
            if all(form in self._shown for form in forms):
                return True
            self._shown = {**self._shown, **dict.fromkeys(forms, f"[secret:{name}]")}
            longest_first = sorted(self._shown, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))
            self._bytes = re.compile(b"|".join(re.escape(form.encode()) for form in longest_first))
        return True

    @property
    def knows(self) -> bool:
        """Whether there is anything to mask."""
        return self._pattern is not None

    def masked(self, text: str) -> str:
        """`text` without known values."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: self._shown[found[0]], text)

    def masked_json(self, data: bytes) -> bytes:
        """JSON without known values; stays JSON."""
        if self._bytes is None:
            return data
        return self._bytes.sub(lambda found: self._shown[found[0].decode()].encode(), data)


def _forms(value: str) -> set[str]:
    """A value as it may turn up in text. Base64 without its last characters: those depend on what follows."""
    forms = {value, value.strip(), *(line.strip() for line in value.splitlines())}
    for plain in list(forms):
        raw = plain.encode("utf-8", "surrogatepass")
        encoded = base64.b64encode(raw).decode().rstrip("=")
        forms |= {
            json.dumps(plain)[1:-1],
            json.dumps(plain, ensure_ascii=False)[1:-1],
            repr(plain)[1:-1],
            quote(plain, safe=""),
            quote_plus(plain),
            encoded,
            encoded.translate(str.maketrans("+/", "-_")),
        }
    return {form for form in forms if len(form) >= SHORTEST}


MASKER = Masker()
"""What this process knows."""

masked = MASKER.masked
masked_json = MASKER.masked_json
