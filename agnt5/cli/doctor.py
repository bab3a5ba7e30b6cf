"""`agnt5 doctor`: tells what is wrong with a store and, if asked, mends it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from agnt5.cli.keys import print_uses
from agnt5.cli.output import line, print_json
from agnt5.cli.place import chosen_url
from agnt5.client import Client
from agnt5.client.doctor import Finding, examine_with, repair_with
from agnt5.client.key_use import KeyUse, key_uses, started_in_clear, unknown_keys

SHOWN = 20
"""Findings of one severity that are told one by one."""


def check(url: str | None, *, fix: bool, settle_s: float, json: bool) -> int:
    """Examine, repair, examine again; gives 1 when an error is left."""
    with Client(chosen_url(url)) as client:
        found: list[Finding] = client.call(examine_with, settle_s=settle_s)
        mended = 0
        if fix and found:
            mended = client.call(repair_with, found)
            found = client.call(examine_with, settle_s=settle_s)
        uses: list[KeyUse] = client.call(key_uses) if client.settings.seals else []
    found += [*unknown_keys(uses), *started_in_clear(uses)]
    if json:
        told = {"mended": mended, "findings": [_data(finding) for finding in found]}
        print_json({**told, "keys": [asdict(use) for use in uses]} if uses else told)
    else:
        _print(found, mended=mended)
        if uses:
            print_uses(uses)
    return 1 if any(finding.severity == "error" for finding in found) else 0


def _print(found: list[Finding], *, mended: int) -> None:
    if mended:
        line((f"mended {mended} findings", "green"))
    counts: Counter[str] = Counter()
    for finding in found:
        counts[finding.severity] += 1
        if counts[finding.severity] <= SHOWN:
            line((f"{finding.severity}: ", finding.severity), finding.found)
            line((f"    {finding.remedy}", "dim"))
    for severity, count in counts.items():
        if count > SHOWN:
            line((f"... and {count - SHOWN} more of severity {severity}; --json has all", "dim"))
    if not found:
        line(("all is well: every run is owned, queued, or waiting for something that will come", "green"))


def _data(finding: Finding) -> dict[str, object]:
    return {
        **{name: value for name, value in asdict(finding).items() if name not in {"repair", "mark"}},
        "fixable": finding.repair is not None,
    }
