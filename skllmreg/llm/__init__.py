"""Ask language models: pay once, never lose an answer, never show a key."""

from skllmreg.llm._adapt import as_chat
from skllmreg.llm._chat import ChatModel
from skllmreg.llm._embed import EmbeddingModel
from skllmreg.llm._local import LocalServer
from skllmreg.llm._quote import quote_search
from skllmreg.llm._values import (
    LabelProbabilities,
    LanguageModel,
    Quote,
    Record,
    Reply,
    Request,
    Usage,
)

__all__ = [
    "ChatModel",
    "EmbeddingModel",
    "LabelProbabilities",
    "LanguageModel",
    "LocalServer",
    "Quote",
    "Record",
    "Reply",
    "Request",
    "Usage",
    "as_chat",
    "quote_search",
]
