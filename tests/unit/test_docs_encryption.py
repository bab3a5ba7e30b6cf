"""docs/encryption.md is right: its codec seals, its keys are read, its settings and commands exist."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from agnt5.app import create_app
from agnt5.cli.key_commands import keys
from agnt5.contracts.errors import SealedPayloadError
from agnt5.contracts.settings import Settings
from agnt5.sealing import PayloadCodec

TEXT = (Path(__file__).parents[2] / "docs" / "encryption.md").read_text()


def test_the_codec_of_the_page_seals_and_opens():
    space: dict[str, Any] = {}
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(code, "docs/encryption.md", "exec"), space)
    codec: PayloadCodec = space["FromKeyService"]({"k1": bytes(32)})
    sealer = create_app(payload_codec=codec).agnt5.sealer
    assert sealer.open(sealer.value(b'"v"', "r"), "r") == b'"v"'


def test_the_key_of_the_page_is_one():
    (written,) = re.findall(r'AGNT5_PAYLOAD_KEYS="(.*)"', TEXT)
    assert f"\n{written}\n" in TEXT
    assert Settings.from_env({"AGNT5_PAYLOAD_KEYS": written}).seals


def test_what_the_page_names_is_there():
    fields = {f"AGNT5_{item.name.removesuffix('_ms').upper()}" for item in dataclasses.fields(Settings)}
    assert set(re.findall(r"AGNT5_[A-Z_]+", TEXT)) <= fields
    commands = {command.name or command.callback.__name__ for command in keys.registered_commands if command.callback}
    assert set(re.findall(r"agnt5 keys (\w+)", TEXT)) == commands
    assert SealedPayloadError.__name__ in TEXT


def test_the_limits_of_the_page_are_the_defaults():
    rows = dict(re.findall(r"\| `AGNT5_(\w+)` \| ([\d,]+(?: MiB)?) \|", TEXT))
    for name, shown in rows.items():
        number = shown.removesuffix(" MiB").replace(",", "")
        assert getattr(Settings(), name.lower()) == int(number) * (1 << 20 if "MiB" in shown else 1)
