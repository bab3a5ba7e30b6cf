"""promtool, which checks rules, their tests and what is served."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PLACE = Path(__file__).parents[2] / ".venv" / "promtool" / "promtool"


def found() -> str:
    """AGNT5_PROMTOOL, the one in the PATH, or the one that `make promtool` brings."""
    chosen = os.environ.get("AGNT5_PROMTOOL") or shutil.which("promtool") or (str(PLACE) if PLACE.exists() else "")
    assert chosen, "promtool is needed: make promtool, or set AGNT5_PROMTOOL to its path"
    return chosen
