"""Students for texts, for any of the families."""

from skllmreg.students._sentence_encoder import SentenceEncoder
from skllmreg.students._seq2seq import Seq2SeqTransformer
from skllmreg.students._text import TextClassifier
from skllmreg.students._transformer import TransformerClassifier

__all__ = ["SentenceEncoder", "Seq2SeqTransformer", "TextClassifier", "TransformerClassifier"]
