"""The course's classroom: one Celery worker and one beat, which know the handlers of all lessons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster, Node, pytest_runtest_makereport

from agnt5 import Client

__all__ = ["pytest_runtest_makereport"]

HERE = Path(__file__).parent
ON_THEIR_OWN = {"test_11_changing_code", "test_13_cron"}
"""Lessons that bring processes of their own."""

LESSONS = sorted({path.stem for path in HERE.glob("test_*.py")} - ON_THEIR_OWN)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """`celery -A cluster_app worker` and `celery -A cluster_app beat`."""
    with Cluster(LESSONS, paths=[HERE]) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


@pytest.fixture
def client(cluster: Cluster) -> Client:
    """What a web application would have: it starts runs and reads them."""
    return cluster.client


@pytest.fixture
def worker(cluster: Cluster) -> Node:
    """The worker process, to be killed."""
    return cluster.nodes[0]
