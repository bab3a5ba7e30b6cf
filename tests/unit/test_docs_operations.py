"""The table of settings in docs/operations.md is that of the code."""

import re
from dataclasses import fields
from pathlib import Path

from agnt5.contracts.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def test_each_setting_is_told_and_no_other():
    table = PAGE.partition("## Settings")[2]
    told = re.findall(r"`AGNT5_([A-Z_]+)`", table.partition("| variable")[2])
    known = [item.name.removesuffix("_ms").upper() for item in fields(Settings)]
    assert sorted(told) == sorted(known)
