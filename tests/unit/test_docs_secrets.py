"""The code and settings of docs/secrets.md are right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.secret_values import made

from agnt5 import SecretNotFoundError
from agnt5.contracts.settings import Settings
from agnt5.registry import isolated
from agnt5.secrets import SecretProvider
from agnt5.secrets.places import LocalSecrets
from agnt5.secrets.reader import NOT_FOUND_S, SecretReader

TEXT = (Path(__file__).parents[2] / "docs" / "secrets.md").read_text()
BLOCKS = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", TEXT, re.DOTALL))


def run(name: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": name}
    with isolated():
        exec(compile(BLOCKS[name], f"docs/secrets.md: {name}", "exec"), space)
    return space


def test_every_block_is_run():
    assert TEXT.count("```python") == len(BLOCKS)
    assert set(BLOCKS) == {"calls", "workers", "shelf"}


def test_the_handler_and_the_app():
    assert callable(run("calls")["api_call"])
    app = run("workers")["app"]
    vault, aws = app.agnt5.secrets.providers
    assert vault.place("db_password") == "secret/apps/shop, field db_password"
    assert aws.place("db#password") == "secret prod/db, field password"


def test_a_provider_of_ones_own():
    shelf: SecretProvider = run("shelf")["ShelfSecrets"]()
    reader = SecretReader(LocalSecrets("/nowhere", {}), [shelf])
    assert reader.get("openai_api_key") == "..."
    with pytest.raises(SecretNotFoundError, match="shelf 3, other"):
        reader.get("other")


def test_the_settings_that_are_told():
    defaults = Settings()
    assert defaults.secrets_ttl_ms == 5 * 60_000
    assert defaults.secrets_timeout_ms == 5000
    assert defaults.secrets_dir == "/run/secrets"
    assert NOT_FOUND_S == 10
    told = set(re.findall(r"AGNT5_SECRETS_\w+", TEXT))
    assert told == {f"AGNT5_SECRETS_{name}" for name in ("DIR", "PROVIDERS", "PREFETCH", "TTL", "TIMEOUT")}
    Settings.from_env({
        "AGNT5_SECRETS_PROVIDERS": "vault,aws", "AGNT5_SECRETS_PREFETCH": "openai_api_key,database_password",
        "AGNT5_SECRETS_TTL": "90s", "AGNT5_SECRET_OPENAI_API_KEY": made("docs"),
    })  # fmt: skip
