"""What Prometheus would read of a process."""

from __future__ import annotations

import socket
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from support.waiting import until_sync


def free_port() -> int:
    """A port of this machine that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer of `/metrics`."""

    text: str
    samples: list[Any] = field(default_factory=list)

    def value(self, name: str, **labels: str) -> float | None:
        """A sample's value, None where there is none. A sample's labels are `labels` and no others."""
        found = [one.value for one in self.samples if one.name == name and one.labels == labels]
        assert len(found) <= 1, (name, labels, found)
        return found[0] if found else None

    def sum(self, name: str, **labels: str) -> float:
        """The sum over all samples that have these labels."""
        return sum(one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items())

    def of(self, name: str) -> list[dict[str, str]]:
        """The labels of all samples of a name."""
        return [one.labels for one in self.samples if one.name == name]

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return {one.name for one in self.samples}


def fetch(port: int, accept: str = "text/plain", path: str = "/metrics") -> tuple[str, str]:
    """Content type and text."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as response:
        return response.headers["Content-Type"], response.read().decode("utf-8")


def scrape(port: int) -> Scrape:
    """Read a process's metrics; waits until it serves them."""

    def read() -> str | None:
        try:
            return fetch(port)[1]
        except ConnectionError:
            return None
        except OSError as error:
            if isinstance(getattr(error, "reason", None), ConnectionError):
                return None
            raise

    text = until_sync(read, 20.0, f"metrics are served at port {port}")
    families = text_string_to_metric_families(text)
    return Scrape(text, [sample for family in families for sample in family.samples])
