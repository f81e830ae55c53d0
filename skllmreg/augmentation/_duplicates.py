"""Find rows that are there already, or nearly so: texts, several texts, and rows of a table.

Two texts are near-duplicates where the Jaccard index of their sets of words, shared words over all
words, reaches a threshold; with a sentence encoder, also where the cosine of their vectors does.
Rows of several texts are, where each of them is; rows of a table, where they are closer than most.
"""

import itertools
import math
import re
import unicodedata
from collections import Counter, defaultdict

import numpy as np
from scipy.sparse import csr_matrix, vstack
from scipy.spatial import cKDTree
from sklearn.feature_extraction.text import HashingVectorizer

from skllmreg.utils._text import words

NEW, DUPLICATE, NEAR = "", "duplicate", "near-duplicate"

# Cosine of two texts that say the same. On questions and intents, .9 also joins different ones.
SAME_MEANING = 0.95
# Texts whose vectors are compared with all others at a time.
_BLOCK = 1024
# Scripts without spaces: each of their characters is taken for a word.
_UNSPACED = re.compile("([\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff])")
N_WORDS = 2**20  # columns of hashed words, where several texts are compared
# Two categories are 1 apart: the coordinates of both differ. Two texts are never near.
_DIFFERENT = 0.5**0.5
_FAR = 1e6

# Where the pairs to compare are more than this times the rows, fewer rows are taken at a time.
_MOST_PAIRS = 64


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


class SeveralTextsIndex:
    """Rows of several texts: two are near-duplicates where each text is near to that of the other.

    A claim about the same premise is another row, however long the premise.

    Parameters
    ----------
    names : list
        The texts of a row.
    threshold : float or None
        Share of words in common (Jaccard index) from which two texts are near; None looks for equal
        rows alone.
    labeled : list of dict
    """

    def __init__(self, names, threshold, labeled):
        self.names, self.threshold = names, threshold
        self._hash = HashingVectorizer(
            n_features=N_WORDS, alternate_sign=False, norm=None, binary=True, token_pattern=r"\w+"
        )
        self._known = [csr_matrix((0, N_WORDS)) for _ in names]
        self._seen: set[tuple] = set()
        self.add(labeled)

    def add(self, rows):
        """Add rows, in their order; see `TextIndex.add`."""
        status = np.full(len(rows), NEW, object)
        for i, row in enumerate(rows):
            key = tuple(tuple(words(row.get(name) or "")) for name in self.names)
            if key in self._seen:
                status[i] = DUPLICATE
            self._seen.add(key)
        left = np.flatnonzero(status == NEW)
        if self.threshold is not None and len(left):
            status[left[self._near([rows[i] for i in left])]] = NEAR
        return status.tolist()

    def _near(self, rows):
        """Find the rows with a neighbor before them, and add the others."""
        new = [self._hash.transform([row.get(name) or "" for row in rows]) for name in self.names]
        near = np.zeros(len(rows), bool)
        _, second = self._pairs(self._known, new)
        near[second] = True
        first, second = self._pairs(new, new)
        earlier = first < second
        near = refuse_neighbors(first[earlier], second[earlier], near)
        self._known = [
            vstack([known, some[~near]]).tocsr()
            for known, some in zip(self._known, new, strict=True)
        ]
        return near

    def _pairs(self, known, new):
        """Return the pairs of rows all of whose texts are near."""
        alike: list[set[tuple[int, int]]] = []
        for old, some in zip(known, new, strict=True):
            shared = (old @ some.T).tocoo()
            n_old, n_new = old.getnnz(axis=1), some.getnnz(axis=1)
            union = n_old[shared.row] + n_new[shared.col] - shared.data
            kept = shared.data >= self.threshold * union - 1e-9
            found = set(zip(shared.row[kept].tolist(), shared.col[kept].tolist(), strict=True))
            # Two texts without a word are alike.
            empty = itertools.product(np.flatnonzero(n_old == 0), np.flatnonzero(n_new == 0))
            alike.append(found | {(int(i), int(j)) for i, j in empty})
        pairs = np.array(sorted(set.intersection(*alike)), dtype=int).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


class RowIndex:
    """Rows that are there, and whether further ones are duplicates of them.

    Numbers are measured in standard deviations of the labeled rows, a category counts 1 where it
    differs, so does a missing value. How near is too near depends on the table: with the threshold
    t, a row is a near-duplicate if it is closer to another than 1 - t times the median distance
    from a labeled row to its nearest one.

    Parameters
    ----------
    schema : TableSchema
    labeled : list of dict
        They are there.
    threshold : float or None
        None looks for equal rows alone.
    """

    def __init__(self, schema, labeled, threshold):
        self.schema = schema
        self._scales = dict.fromkeys(range(len(schema.columns)), 1.0)
        self._codes = {}
        for i, column in enumerate(schema.columns):
            if column.kind in ("integer", "number"):
                values = [row[column.name] for row in labeled if row.get(column.name) is not None]
                self._scales[i] = float(np.std(values)) or 1.0
        self._points = self._place(labeled)
        self._seen = set(map(self._key, labeled))
        self.radius = 0.0
        n_texts = sum(column.kind == "text" for column in schema.columns)
        if threshold is not None and len(labeled) > 1 and n_texts < len(schema.columns):
            points = self._points[:, : self._points.shape[1] - n_texts]
            nearest = cKDTree(points).query(points, k=2)[0][:, 1]
            self.radius = (1 - threshold) * float(np.median(nearest))

    def add(self, rows):
        """Add rows, in their order; what is refused is not added.

        Parameters
        ----------
        rows : list of dict
            Valid ones.

        Returns
        -------
        list of str
            "", "duplicate" or "near-duplicate".
        """
        points = self._place(rows)
        status = np.full(len(rows), NEW, object)
        for i, key in enumerate(map(self._key, rows)):
            if key in self._seen:
                status[i] = DUPLICATE
            self._seen.add(key)
        left = np.flatnonzero(status == NEW)
        status[left[self._near(points[left])]] = NEAR
        return status.tolist()

    def _near(self, points):
        """Find the points with a neighbor before them, and add the others."""
        near = np.zeros(len(points), bool)
        if self.radius and len(points):
            old = cKDTree(self._points).query(points, distance_upper_bound=self.radius)[0]
            near = np.isfinite(old)
            left = np.flatnonzero(~near)
            tree = cKDTree(points[left])
            if tree.count_neighbors(tree, self.radius) > (1 + 2 * _MOST_PAIRS) * len(left):
                # Most are alike: what the first half leaves of them, the second is compared with.
                for part in np.array_split(left, 2):
                    near[part] = self._near(points[part])
                return near
            first, second = left[tree.query_pairs(self.radius, output_type="ndarray")].T
            near = refuse_neighbors(first, second, near)
        self._points = np.concatenate([self._points, points[~near]])
        return near

    def _place(self, rows):
        """The rows as points; columns of text come last."""
        coordinates, texts = [], []
        for i, column in enumerate(self.schema.columns):
            values = [row.get(column.name) for row in rows]
            if column.kind == "text":
                texts.append([_FAR * self._codes.setdefault(v, len(self._codes)) for v in values])
                continue
            coordinates.append([_DIFFERENT * (value is None) for value in values])
            if column.kind == "category":
                for category in column.categories.values():
                    coordinates.append([_DIFFERENT * (value == category) for value in values])
            else:
                scale = self._scales[i]
                coordinates.append([0.0 if v is None else float(v) / scale for v in values])
        coordinates += texts
        return np.array(coordinates, float).reshape(len(coordinates), len(rows)).T

    def _key(self, row):
        return tuple(row.get(column.name) for column in self.schema.columns)


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
