"""Fixtures of the tests of models."""

import pytest


@pytest.fixture(autouse=True)
def untraced(untraced_threads):
    """Threads of models are interrupted in many of these tests."""
