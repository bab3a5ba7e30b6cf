"""Secrets of AWS Secrets Manager."""

from __future__ import annotations

import threading
from typing import Any

from agnt5.contracts.errors import ConfigurationError
from agnt5.secrets.provider import field_of, split_key


class AwsSecrets:
    """Reads AWS Secrets Manager. A `SecretProvider`; opens no connection before the first secret is read.

    A key is a secret's name or ARN, behind `prefix`; `shop/db#password` is the field `password` of a secret that is a
    JSON object. Credentials and region are found as boto3 finds them (variables, profile, role of the machine); other
    arguments are those of `boto3.session.Session.client`, as `endpoint_url`. Needs
    `pip install 'agnt5-celery[aws]'`.
    """

    name = "aws"

    def __init__(
        self, *, prefix: str = "", region: str | None = None, profile: str | None = None, timeout_s: float = 4.0,
        **client: Any,
    ) -> None:  # fmt: skip
        self._prefix = prefix
        self._session = {"region_name": region, "profile_name": profile}
        self._timeout_s = timeout_s
        self._arguments = client
        self._lock = threading.Lock()
        self._client: Any = None

    def fetch(self, key: str) -> str | None:
        """The value of a key; None where there is no such secret, or it has no such field."""
        name, field = self._name(key)
        client = self._opened()
        try:
            found = client.get_secret_value(SecretId=name)
        except client.exceptions.ResourceNotFoundException:
            return None
        text = found["SecretString"] if "SecretString" in found else found["SecretBinary"].decode()
        return field_of(text, field, f"the secret {name}") if field else str(text)

    def place(self, key: str) -> str:
        """The secret's name, and the field where one is meant."""
        name, field = self._name(key)
        return f"secret {name}, field {field}" if field else f"secret {name}"

    def _name(self, key: str) -> tuple[str, str]:
        name, field = split_key(key)
        return (name if name.startswith("arn:") else self._prefix + name), field

    def _opened(self) -> Any:
        with self._lock:  # making a client is not safe from several threads
            if self._client is None:
                self._client = self._made()
            return self._client

    def _made(self) -> Any:
        try:
            import boto3  # noqa: PLC0415 - loaded on first use
            from botocore.config import Config  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                f"AwsSecrets needs boto3, which cannot be imported ({error}): pip install 'agnt5-celery[aws]'"
            ) from None
        limits = Config(
            connect_timeout=self._timeout_s, read_timeout=self._timeout_s, retries={"total_max_attempts": 2}
        )
        session = boto3.session.Session(**self._session)
        return session.client("secretsmanager", config=limits, **self._arguments)
