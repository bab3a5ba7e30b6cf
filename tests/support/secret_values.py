"""The secrets of all tests. Each has a stem that stands nowhere else, so that a leak is found wherever it went.

`leaks.py` looks for it in all that servers and processes leave behind. A test that needs a key, password or token takes
one from here: `made("openai")`.
"""

from __future__ import annotations

import base64
import hashlib

STEM = "Xq7ZvR2kWm9T"
"""What every secret of the tests begins with; letters and digits, so that URLs, JSON and reprs leave it as it is."""


def made(name: str, more: str = "", *, prefix: str = "") -> str:
    """A secret of its own for each name. `prefix` is for keys that have to begin in a certain way."""
    return f"{prefix}{STEM}{hashlib.sha256(name.encode()).hexdigest()[:12]}{more}"


def _forms() -> tuple[bytes, ...]:
    found = [STEM.encode()]
    for before, skipped in enumerate((0, 2, 3)):
        sure = (before + len(STEM)) * 8 // 6
        found.append(base64.b64encode(bytes(before) + STEM.encode())[skipped:sure])
    return tuple(found)


FORMS = _forms()
"""The stem as it is, and inside longer base64."""


def found_in(data: str | bytes) -> bool:
    """Whether a secret of the tests is in it."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return any(form in raw for form in FORMS)
