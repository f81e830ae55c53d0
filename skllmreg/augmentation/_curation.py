"""What of the written rows enters the data."""

from collections import Counter
from typing import Any

from skllmreg.augmentation._duplicates import TextIndex
from skllmreg.augmentation._row_duplicates import RowIndex
from skllmreg.utils._text import clean_text, short_repr

# A text may have this many times the characters of the longest labeled one, and this many at
# least: what is longer is no text of its kind, whatever it is.
MOST_TIMES_LONGER = 20
MOST_CHARACTERS = 2000


class Curator:
    """Admits rows: valid, new, and within the quota of their class.

    Parameters
    ----------
    X : texts or table of shape (n_samples, n_features)
        The labeled rows: no row may repeat them.
    schema : TableSchema, default=None
        None for texts.
    duplicate_threshold : float or None, default=0.8
        Rows at least so similar to one that is there are refused: texts by their shared words
        (Jaccard index), rows of a table by their distance (see `RowIndex`). None refuses equal ones
        alone.
    quotas : dict of label to int, default=None
        How many rows of a class are taken at most.
    """

    def __init__(self, X, *, schema=None, duplicate_threshold=0.8, quotas=None):
        self.schema = schema
        self.quotas = quotas or {}
        self.n_admitted: Counter[Any] = Counter()
        if schema is None:
            texts = [clean_text(text) for text in X]
            longest = max(map(len, texts), default=0)
            self.most_characters = max(MOST_TIMES_LONGER * longest, MOST_CHARACTERS)
            self._index: TextIndex | RowIndex = TextIndex(duplicate_threshold)
            self._index.add(texts)
        else:
            self._index = RowIndex(schema, schema.rows(X), duplicate_threshold)

    def admit(self, rows, labels):
        """Check rows, and remember those that are accepted.

        Parameters
        ----------
        rows : list
            Clean, as an `Answer` has them.
        labels : sequence of shape (n_rows,)

        Returns
        -------
        list of str
            "" for what is accepted; else the reason, which begins with "invalid", "duplicate",
            "near-duplicate" or "quota".
        """
        problem = self._text_problem if self.schema is None else self.schema.problem
        reasons = [f"invalid: {found}" if (found := problem(row)) else "" for row in rows]
        valid = [i for i, reason in enumerate(reasons) if not reason]
        for i, status in zip(valid, self._index.add([rows[i] for i in valid]), strict=True):
            reasons[i] = status or self._take(labels[i])
        return reasons

    def release(self, labels):
        """Give back the quota of rows that were accepted and then thrown out for their label."""
        self.n_admitted.subtract(labels)

    def _take(self, label):
        if self.n_admitted[label] >= self.quotas.get(label, float("inf")):
            return "quota"
        self.n_admitted[label] += 1
        return ""

    def _text_problem(self, text):
        if not isinstance(text, str):
            return f"{short_repr(text)} is no text"
        if len(text) > self.most_characters:
            return f"{len(text):,} characters, more than {self.most_characters:,}"
        if text != clean_text(text):
            return "it is not in its clean form"
        return "" if any(map(str.isalnum, text)) else "it holds no word"
