"""A Vault for tests: real HTTP, with the parts of its API that read key/value secrets and log in; all asked is kept."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from support.secret_values import made

TOKEN = made("vault-token", prefix="hvs.")
SECRET_ID = made("vault-secret-id")
JWT = made("kubernetes-token")


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    namespace: str | None


@dataclass
class VaultServer:
    """`v2` and `v1` are what the engines `secret` and `old` hold: path -> fields. A path of `deleted` was deleted."""

    v2: dict[str, dict[str, Any]] = field(default_factory=dict)
    v1: dict[str, dict[str, Any]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    asked: list[Asked] = field(default_factory=list)
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    fault: tuple[int, str] | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    logins: int = 0
    namespace: str | None = None

    def __enter__(self) -> Self:
        self.gate.set()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def expire(self) -> None:
        """Every login has run out."""
        self.tokens = {TOKEN}

    # ---- its API

    def answer(self, method: str, path: str, token: str | None, namespace: str | None, body: Any) -> tuple[int, Any]:
        self.asked.append(Asked(method, path, namespace))
        self.gate.wait(20)
        if self.fault:
            return self.fault[0], {"errors": [self.fault[1]]}
        if method == "POST" and path in {"auth/approle/login", "auth/kubernetes/login", "auth/k8s/login"}:
            return self._login(path, body)
        if token not in self.tokens or namespace != self.namespace:
            return 403, {"errors": ["permission denied"]}
        if path.startswith("secret/data/"):
            return self._v2(path.removeprefix("secret/data/"))
        if path.startswith("old/") and (found := self.v1.get(path.removeprefix("old/"))) is not None:
            return 200, {"data": found}
        return 404, {"errors": []}

    def _v2(self, path: str) -> tuple[int, Any]:
        about = {"created_time": "2026-01-01T00:00:00Z", "deletion_time": "", "destroyed": False, "version": 1}
        if path in self.deleted:
            return 404, {"data": {"data": None, "metadata": {**about, "deletion_time": "2026-01-02T00:00:00Z"}}}
        if path not in self.v2:
            return 404, {"errors": []}
        return 200, {"data": {"data": self.v2[path], "metadata": about}}

    def _login(self, path: str, body: Any) -> tuple[int, Any]:
        right = {"role_id": "shop", "secret_id": SECRET_ID} if "approle" in path else {"role": "shop", "jwt": JWT}
        if body != right:
            return 400, {"errors": [f"invalid login {body}"]}
        self.logins += 1
        self.tokens.add(token := made(f"login-{self.logins}", prefix="hvs."))
        return 200, {"auth": {"client_token": token, "lease_duration": 60, "renewable": True, "policies": []}}


def _handler(server: VaultServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, found = server.answer(
                self.command,
                self.path.removeprefix("/v1/").partition("?")[0],
                self.headers.get("X-Vault-Token"),
                self.headers.get("X-Vault-Namespace"),
                json.loads(body) if body else None,
            )
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Silent."""

    return Handler
