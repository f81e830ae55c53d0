import pytest

from skllmreg import ChatModel
from tests.interop.patients import score


@pytest.fixture
def llm(loopback, tmp_path):
    """An LLM that scores patients; its cache is named, as workers may be those of another test."""
    loopback.reply = score
    return ChatModel("tiny", base_url=loopback.base_url, cache=tmp_path / "answers.sqlite3")
