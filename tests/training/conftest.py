import pytest
from small_networks import build, train, weights


@pytest.fixture(scope="session")
def trained():
    """An autoencoder trained with act 2's own function, its history and its initial weights."""
    return (*train(), weights(build()))
