import os
import sys

import pytest

from tests.loopback import Loopback, as_in_a_new_process

os.environ["MPLBACKEND"] = "agg"  # no test opens a window


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path, monkeypatch):
    """No test sees the user's cache, key or settings of the openai package."""
    monkeypatch.setenv("SKLLMREG_CACHE", str(tmp_path / "llm.sqlite3"))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    yield
    as_in_a_new_process()


@pytest.fixture
def loopback():
    """A server on 127.0.0.1 that answers chat completions; see tests/loopback.py."""
    server = Loopback()
    yield server
    server.close()
