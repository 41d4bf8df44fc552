"""What the tests of the simulators share."""

import pytest

from sctseg7t.simulate.anatomy import load_bank


@pytest.fixture(scope="session")
def bank():
    """The parametric cords take seconds to draw."""
    return load_bank(["parametric"])
