"""Secrets of HashiCorp Vault (or OpenBao): key/value engines of both versions, three ways to log in."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from agnt5.contracts.errors import ConfigurationError
from agnt5.contracts.masking import MASKER
from agnt5.secrets.provider import split_key, text_of

KUBERNETES_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path


class VaultSecrets:
    """Reads Vault's key/value engine. A `SecretProvider`; opens no connection before the first secret is read.

    With `path` every key is a field of the one secret there: `VaultSecrets(path="apps/shop")` reads `db_password` from
    the field `db_password` of `apps/shop`. Without it each key is a secret of its own with one `field`. A key
    `apps/shop#db_password` says both itself.

    `url`, `token` and `namespace` default to VAULT_ADDR, VAULT_TOKEN and VAULT_NAMESPACE. Instead of a token give
    `role_id` and `secret_id` (AppRole), or `kubernetes_role`; `auth_mount` is where that method is mounted. A login
    that has run out is renewed. Needs `pip install 'agnt5-celery[vault]'`.
    """

    name = "vault"

    def __init__(  # noqa: PLR0913 - what there is to say about a server and a login
        self, url: str | None = None, *, token: str | None = None, role_id: str | None = None,
        secret_id: str | None = None, kubernetes_role: str | None = None, kubernetes_token: str = KUBERNETES_TOKEN,
        auth_mount: str | None = None, namespace: str | None = None, mount: str = "secret", version: int = 2,
        path: str = "", field: str = "value", timeout_s: float = 5.0, verify: bool | str = True,
    ) -> None:  # fmt: skip
        self._url = url or os.environ.get("VAULT_ADDR", "")
        self._token = token or ("" if role_id or kubernetes_role else os.environ.get("VAULT_TOKEN", ""))
        self._namespace = namespace or os.environ.get("VAULT_NAMESPACE") or None
        self._role_id, self._secret_id = role_id, secret_id
        self._kubernetes = (kubernetes_role, Path(kubernetes_token))
        self._auth_mount = auth_mount
        self._mount, self._version, self._path, self._field = mount, version, path.strip("/"), field
        self._timeout_s = timeout_s
        self._verify = os.environ.get("VAULT_CACERT") or verify if verify is True else verify
        self._lock = threading.Lock()
        self._client: Any = None
        self._check()
        MASKER.learn_all([("vault_token", self._token)] if self._token else [])
        MASKER.learn_all([("vault_secret_id", secret_id)] if secret_id else [])

    def _check(self) -> None:
        if not self._url:
            raise ConfigurationError("VaultSecrets: where is the server? Set VAULT_ADDR, or give url=")
        if self._version not in {1, 2}:
            raise ConfigurationError(f"VaultSecrets: version: expected 1 or 2, found {self._version!r}")
        if not (self._token or self._role_id or self._kubernetes[0]):
            raise ConfigurationError(
                "VaultSecrets: how to log in? Set VAULT_TOKEN, or give token=, role_id= and secret_id=, or"
                " kubernetes_role="
            )

    def fetch(self, key: str) -> str | None:
        """The value of a key; None where there is no such secret or field."""
        import hvac.exceptions  # noqa: PLC0415 - loaded on first use; `_logged_in` says how to install it

        path, field = self._place(key)
        client = self._logged_in()
        try:
            data = self._read(client, path)
        except (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized):
            if self._token:
                raise
            data = self._read(self._logged_in(instead_of=client), path)  # the login has run out
        return None if data is None else text_of(data.get(field))

    def place(self, key: str) -> str:
        """Path and field, as `vault kv get` takes them."""
        path, field = self._place(key)
        return f"{self._mount}/{path}, field {field}"

    def _place(self, key: str) -> tuple[str, str]:
        path, field = split_key(key)
        if field:
            return path.strip("/"), field
        return (self._path, path) if self._path else (path.strip("/"), self._field)

    def _read(self, client: Any, path: str) -> dict[str, Any] | None:
        import hvac.exceptions  # noqa: PLC0415

        try:
            if self._version == 1:
                found = client.secrets.kv.v1.read_secret(path, mount_point=self._mount)
                data = found["data"]
            else:
                found = client.secrets.kv.v2.read_secret_version(
                    path, mount_point=self._mount, raise_on_deleted_version=True
                )
                data = found["data"]["data"]
        except hvac.exceptions.InvalidPath:
            return None
        return dict(data or {})

    def _logged_in(self, instead_of: Any = None) -> Any:
        with self._lock:
            if self._client is None or self._client is instead_of:
                self._client = self._log_in()
            return self._client

    def _log_in(self) -> Any:
        try:
            import hvac  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                f"VaultSecrets needs hvac, which cannot be imported ({error}): pip install 'agnt5-celery[vault]'"
            ) from None
        client: Any = hvac.Client(
            url=self._url, token=self._token or None, namespace=self._namespace, timeout=self._timeout_s,
            verify=self._verify,
        )  # fmt: skip
        where = {"mount_point": self._auth_mount} if self._auth_mount else {}
        if not self._token:
            if self._role_id:
                client.auth.approle.login(self._role_id, self._secret_id, **where)
            else:
                role, file = self._kubernetes
                client.auth.kubernetes.login(role, file.read_text().strip(), **where)
            MASKER.learn("vault_token", client.token)
        return client
