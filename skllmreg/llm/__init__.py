"""The edge to the LLM: pay once, never lose an answer, never leak a key."""

from skllmreg.llm._chat import ChatModel
from skllmreg.llm._local import LocalServer
from skllmreg.llm._reply import LabelProbabilities, Quote, Reply, Usage

__all__ = ["ChatModel", "LabelProbabilities", "LocalServer", "Quote", "Reply", "Usage"]
