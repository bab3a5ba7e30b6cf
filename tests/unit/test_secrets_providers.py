"""Vault and AWS Secrets Manager over real HTTP: forms of keys, ways to log in, what is missing, what fails."""

from __future__ import annotations

import json
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer
from support.secret_values import found_in, made
from support.vault_server import JWT, SECRET_ID, TOKEN, VaultServer

from agnt5 import ConfigurationError, SecretNotFoundError, SecretProviderError
from agnt5.contracts.masking import MASKER, masked
from agnt5.secrets import AwsSecrets, SecretProvider, VaultSecrets
from agnt5.secrets.places import LocalSecrets
from agnt5.secrets.reader import SecretReader

VALUE = made("provided")


@pytest.fixture(autouse=True)
def known():
    before = dict(MASKER._values)
    yield
    MASKER.forget()
    MASKER.learn_all((name, value) for value, name in before.items())


@pytest.fixture
def vault() -> Iterator[VaultServer]:
    with VaultServer(
        v2={"apps/shop": {"db_password": VALUE, "port": 5432}, "api_key": {"value": VALUE}},
        v1={"api_key": {"value": VALUE}},
    ) as server:
        yield server


def read(provider: SecretProvider, key: str) -> str:
    return SecretReader(LocalSecrets("/nowhere", {}), [provider]).get(key)


# ---- Vault


def test_the_forms_of_keys(vault):
    each = VaultSecrets(vault.url, token=TOKEN)
    assert read(each, "api_key") == VALUE
    assert read(each, "apps/shop#db_password") == VALUE
    assert read(each, "apps/shop#port") == "5432"
    one = VaultSecrets(vault.url, token=TOKEN, path="apps/shop")
    assert read(one, "db_password") == VALUE
    assert read(one, "api_key#value") == VALUE
    assert [asked.path for asked in vault.asked] == [
        "secret/data/api_key", *["secret/data/apps/shop"] * 3, "secret/data/api_key",
    ]  # fmt: skip


def test_the_older_engine(vault):
    assert read(VaultSecrets(vault.url, token=TOKEN, mount="old", version=1), "api_key") == VALUE


@pytest.mark.parametrize("key", ["nothing", "apps/shop#user", "apps/shop", "gone"])
def test_what_vault_does_not_have(vault, key):
    vault.deleted.add("gone")
    with pytest.raises(SecretNotFoundError, match=r"vault \(secret/\S+, field \w+\)"):
        read(VaultSecrets(vault.url, token=TOKEN), key)


def test_logins_are_renewed_when_they_have_run_out(vault, tmp_path):
    (tmp_path / "jwt").write_text(JWT + "\n")
    for provider in (
        VaultSecrets(vault.url, role_id="shop", secret_id=SECRET_ID),
        VaultSecrets(vault.url, kubernetes_role="shop", kubernetes_token=str(tmp_path / "jwt"), auth_mount="k8s"),
    ):
        logins = vault.logins
        assert [read(provider, "api_key") for _ in range(3)] == [VALUE] * 3
        assert vault.logins == logins + 1
        vault.expire()
        assert read(provider, "api_key") == VALUE
        assert vault.logins == logins + 2
    for number in range(1, 5):
        assert masked(made(f"login-{number}", prefix="hvs.")) == "[secret:vault_token]"
    assert masked(f"{SECRET_ID}") == "[secret:vault_secret_id]"


def test_settings_of_the_environment(vault, monkeypatch):
    vault.namespace = "team-a"
    monkeypatch.setenv("VAULT_ADDR", vault.url)
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    monkeypatch.setenv("VAULT_NAMESPACE", "team-a")
    assert read(VaultSecrets(), "api_key") == VALUE
    assert vault.asked[-1].namespace == "team-a"
    monkeypatch.delenv("VAULT_TOKEN")
    with pytest.raises(ConfigurationError, match="how to log in"):
        VaultSecrets()
    with pytest.raises(ConfigurationError, match="version: expected 1 or 2, found 3"):
        VaultSecrets(token=TOKEN, version=3)


def test_failures_of_vault_are_told_without_secrets(vault):
    with pytest.raises(SecretProviderError, match=r"secret 'api_key': vault failed \(Forbidden: permission denied"):
        read(VaultSecrets(vault.url, token=made("wrong", prefix="hvs.")), "api_key")
    bad = VaultSecrets(vault.url, role_id="other", secret_id=SECRET_ID)
    with pytest.raises(SecretProviderError, match="vault failed .*invalid login") as failed:
        read(bad, "api_key")
    assert not found_in(str(failed.value))
    vault.fault = (503, "Vault is sealed")
    with pytest.raises(SecretProviderError, match=r"vault failed \(VaultDown: Vault is sealed"):
        read(VaultSecrets(vault.url, token=TOKEN), "api_key")
    vault.fault = None
    vault.gate.clear()
    with pytest.raises(SecretProviderError, match="vault failed .*timed out"):
        read(VaultSecrets(vault.url, token=TOKEN, timeout_s=0.1), "api_key")
    vault.gate.set()
    with pytest.raises(SecretProviderError, match="vault failed .*refused"):
        read(VaultSecrets("http://127.0.0.1:1", token=TOKEN), "api_key")


# ---- AWS


@pytest.fixture(scope="module")
def aws_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(aws_url, monkeypatch) -> Iterator[AwsSecrets]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", made("aws"))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    client = boto3.session.Session().client("secretsmanager", endpoint_url=aws_url, region_name="eu-west-1")
    for name, value in {
        "prod/plain": {"SecretString": VALUE},
        "prod/db": {"SecretString": json.dumps({"password": VALUE, "port": 5432})},
        "prod/binary": {"SecretBinary": VALUE.encode()},
    }.items():
        client.create_secret(Name=name, **value)
    yield AwsSecrets(prefix="prod/", region="eu-west-1", endpoint_url=aws_url)
    for name in ("plain", "db", "binary"):
        client.delete_secret(SecretId=f"prod/{name}", ForceDeleteWithoutRecovery=True)


def test_secrets_of_aws(aws, aws_url):
    assert read(aws, "plain") == VALUE
    assert read(aws, "binary") == VALUE
    assert read(aws, "db#password") == VALUE
    assert read(aws, "db#port") == "5432"
    assert json.loads(read(aws, "db"))["password"] == VALUE
    client = boto3.session.Session().client("secretsmanager", endpoint_url=aws_url, region_name="eu-west-1")
    arn = client.describe_secret(SecretId="prod/db")["ARN"]
    assert read(aws, f"{arn}#password") == VALUE
    for key in ("nothing", "db#user"):
        with pytest.raises(SecretNotFoundError, match=r"aws \(secret prod/"):
            read(aws, key)


def test_failures_of_aws_are_told_without_secrets(aws, aws_url):
    with pytest.raises(
        SecretProviderError, match=r"aws failed \(ValueError: the secret prod/plain is no JSON object"
    ) as failed:
        read(aws, "plain#password")
    assert not found_in(str(failed.value))
    with pytest.raises(SecretProviderError, match=r"aws failed \(EndpointConnectionError"):
        read(AwsSecrets(region="eu-west-1", endpoint_url="http://127.0.0.1:1", timeout_s=0.2), "plain")
    with pytest.raises(SecretProviderError, match=r"aws failed \(NoRegionError"):
        read(AwsSecrets(endpoint_url=aws_url), "plain")
