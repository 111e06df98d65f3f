"""What a study promises, kept by the engine of this machine (study_promises.py)."""

import pytest
from study_promises import *  # noqa: F403 - the tests, and their fixture

pytestmark = pytest.mark.slow


@pytest.fixture
def on():
    """The flags of this engine: none."""
    return []
