"""An empty cache for every test of the zoo, and a server that misbehaves on request."""

import pytest
from zoo_helpers import Server, clean_cache


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    return clean_cache(tmp_path, monkeypatch)


@pytest.fixture
def server():
    with Server() as running:
        yield running
