"""A provider of language models for the tests that ask one through LiteLLM."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.llm_server import LLMServer


@pytest.fixture(scope="module")
def provider_server() -> Iterator[LLMServer]:
    """One for a module's tests, where LiteLLM looks for it."""
    with LLMServer() as server, server.environment():
        yield server


@pytest.fixture
def models(provider_server: LLMServer) -> Iterator[LLMServer]:
    """It, without what other tests have told it and asked of it."""
    yield provider_server
    provider_server.clear()
