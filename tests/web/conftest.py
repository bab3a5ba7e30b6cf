"""One worker, one beat and one API for all tests of a process; what they leave behind has ids of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser_kit import browser as open_browser
from page_kit import Site
from playwright.sync_api import Browser
from support.cluster import Cluster, cluster_of, pytest_runtest_makereport
from web_kit import FOLDER, LINK_SECRET, Api, people

__all__ = ["pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A worker with the handlers of web_shop.py."""
    with cluster_of("web_shop", paths=[FOLDER]) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def api(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API with tokens."""
    path, secrets = people(tmp_path_factory.mktemp("tokens"))
    env = {"AGNT5_LINK_SECRET": LINK_SECRET}
    with Api(cluster.server.url, tokens=path, secrets=secrets, env=env) as api:
        yield api


@pytest.fixture
def ann(api: Api):
    """Somebody who may read, start, signal and decide, and has the role ops."""
    with api.client("ann") as client:
        yield client


@pytest.fixture(scope="session")
def page_cluster() -> Iterator[Cluster]:
    """A worker with the handlers of page_shop.py."""
    with cluster_of("page_shop", paths=[FOLDER]) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def site(page_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The pages, for people with tokens."""
    path, secrets = people(tmp_path_factory.mktemp("tokens"))
    with Site(page_cluster.server.url, tokens=path, secrets=secrets) as site:
        yield site


@pytest.fixture(scope="session")
def local_site(page_cluster: Cluster) -> Iterator[Site]:
    """The pages without tokens: whoever is on this machine may do all."""
    with Site(page_cluster.server.url) as site:
        yield site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium. While it is there its loop runs in this thread, where tests on asyncio need theirs."""
    with open_browser() as browser:
        yield browser
