"""Which texts are there already, or nearly so.

Texts are compared as sets of words: two are near-duplicates where the Jaccard index of their sets,
shared words over all words, reaches a threshold. All such pairs are found, not only the likely
ones, and few others are looked at, by prefix filtering [1]_: order the words of all texts from rare
to frequent; two sets of which one has n words can only reach the threshold t if they share l of
their first n - ceil(t n) + l words. So l rare words together lead from a text to the few others
that are to be compared. Words are known by hash; everything is done for many texts at once.

References
----------
.. [1] J. Wang, G. Li, J. Feng, "Can we beat the prefix filtering? An adaptive framework for
   similarity join and search", SIGMOD 2012.
"""

import math
import re
import unicodedata
from functools import lru_cache
from itertools import combinations

import numpy as np

NEW, DUPLICATE, NEAR = "", "duplicate", "near-duplicate"

_CHUNK = 1 << 14
# A word's code: how frequent it is, in quarters of a power of two, before the bits of its hash.
_HASH_BITS, _CODE_BITS = 42, 48
_HASH_MASK = np.uint64((1 << _HASH_BITS) - 1)
_ROWS = 1 << 64 - _CODE_BITS
_BUCKETS = 1 << 18
# Where the pairs to compare are more than this times the texts, fewer texts are taken at a time.
_MOST_PAIRS = 64
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = ~_LOW
# How many rare words lead to others, for texts of up to so many words: many words are choosy, but
# long texts have too many combinations of them.
_BANDS = ((3, 17), (2, 60), (1, math.inf))

_BYTE_VALUES = np.random.default_rng(0).integers(1 << 63, size=256, dtype=np.uint64)
_BASE = 0x9E3779B97F4A7C15  # odd: has an inverse modulo 2**64
_IS_WORD = np.zeros(256, bool)
_IS_WORD[[*b"0123456789_abcdefghijklmnopqrstuvwxyz", *range(128, 256)]] = True
# Scripts without spaces: each of their characters is taken for a word.
_UNSPACED = re.compile("([\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff])")


class TextIndex:
    """Texts that are there, and whether further ones are duplicates of them.

    Parameters
    ----------
    threshold : float or None
        Jaccard index of two near-duplicates at least; None looks for equal texts alone. Texts are
        equal if their words are, without regard to case and punctuation.
    """

    def __init__(self, threshold):
        self.threshold = threshold
        self._seen = np.empty(0, np.uint64)  # sorted
        self._codes = np.empty(0, np.uint64)  # of all rows, one after the other
        self._starts = np.zeros(1, int)
        self._keys = np.empty(0, np.uint64)  # sorted; each with its row in the lower half
        self._levels, self._n_counted = np.zeros(_BUCKETS, np.uint64), 0

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
        chunks = (texts[i : i + _CHUNK] for i in range(0, len(texts), _CHUNK))
        return [status for chunk in chunks for status in self._add(chunk)]

    def _add(self, texts):
        words, starts = hash_words(texts)
        rows = np.repeat(np.arange(len(texts)), np.diff(starts))
        places = np.arange(len(rows)) - starts[rows]
        status = np.full(len(texts), NEW, object)
        status[self._repeated(np.add.reduceat(words * _factors(places), starts[:-1]))] = DUPLICATE
        if self.threshold is None:
            return status.tolist()
        words, rows = _distinct(words, rows)
        starts = np.searchsorted(rows, np.arange(len(texts)))
        near = self._repeated(np.add.reduceat(words, starts))
        status[near & (status == NEW)] = NEAR
        left = np.flatnonzero(status == NEW)
        status[left[self._near_among(words, rows, left)]] = NEAR
        return status.tolist()

    def _repeated(self, signatures):
        """Where a signature has been seen; all of them have been now."""
        order = np.argsort(signatures, kind="stable")
        found = signatures[order]
        seen = np.zeros(len(signatures), bool)
        seen[1:] = found[1:] == found[:-1]
        if len(self._seen):
            at = np.searchsorted(self._seen, found)
            at[at == len(self._seen)] = 0
            seen |= self._seen[at] == found
        repeated = np.empty(len(signatures), bool)
        repeated[order] = seen
        self._seen = _merged(self._seen, found[~seen])
        return repeated

    def _near_among(self, words, rows, some):
        """`_near` for some of the rows."""
        position = np.full(1 + rows.max(initial=-1), -1)
        position[some] = np.arange(len(some))
        kept = position[rows] >= 0
        return self._near(words[kept], position[rows[kept]], len(some))

    def _near(self, words, rows, n):
        """Find the texts with a neighbor before them, and add the others."""
        self._count(words, n)
        n_old = len(self._starts) - 1
        sizes = np.bincount(rows, minlength=n)
        starts = np.concatenate([self._starts, self._starts[-1] + np.cumsum(sizes)])
        codes = np.concatenate([self._codes, self._sorted_codes(words, rows)])
        keys = _prefix_keys(codes, starts, n_old, self.threshold)
        first, second = self._earlier(keys)
        near = np.zeros(n, bool)
        near[second[_are_alike(codes, starts, first, second, self.threshold)] - n_old] = True
        left = np.flatnonzero(~near)
        keys = keys[~near[_low_half(keys) - n_old]]
        if _n_pairs(keys) > _MOST_PAIRS * len(left):
            # Most are alike: what the first half leaves of them, the second is compared with.
            for part in np.array_split(left, 2):
                near[part] = self._near_among(words, rows, part)
            return near
        first, second = _pairs_within(keys)
        alike = _are_alike(codes, starts, first, second, self.threshold)
        near = refuse_neighbors(first[alike] - n_old, second[alike] - n_old, near)

        position = np.cumsum(~near) - 1
        key_rows = _low_half(keys) - n_old
        kept = ~near[key_rows]
        keys = (keys[kept] & _HIGH) + (n_old + position[key_rows[kept]]).astype(np.uint64)
        self._keys = _merged(self._keys, keys)
        codes = codes[self._starts[-1] :][np.repeat(~near, sizes)]
        self._codes = np.concatenate([self._codes, codes])
        self._starts = np.append(self._starts, self._starts[-1] + np.cumsum(sizes[~near]))
        return near

    def _count(self, words, n):
        """Order the words by how many texts have them; again when the texts have doubled.

        Any order finds all pairs; a good one looks at few.
        """
        n_old = len(self._starts) - 1
        if n_old + n <= 2 * self._n_counted:
            return
        self._n_counted = n_old + n
        old = self._codes & _HASH_MASK
        counts = np.bincount(_buckets(old), minlength=_BUCKETS)
        counts += np.bincount(_buckets(words), minlength=_BUCKETS)
        self._levels = np.minimum(4 * np.log2(1 + counts), 63).astype(np.uint64)
        rows = np.repeat(np.arange(n_old), np.diff(self._starts))
        self._codes = self._sorted_codes(old, rows)
        self._keys = _prefix_keys(self._codes, self._starts, 0, self.threshold)

    def _sorted_codes(self, words, rows):
        """The words' codes, in each row from rare to frequent."""
        codes = self._levels[_buckets(words)] << np.uint64(_HASH_BITS) | words
        for first in range(0, rows[-1] + 1 if len(rows) else 0, _ROWS):
            some = slice(*np.searchsorted(rows, [first, first + _ROWS]))
            codes[some] = _sort_in_rows(codes[some], rows[some] - first)[0]
        return codes

    def _earlier(self, keys):
        """Pairs of a row that is there and a new one that share a key."""
        keys, rows = keys & _HIGH, _low_half(keys)
        low = np.searchsorted(self._keys, keys)
        counts = np.searchsorted(self._keys, keys | _LOW, "right") - low
        return _distinct_pairs(_low_half(self._keys[_spans(low, counts)]), np.repeat(rows, counts))


def hash_words(texts):
    """Hash the words of texts.

    Parameters
    ----------
    texts : list of str

    Returns
    -------
    words : ndarray of uint64
        Of all texts, one after the other. A text without a word is one.
    starts : ndarray of int of shape (n_texts + 1,)
        Where the words of each text start.
    """
    folded = [text if text.isascii() else _fold(text) for text in texts]
    # Few are not ASCII: the others are encoded, and put into lower case, all at once.
    lengths = [len(t) if t.isascii() else len(t.encode(errors="replace")) for t in folded]
    encoded = " ".join([*folded, ""]).encode(errors="replace").lower()
    buffer = np.frombuffer(encoded, np.uint8)
    is_word = np.concatenate([[False], _IS_WORD[buffer], [False]])
    edges = np.flatnonzero(is_word[1:] != is_word[:-1])
    begin, end = edges[::2], edges[1::2]
    # The hash of bytes b_0 b_1 ... is the sum of value[b_i] base**i, from sums over the buffer.
    powers, inverse = _powers(max(1 << 20, 1 << len(buffer).bit_length()))
    sums = np.zeros(len(buffer) + 1, np.uint64)
    np.cumsum(_BYTE_VALUES[buffer] * powers[: len(buffer)], out=sums[1:])
    words = _mixed((sums[end] - sums[begin]) * inverse[begin])
    text_starts = np.concatenate([[0], np.cumsum(np.array(lengths, int) + 1)])
    starts = np.searchsorted(begin, text_starts)
    wordless = np.flatnonzero(np.diff(starts) == 0)
    if len(wordless):
        codes = [hash(texts[i]) & (1 << 63) - 1 | 1 for i in wordless]
        words = np.insert(words, starts[wordless], np.array(codes, np.uint64))
        starts[1:] += np.cumsum(np.diff(starts) == 0)
    return words, starts


def _fold(text):
    text = unicodedata.normalize("NFKC", text).casefold()
    return _UNSPACED.sub(r" \1 ", re.sub(r"\W+", " ", text)) or text


@lru_cache(maxsize=1)
def _powers(n):
    """The first n powers of the base and of its inverse, modulo 2**64."""
    factors = np.array([[_BASE], [pow(_BASE, -1, 1 << 64)]], np.uint64)
    powers = np.repeat(factors, n, axis=1)
    powers[:, 0] = 1
    return np.multiply.accumulate(powers, axis=1)


def _mixed(values):
    """Spread the bits: the low ones of a product only know the low ones of its factors."""
    values = (values ^ (values >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(32))


def _factors(places):
    """A factor for each place of a word in its text."""
    return _mixed(places.astype(np.uint64) * np.uint64(2) + np.uint64(1)) | np.uint64(1)


def _distinct(words, rows):
    """Each word of a text once; of its hash what goes into a code."""
    words, rows = _sort_in_rows(words & _HASH_MASK, rows)
    first = np.ones(len(words), bool)
    first[1:] = (words[1:] != words[:-1]) | (rows[1:] != rows[:-1])
    return words[first], rows[first]


def _sort_in_rows(codes, rows):
    """Sort the codes of each row by one sort of integers, the row before the code.

    At most `_ROWS` rows: there are no more bits.
    """
    both = np.sort(rows.astype(np.uint64) << np.uint64(_CODE_BITS) | codes)
    return both & np.uint64((1 << _CODE_BITS) - 1), (both >> np.uint64(_CODE_BITS)).astype(int)


def _merged(first, second):
    """Merge two sorted arrays: a stable sort is quickest at that."""
    return np.sort(np.concatenate([first, second]), kind="stable")


def _buckets(words):
    return (words & np.uint64(_BUCKETS - 1)).astype(int)


def _low_half(keys):
    return (keys & _LOW).astype(int)


def _spans(starts, counts):
    """The positions start, start + 1, ... of each span, one after the other."""
    return np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)


def _prefix_keys(codes, starts, first_row, threshold):
    """Keys of the rows from `first_row` on, sorted, each with its row in the lower half.

    Rows that reach the threshold, but are not equal, share a key in the band of the larger one.
    """
    sizes = np.diff(starts)[first_row:]
    found = [np.empty(0, np.uint64)]
    for size in np.flatnonzero(np.bincount(sizes)):
        own = first_row + np.flatnonzero(sizes == size)
        words = codes[starts[own][:, None] + np.arange(size)]
        n_spare = size - math.ceil(threshold * size - 1e-9)
        previous = 0.0
        for n_shared, most in _BANDS:
            # Two sets of this size or more share n_shared words if they reach the threshold.
            if n_shared > 1 and threshold <= 1 - 1 / n_shared:
                continue
            if threshold * previous < size <= most and n_spare + n_shared <= size:
                chosen = np.array([*combinations(range(n_spare + n_shared), n_shared)])
                keys = np.full((len(own), len(chosen)), n_shared, np.uint64)
                for column in chosen.T:
                    keys = _mixed(keys + words[:, column])
                found.append(((keys & _HIGH) + own[:, None].astype(np.uint64)).ravel())
            previous = most
    return np.sort(np.concatenate(found))


def _n_pairs(keys):
    """How many pairs `_pairs_within` would look at."""
    edges = np.flatnonzero(np.diff(keys & _HIGH, prepend=_LOW, append=_LOW))
    counts = np.diff(edges)
    return np.sum(counts * (counts - 1)) // 2


def _pairs_within(keys):
    """Pairs of new rows, the earlier one first, that share a key."""
    keys, rows = keys & _HIGH, _low_half(keys)
    first, second = [np.empty(0, int)], [np.empty(0, int)]
    step, where = 1, np.arange(len(keys) - 1)
    while len(where := where[where + step < len(keys)]):
        where = where[keys[where] == keys[where + step]]
        first.append(rows[where])  # rows of a key are sorted
        second.append(rows[where + step])
        step += 1
    return _distinct_pairs(np.concatenate(first), np.concatenate(second))


def _distinct_pairs(first, second):
    pairs = np.sort(first << 32 | second)
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    return pairs >> 32, pairs & 0xFFFFFFFF


def _are_alike(codes, starts, first, second, threshold):
    """Which pairs of rows reach the threshold."""
    sizes = np.diff(starts)
    total = sizes[first] + sizes[second]
    least = np.ceil(threshold / (1 + threshold) * total - 1e-9)
    alike = least <= np.minimum(sizes[first], sizes[second])
    open_ = np.flatnonzero(alike)
    for i in range(0, len(open_), _ROWS):
        some = open_[i : i + _ROWS]
        words = [_words_of_pairs(codes, starts, rows[some]) for rows in (first, second)]
        both = _merged(*words)
        shared = both[1:][both[1:] == both[:-1]] >> np.uint64(_CODE_BITS)
        alike[some] = np.bincount(shared.astype(int), minlength=len(some)) >= least[some]
    return alike


def _words_of_pairs(codes, starts, rows):
    """The codes of rows, each with the position of its pair in the upper bits."""
    sizes = starts[rows + 1] - starts[rows]
    pairs = np.repeat(np.arange(len(rows)).astype(np.uint64) << np.uint64(_CODE_BITS), sizes)
    return codes[_spans(starts[rows], sizes)] | pairs


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
