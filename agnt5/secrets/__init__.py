"""Secrets of handlers: environment, files, and providers such as Vault and AWS; all that is read is masked."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agnt5.secrets.aws import AwsSecrets
    from agnt5.secrets.provider import SecretProvider
    from agnt5.secrets.vault import VaultSecrets

__all__ = ["AwsSecrets", "SecretProvider", "VaultSecrets"]

_HOME = {
    "AwsSecrets": "agnt5.secrets.aws",
    "SecretProvider": "agnt5.secrets.provider",
    "VaultSecrets": "agnt5.secrets.vault",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'agnt5.secrets' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
