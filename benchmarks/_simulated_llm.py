"""A simulated LLM: it "writes" rows of a pool that the benchmark hides from the student.

What it does well and badly is stated, so that a method can be measured against the truth:

- it favors rows at the center of a class, which say it clearly (`center`);
- the rows of one request differ from each other (`variety`);
- it repeats itself, the more so the more it has written, at times in other words (`repeat_rate`,
  `reworded`);
- it writes rows of another class that look like the one asked for (`mislabel_rate`);
- it heeds feedback and the wish for something novel in a share of the rows (`follow`): then it
  writes near a row of the feedback, or what says the class least clearly;
- it recalls rows of a public data set word for word (`recall_rate`).

The defaults are set on the recorded questions of text/trec/generated.jsonl, before any method was
measured; `python benchmarks/generation.py --recorded` shows both side by side.
"""

import re
from collections import Counter, defaultdict
from numbers import Real

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

FIRST_ROWS = 12 * np.arange(4)  # of a class, before each of the four recorded rounds


class SimulatedLLM:
    """A callable `generator(request) -> rows`; make a new one for every fit, since it remembers.

    Parameters
    ----------
    pool : Pool
        The hidden rows.
    public, public_labels
        Rows that it may recall word for word, such as a test set, and their classes.
    repeat_rate : float
        Share of repeats among the first 48 rows of a class, written 12 at a time.
    reworded : float
        Share of the repeats that are changed a little.
    mislabel_rate, recall_rate : float
        Shares of the rows.
    follow : float
        Share of the rows that heed feedback, or the wish for something novel.
    center : float
        Preference for rows that say their class clearly: log-odds per standard deviation.
    variety : float
        Log-odds against a row that equals one of the same request; against one that is no more
        like it than any other row, 0.
    reach : float
        Share of the class's unwritten rows that counts as near a row of the feedback.

    Attributes
    ----------
    truth : dict
        The true class of every row written, by `key_of(row)`.
    kinds : Counter
        How many rows were "fresh", "followed", "novel", "repeat", "reworded", "mislabeled" and
        "recalled".
    """

    def __init__(
        self,
        pool,
        *,
        public=(),
        public_labels=(),
        repeat_rate=0.18,
        reworded=0.15,
        mislabel_rate=0.0,
        recall_rate=0.03,
        follow=0.4,
        center=1.0,
        variety=4.0,
        reach=0.05,
    ):
        self.pool = pool
        self.public = as_rows(public)
        self.public_labels = np.asarray(public_labels)
        self.repeat_scale = repeat_scale(repeat_rate)
        self.reworded = reworded
        self.mislabel_rate = mislabel_rate
        self.recall_rate = recall_rate
        self.follow = follow
        self.center = center
        self.variety = variety
        self.reach = reach
        self.truth = {}
        self.kinds = Counter()
        self.written = defaultdict(list)  # (row, its true class), by the class asked for
        self.used = np.zeros(len(pool.rows), dtype=bool)

    def __call__(self, request):
        rng = np.random.default_rng(request.random_state)
        before = list(self.written[request.label])
        self.likeness = np.zeros(len(self.used))  # of the pool to the rows of this request
        rows = []
        for _ in range(request.n_rows):
            row, label, kind = self._write(request, before, rng)
            self.truth.setdefault(key_of(row), label)
            self.kinds[kind] += 1
            self.written[request.label].append((row, label))
            rows.append(row)
        return rows

    def _write(self, request, before, rng):
        label, pool = request.label, self.pool
        of_class, clarity = pool.labels == label, pool.clarity[label]
        recallable = np.flatnonzero(self.public_labels == label)
        if len(recallable) and rng.random() < self.recall_rate:
            return self.public[rng.choice(recallable)], label, "recalled"
        if rng.random() < self.mislabel_rate:
            place = self._pick(~of_class, clarity, self.center, rng)
            return pool.rows[place], pool.labels[place], "mislabeled"
        heeds = rng.random() < self.follow
        if heeds and request.feedback:
            liked = request.feedback[rng.integers(len(request.feedback))]
            nearness = pool.nearness(pool.embed([liked])[0])
            left = of_class if self.used[of_class].all() else of_class & ~self.used
            limit = np.quantile(nearness[left], 1 - self.reach)
            place = self._pick(left & (nearness >= limit), clarity, 0, rng)
            return pool.rows[place], label, "followed"
        if heeds and request.novel:
            place = self._pick(of_class, clarity, -self.center, rng)
            return pool.rows[place], label, "novel"
        if rng.random() < 1 - np.exp(-len(before) / self.repeat_scale):
            row, true_label = before[rng.integers(len(before))]
            if rng.random() < self.reworded:
                return pool.reword(row, rng), true_label, "reworded"
            return row, true_label, "repeat"
        place = self._pick(of_class, clarity, self.center, rng)
        return pool.rows[place], label, "fresh"

    def _pick(self, allowed, clarity, strength, rng):
        """Draw a row of the pool that was not drawn before, unless none is left."""
        left = allowed & ~self.used
        places = np.flatnonzero(left if left.any() else allowed)
        logits = strength * clarity[places] / (clarity[allowed].std() + 1e-9)
        logits -= self.variety * self.likeness[places]
        odds = np.exp(logits - logits.max())
        place = rng.choice(places, p=odds / odds.sum())
        self.used[place] = True
        near = self.pool.nearness(self.pool.embedded[place])
        self.likeness = np.maximum(self.likeness, near)
        return place


class Pool:
    """Rows with their classes: which are alike, and how clearly each says its class.

    Clarity is the log-probability by a model of the whole pool.
    """

    def __init__(self, rows, labels):
        self.rows, self.labels = as_rows(rows), np.asarray(labels)
        self.is_text = isinstance(self.rows[0], str)
        if self.is_text:
            words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\w+|\?")
            features = words.fit_transform(self.rows)
            svd = TruncatedSVD(64, random_state=0).fit(features)
            self.space = make_pipeline(words, svd, Normalizer())
        else:
            table = pd.DataFrame(self.rows)
            self.limits = table.select_dtypes("number").agg(["min", "max"])
            self.columns = pd.get_dummies(table).columns
            self.space = StandardScaler().fit(self._numbers(self.rows))
            features = self.embed(self.rows)
        self.embedded = self.embed(self.rows)
        self.spread = 2 * self.embedded.var(axis=0).sum()
        model = LogisticRegression(max_iter=1000).fit(features, self.labels)
        self.clarity = dict(zip(model.classes_, model.predict_log_proba(features).T, strict=True))

    def _numbers(self, rows):
        table = pd.get_dummies(pd.DataFrame(rows))
        return table.reindex(columns=self.columns, fill_value=0).to_numpy(float)

    def embed(self, rows):
        if self.is_text:
            return self.space.transform(rows)
        return np.nan_to_num(self.space.transform(self._numbers(rows)))

    def nearness(self, point):
        """1 for rows in this place; 0 for the distance of two rows in the mean."""
        return 1 - np.square(self.embedded - point).sum(axis=1) / self.spread

    def reword(self, row, rng):
        """Change a word of a text, or a number of a table's row by a hundredth of its range."""
        if self.is_text:
            words = row.split()
            place = rng.integers(len(words))
            changes = [], [words[place]] * 2, ["exactly", words[place]]
            words[place : place + 1] = changes[rng.integers(3)]
            return " ".join(words) or row
        if self.limits.empty:
            return row
        column = rng.choice(self.limits.columns)
        least, greatest = self.limits[column]
        step = (greatest - least) / 100
        if isinstance(row[column], int):
            step = max(1, round(step))
        value = np.clip(row[column] + step * rng.choice([-1, 1]), least, greatest)
        return row | {column: type(row[column])(value)}


def as_rows(rows):
    """Texts as a list of str; of a data frame a list of {column: value}."""
    return rows.to_dict("records") if isinstance(rows, pd.DataFrame) else list(rows)


def key_of(row):
    """What is the same for rows that say the same: words of a text, values of a table's row."""
    if isinstance(row, str):
        return " ".join(re.findall(r"\w+", row.casefold()))
    return tuple(
        (column, round(float(value), 6) if isinstance(value, Real | np.bool_) else str(value))
        for column, value in sorted(row.items())
    )


def repeat_scale(rate):
    """Rows after which 63 % are repeats, so that the first four rounds have this share of them.

    The repeats of the recorded model follow 1 - exp(-rows / 100): .12, .21 and .30 after the first.
    """
    if rate == 0:
        return np.inf
    return brentq(lambda scale: np.mean(1 - np.exp(-FIRST_ROWS / scale)) - rate, 1, 1e6)
