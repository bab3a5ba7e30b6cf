"""A failed test of this folder shows what the processes said."""

from support.cluster import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]
