"""Find texts that are there already, or nearly so: by their words, and by what they mean.

Two texts are near-duplicates where the Jaccard index of their sets of words, shared words over all
words, reaches a threshold; with a sentence encoder, also where the cosine of their vectors does.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict

import numpy as np

NEW, DUPLICATE, NEAR = "", "duplicate", "near-duplicate"

# Cosine of two texts that say the same. On questions and intents, .9 also joins different ones.
SAME_MEANING = 0.95
# Texts whose vectors are compared with all others at a time.
_BLOCK = 1024
# Scripts without spaces: each of their characters is taken for a word.
_UNSPACED = re.compile("([\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff])")


class TextIndex:
    """Texts that are there, and whether further ones are duplicates of them.

    Parameters
    ----------
    threshold : float or None
        Jaccard index, above 0, from which two texts are near-duplicates; None looks for equal texts
        alone. Texts are equal if their words are, without regard to case and punctuation.
    encoder : transformer of texts, default=None
        A fitted sentence encoder; None compares words alone.
    """

    def __init__(self, threshold, encoder=None):
        self.threshold = threshold
        self.encoder = None if threshold is None else encoder
        self._seen: set[tuple[str, ...]] = set()
        self._n_texts: Counter[str] = Counter()  # in which a word is
        # Texts by a word that they have and by how many they have.
        self._having: dict[str, dict[int, list[set[str]]]] = defaultdict(dict)
        self._vectors: list[np.ndarray] = []

    def add(self, texts):
        """Add texts, in their order; what is refused is not added.

        Parameters
        ----------
        texts : list of str

        Returns
        -------
        list of str
            "", "duplicate" or "near-duplicate".
        """
        statuses = []
        for first in range(0, len(texts), _BLOCK):
            block = texts[first : first + _BLOCK]
            means_same = self._same_meaning(block)
            added: list[int] = []
            for i, text in enumerate(block):
                words = split_words(text)
                if tuple(words) in self._seen:
                    statuses.append(DUPLICATE)
                    continue
                self._seen.add(tuple(words))
                if self.threshold is None:
                    statuses.append(NEW)
                elif self._is_near(set(words)) or means_same(i, added):
                    statuses.append(NEAR)
                else:
                    statuses.append(NEW)
                    self._keep(set(words))
                    added.append(i)
            if self.encoder is not None:
                self._vectors.append(self._block[added])
        return statuses

    def _keep(self, words):
        self._n_texts.update(words)
        for word in words:
            self._having[word].setdefault(len(words), []).append(words)

    def _is_near(self, words):
        """Whether the words are nearly those of a text that is kept.

        A set of m words reaches the threshold t with these n only if they share s = t (n + m) /
        (1 + t). So it has one of any n - s + 1 of them: the rarest lead to few others.
        """
        n, t = len(words), self.threshold
        rare = sorted(words, key=self._n_texts.__getitem__)
        for place, word in enumerate(rare[: n - math.ceil(t * n - 1e-9) + 1]):
            for size, others in self._having.get(word, {}).items():
                n_shared = math.ceil(t / (1 + t) * (n + size) - 1e-9)
                if n_shared <= min(size, n - place) and any(
                    len(words & other) >= n_shared for other in others
                ):
                    return True
        return False

    def _same_meaning(self, block):
        """Compare a block's vectors with those that are kept, and with each other."""
        if self.encoder is None:
            return lambda i, added: False
        vectors = np.asarray(self.encoder.transform(np.array(block, dtype=object)))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self._block = vectors / np.where(lengths == 0, 1, lengths)
        near_old = np.zeros(len(block), bool)
        for kept in self._vectors:
            if len(kept):
                near_old |= (self._block @ kept.T).max(axis=1) >= SAME_MEANING
        near = self._block @ self._block.T >= SAME_MEANING
        return lambda i, added: bool(near_old[i] or near[i, added].any())


def split_words(text):
    """Split a text into words; one without any is a word."""
    if not text.isascii():
        text = _UNSPACED.sub(r" \1 ", unicodedata.normalize("NFKC", text).casefold())
    return re.findall(r"\w+", text.lower()) or [text]


def refuse_neighbors(first, second, refused):
    """Refuse in order what is near to a row that stays.

    Parameters
    ----------
    first, second : ndarray of shape (n_pairs,)
        Neighbors, the earlier one and the later one.
    refused : ndarray of bool of shape (n_rows,)
        Those near to a row that is there already.

    Returns
    -------
    ndarray of bool of shape (n_rows,)
    """
    refused = refused.copy()
    order = np.argsort(second, kind="stable")
    for i, j in zip(first[order].tolist(), second[order].tolist(), strict=True):
        if not refused[i]:
            refused[j] = True
    return refused
