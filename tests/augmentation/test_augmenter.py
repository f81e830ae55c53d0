import json
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skllmreg import GOLDAugmenter
from skllmreg.augmentation import energy_score
from skllmreg.augmentation._schema import TableSchema
from skllmreg.exceptions import (
    BudgetExceededError,
    GenerationError,
    GenerationStoppedWarning,
    NoLLMWarning,
)
from skllmreg.students import TextClassifier
from tests.augmentation.writers import TEXTS, TOPICS, WORDS, TableWriter, TextWriter, table

# One request for other topics for each of the two classes: what the paper has one of.
PAPER = {"random_state": 0, "strategy": "gold", "n_novel_batches": 2}


def fitted(writer=None, **params):
    writer = TextWriter() if writer is None else writer
    model = GOLDAugmenter(generator=writer, **(PAPER | {"n_rounds": 4} | params))
    return model.fit(TEXTS, TOPICS), writer


class Repeater(TextWriter):
    """Writes the same row of a class again and again, from a certain request on."""

    def __init__(self, since=0):
        super().__init__()
        self.since = since

    def rows(self, request, rng):
        if request.number < self.since:
            return super().rows(request, rng)
        return [f"always the same {request.label}"] * request.n_rows


# What comes back

TEXT_CONTAINERS = [
    list,
    tuple,
    lambda X: np.array(X, dtype=object),
    np.array,
    lambda X: pd.Series(X, index=np.arange(len(X)) + 7, name="message"),
    lambda X: pl.Series("message", X),
]


@pytest.mark.parametrize("container", TEXT_CONTAINERS)
def test_texts_come_back_as_they_were_with_the_generated_ones_after_them(container):
    X = container(TEXTS)
    model = GOLDAugmenter(generator=TextWriter(), n_rounds=1, random_state=0)
    X_new, y_new = model.fit_resample(X, TOPICS)
    assert type(X_new) is type(X)
    assert list(X_new) == TEXTS + list(model.X_generated_)
    assert y_new == TOPICS + model.y_generated_.tolist()
    assert all(isinstance(text, str) for text in X_new)
    if isinstance(X, pd.Series | np.ndarray):
        assert X_new.dtype.kind == X.dtype.kind
    if isinstance(X, pd.Series):
        assert X_new.name == "message"
        assert X_new.index.tolist() == list(range(7, 7 + len(X_new)))


@pytest.mark.parametrize(
    "X", [pd.Series(TEXTS, dtype="category"), pl.Series("message", TEXTS, dtype=pl.Enum(TEXTS))]
)
def test_texts_that_come_as_categories_are_not_lost(X):
    model = GOLDAugmenter(generator=TextWriter(), n_rounds=1, random_state=0)
    X_new, _ = model.fit_resample(X, TOPICS)
    assert list(X_new) == TEXTS + list(model.X_generated_)


@pytest.mark.parametrize("polars", [False, True])
def test_tables_keep_columns_and_dtypes(polars):
    X, y = table()
    X = pl.DataFrame(X.to_dict("list")) if polars else X.astype({"color": "category"})
    model = GOLDAugmenter(generator=TableWriter(), n_rounds=1, random_state=0)
    X_new, _ = model.fit_resample(X, y)
    assert type(X_new) is type(X)
    assert list(X_new.columns) == list(X.columns)
    assert list(X_new.dtypes) == list(X.dtypes)
    assert X_new[: len(X)].equals(X)
    assert X_new[len(X) :].shape == model.X_generated_.shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64, int])
def test_arrays_keep_their_dtype(dtype):
    X, y = table(as_frame=False)
    X = (10 * X).astype(dtype)
    model = GOLDAugmenter(generator=TableWriter(), n_rounds=1, random_state=0)
    X_new, y_new = model.fit_resample(X, y)
    assert X_new.dtype == dtype
    np.testing.assert_array_equal(X_new[: len(X)], X)
    assert len(X_new) == len(y_new) > len(X)


@pytest.mark.parametrize(
    "y",
    [
        [7, 7, 7, 7, -3, -3, -3, -3],
        np.array([True] * 4 + [False] * 4),
        np.array(TOPICS, dtype=object),
        pd.Series(TOPICS, dtype="category", name="topic"),
        pd.Series(TOPICS, index=range(3, 11)),
        pl.Series("topic", TOPICS, dtype=pl.Enum(["parcel", "money"])),
        pl.Series("topic", TOPICS, dtype=pl.Categorical),
    ],
)
def test_labels_of_any_type_come_back_as_they_were(y):
    def writer(request):
        assert request.label in set(y)
        rng = np.random.RandomState(request.random_state)
        return [
            f"{request.seed_examples[0]} {rng.randint(10**8)} {rng.randint(10**8)}"
            for _ in range(request.n_rows)
        ]

    model = GOLDAugmenter(generator=writer, n_rounds=2, duplicate_threshold=None)
    _, y_new = model.fit_resample(TEXTS, y)
    assert type(y_new) is type(y)
    assert list(y_new[:8]) == list(y)
    assert getattr(y_new, "dtype", None) == getattr(y, "dtype", None)
    assert model.score(TEXTS, y) == 1
    assert set(model.predict(TEXTS)) == set(y)


# Seeds, feedback and novel rows


@pytest.mark.parametrize("n_seed_examples", [0, 1, 3, 9])
def test_seed_examples_are_labeled_rows_of_the_class_alone(n_seed_examples):
    _, writer = fitted(n_seed_examples=n_seed_examples)
    own = {topic: {x for x, t in zip(TEXTS, TOPICS, strict=True) if t == topic} for topic in TOPICS}
    for request in writer.requests:
        assert len(set(request.seed_examples)) == min(n_seed_examples, 4)
        assert set(request.seed_examples) <= own[request.label]
    drawn = {tuple(request.seed_examples) for request in writer.requests}
    assert len(drawn) > 2 or n_seed_examples == 0


@pytest.mark.parametrize("every", [1, 2, 3])
def test_each_so_many_th_request_of_a_class_has_feedback(every):
    _, writer = fitted(feedback_every=every, n_rounds=7)
    for label in set(TOPICS):
        plain = [r for r in writer.requests if r.label == label and not r.novel]
        assert not plain[0].feedback
        turns = [r.number for r in plain if r.feedback]
        assert all(len(r.feedback) in (0, 2) for r in plain)
        positions = np.flatnonzero([bool(r.feedback) for r in plain])
        assert len(turns) in (6 // every, 6 // every + 1)
        assert np.all(np.diff(positions) == every)


@pytest.mark.parametrize("params", [{"n_batches": 1, "n_novel_batches": 1}, {"batch_size": 1}])
def test_rounds_of_few_requests_or_rows_have_feedback_too(params):
    _, writer = fitted(n_rounds=12, **params)
    assert {r.label for r in writer.requests if r.feedback} == set(TOPICS)


def test_feedback_is_of_the_class_in_the_band_of_the_round_before_and_never_labeled():
    model, writer = fitted()
    rows = {row: i for i, row in enumerate(model.X_generated_)}
    shown = [(r, row) for r in writer.requests for row in r.feedback]
    assert shown
    for request, row in shown:
        assert row not in TEXTS
        i = rows[row]
        assert model.y_generated_[i] == request.label
        assert model.generation_round_[i] == request.round - 1
        low, high = model.history_[request.round - 1]["band"][request.label]
        assert low <= model.ood_scores_[i] <= high


def test_rows_on_other_topics_are_asked_for_without_feedback_and_kept():
    model, writer = fitted()
    novel = [r for r in writer.requests if r.novel]
    assert [r.round for r in novel] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert not any(r.feedback for r in novel)
    assert sum(entry["novel"] for entry in model.history_) == 8 * len(novel)
    # Scored but for the last round, after which nothing is asked for.
    assert np.isfinite(model.ood_scores_).sum() == 8 * (len(novel) - 2)


def test_scores_are_energies_of_a_student_that_has_not_seen_the_rows():
    student = make_pipeline(TfidfVectorizer(), LogisticRegression())
    model, _ = fitted(estimator=student, temperature=2.0)
    scored = np.isfinite(model.ood_scores_)
    for number in range(3):
        new = scored & (model.generation_round_ == number)
        known = (model.generation_round_ <= number) & ~new
        fresh = clone(student).fit(
            [*TEXTS, *model.X_generated_[known]], [*TOPICS, *model.y_generated_[known]]
        )
        f = fresh.decision_function(model.X_generated_[new])
        np.testing.assert_allclose(model.ood_scores_[new], energy_score(f, temperature=2.0))


class Memory(BaseEstimator):
    """An outlier detector that remembers what it was fitted to."""

    fits: list = []

    def fit(self, X, y=None):
        self.fits.append(list(X))
        return self

    def score_samples(self, X):
        return np.array([-float(len(text)) for text in X])


def test_a_detector_takes_the_place_of_energy_and_of_training_students():
    Memory.fits.clear()
    model, _ = fitted(ood_score=Memory(), n_rounds=3)
    scored = np.isfinite(model.ood_scores_)
    lengths = [len(text) for text in model.X_generated_[scored]]
    np.testing.assert_array_equal(model.ood_scores_[scored], lengths)
    assert [len(rows) for rows in Memory.fits] == [8, 8 + 16, 8 + 48]


def test_without_novel_requests_feedback_comes_from_all_rows_of_the_round():
    model, writer = fitted(n_novel_batches=0, n_batches=4)
    assert not any(r.novel for r in writer.requests)
    assert np.isfinite(model.ood_scores_).sum() == 3 * 32
    assert any(r.feedback for r in writer.requests)


def test_random_feedback_has_as_many_rows_in_the_same_requests():
    _, gold = fitted(n_rounds=6)
    model, chance = fitted(n_rounds=6, strategy="random-feedback")
    counts = [[len(r.feedback) for r in w.requests] for w in (gold, chance)]
    assert counts[0] == counts[1]
    assert sum(counts[0]) > 0
    sides = []
    rows = {row: i for i, row in enumerate(model.X_generated_)}
    for request in chance.requests:
        for row in request.feedback:
            low, high = model.history_[request.round - 1]["band"][request.label]
            sides.append(low <= model.ood_scores_[rows[row]] <= high)
    assert not all(sides)


def test_no_feedback_makes_as_many_requests_and_trains_no_student():
    gold, asked = fitted()
    model, writer = fitted(strategy="no-feedback")
    assert len(writer.requests) == len(asked.requests) == model.n_requests_ == gold.n_requests_
    assert not any(r.novel or r.feedback for r in writer.requests)
    assert np.isnan(model.ood_scores_).all()


# How much


def test_rows_wanted_are_shared_equally_and_reached_exactly():
    model, writer = fitted(n_samples=45, n_rounds=None)
    assert pd.Series(model.y_generated_).value_counts().to_dict() == {"money": 23, "parcel": 22}
    assert model.termination_condition_ == "n_samples"
    # No request asks for more than is wanted, and one to spare.
    assert [r.n_rows for r in writer.requests][-2:] == [8, 7]


def test_rows_wanted_by_class():
    model, writer = fitted(n_samples={"money": 12}, n_rounds=None)
    assert model.y_generated_.tolist() == ["money"] * 12
    assert {r.label for r in writer.requests} == {"money"}


def test_a_class_that_gets_few_rows_is_asked_for_more_often():
    class Shy(TextWriter):
        def rows(self, request, rng):
            return super().rows(request, rng)[: 2 if request.label == "money" else 8]

    model, writer = fitted(Shy(), n_batches=4, n_rounds=8)
    asked = pd.Series([r.label for r in writer.requests]).value_counts()
    got = pd.Series(model.y_generated_).value_counts()
    assert asked["money"] > 2 * asked["parcel"]
    assert abs(got["money"] - got["parcel"]) <= 32


@pytest.mark.parametrize("most", [1, 5, 9])
def test_requests_are_bounded(most):
    model, writer = fitted(max_requests=most, n_rounds=None)
    assert len(writer.requests) == model.n_requests_ == most
    assert model.termination_condition_ == "max_requests"


def test_without_any_bound_there_are_five_rounds():
    model, _ = fitted(n_rounds=None)
    assert len(model.history_) == 5
    assert model.termination_condition_ == "n_rounds"


def test_rounds_that_bring_nothing_new_end_it():
    writer = Repeater(since=8)
    with pytest.warns(GenerationStoppedWarning, match="66 rows"):
        model, _ = fitted(writer, n_samples=1000, n_rounds=None)
    assert model.termination_condition_ == "nothing_new"
    assert len(model.history_) == 5
    assert {r.reason for r in model.rejected_} <= {"duplicate", "near-duplicate"}


@pytest.mark.parametrize("rows", [[], ["always the same"]])
def test_a_class_that_nobody_writes_for_takes_no_requests_from_the_others(rows):
    class Refuser(TextWriter):
        def rows(self, request, rng):
            return rows if request.label == "money" else super().rows(request, rng)

    with pytest.warns(GenerationStoppedWarning, match="nothing new of 'money'"):
        model, writer = fitted(Refuser(), n_samples=200, n_rounds=None)
    assert (model.y_generated_ == "parcel").sum() == 100
    assert sum(request.label == "money" for request in writer.requests) < 24


@pytest.mark.parametrize("params", [{"n_samples": 200, "n_rounds": None}, {"n_rounds": 10}])
def test_a_class_that_was_quiet_for_a_while_gets_its_rows(params):
    class Moody(TextWriter):
        def rows(self, request, rng):
            quiet = request.label == "money" and request.round < (2 if "n_samples" in params else 1)
            return [] if quiet else super().rows(request, rng)

    model, _ = fitted(Moody(), **params)
    assert model.termination_condition_ == ("n_samples" if "n_samples" in params else "n_rounds")
    counts = np.unique(model.y_generated_, return_counts=True)[1]
    assert counts.min() > 0.8 * counts.max()


@pytest.mark.parametrize("seed", range(5))
def test_a_few_unlucky_requests_near_the_end_end_nothing(seed):
    class Unlucky(TextWriter):
        def rows(self, request, rng):
            rows = super().rows(request, rng)
            return ["the same" if rng.rand() < 0.7 else row for row in rows]

    model, _ = fitted(Unlucky(), n_samples=60, n_rounds=None, random_state=seed)
    assert model.termination_condition_ == "n_samples"


def test_short_floats_are_compared_as_the_table_holds_them():
    values = np.float32([0.1, 0.2, 0.3, 0.7])
    X = pd.DataFrame({"p": np.tile(values, 6)})

    def same(request):
        return [{"p": float(str(value))} for value in values]

    with pytest.raises(GenerationError, match="duplicate"):
        GOLDAugmenter(generator=same, n_samples=4, random_state=0).fit(X, [0, 1] * 12)


def test_a_final_estimator_may_need_more_rows_than_are_labeled():
    final = CalibratedClassifierCV(TextClassifier(), cv=10)
    model, _ = fitted(n_samples=60, n_rounds=None, final_estimator=final)
    assert len(model.y_generated_) == 60


def test_without_numbers_of_rows_classes_stay_as_equal_as_they_can():
    class Refuser(TextWriter):
        def rows(self, request, rng):
            return [] if request.label == "money" else super().rows(request, rng)

    model, _ = fitted(Refuser(), n_rounds=20)
    assert model.termination_condition_ == "nothing_new"
    assert len(model.y_generated_) < 50


def test_a_trickle_of_new_rows_is_nothing_new():
    class Trickle(TextWriter):
        def rows(self, request, rng):
            rows = super().rows(request, rng)
            if request.round > 1 and request.number % 4:
                return ["the same"] * len(rows)
            return rows[:1] + ["the same"] * (len(rows) - 1)

    with pytest.warns(GenerationStoppedWarning):
        model, _ = fitted(Trickle(), n_samples=10_000, n_rounds=None, n_batches=40)
    assert len(model.history_) < 20


# What is refused


def test_history_and_rejected_rows_account_for_everything_that_came():
    class Mixed(TextWriter):
        def rows(self, request, rng):
            return [*super().rows(request, rng)[:5], 7, "", TEXTS[0].upper().lower(), TEXTS[0]]

    model, writer = fitted(Mixed())
    frame = pd.DataFrame(model.rejected_)
    assert list(frame.columns) == ["row", "label", "round", "reason", "detail"]
    for number, entry in enumerate(model.history_):
        own = frame[frame["round"] == number]
        assert entry["accepted"] == np.sum(model.generation_round_ == number) == 20
        assert sum(entry["rejected"].values()) == len(own)
        assert entry["rows"] == entry["accepted"] + len(own) == 9 * 4
        assert entry["requests"] == sum(r.round == number for r in writer.requests)
        assert entry["cost"] is None


class Mislabeling(TextWriter):
    """Two rows of three are of the other class."""

    def rows(self, request, rng):
        rows = super().rows(request, rng)
        other = replace(request, label="money" if request.label == "parcel" else "parcel")
        return [*rows[::3], *super().rows(other, rng)[: request.n_rows - len(rows[::3])]]


class Reader(ClassifierMixin, BaseEstimator):
    """A teacher that knows the words of the classes; after some calls it fails."""

    def __init__(self, most_calls=99, error=RuntimeError):
        self.most_calls = most_calls
        self.error = error

    def fit(self, X, y):
        self.classes_, self.n_calls_ = np.unique(y), 0
        return self

    def predict_proba(self, X):
        self.n_calls_ += 1
        if self.n_calls_ > self.most_calls:
            raise self.error("the teacher failed")
        money = np.array([any(word in x for word in WORDS["money"]) for x in X])
        return np.where(money[:, None], [0.9, 0.1], [0.1, 0.9])


def test_wrong_labels_are_refused_by_the_teacher_and_their_quota_is_given_back():
    model, _ = fitted(Mislabeling(), teacher=Reader(), n_samples=30, n_rounds=None)
    teacher = Reader().fit(TEXTS, TOPICS)
    assert len(model.y_generated_) == 30
    assert (teacher.predict_proba(model.X_generated_)[:, 0] > 0.5).tolist() == (
        model.y_generated_ == "money"
    ).tolist()
    doubted = [r.detail for r in model.rejected_ if r.reason == "label"]
    assert all(detail.startswith("the teacher says") for detail in doubted)
    assert sum(entry["rejected"].get("label", 0) for entry in model.history_) > 10


def test_without_a_teacher_labels_are_believed():
    model, _ = fitted(Mislabeling(), n_samples=30, n_rounds=None)
    assert not any("label" in entry["rejected"] for entry in model.history_)


def test_a_teacher_may_know_more_classes_and_doubt_with_them():
    class Traveller(TextWriter):
        def rows(self, request, rng):
            return [*super().rows(request, rng)[1:], f"a train to Rome at {request.number}"]

    texts, topics = [*TEXTS, "The train to Rome is late"] * 9, [*TOPICS, "travel"] * 9
    vocabulary = TfidfVectorizer(token_pattern=r"[a-z]+", min_df=2)
    teacher = make_pipeline(vocabulary, LogisticRegression(C=1e4)).fit(texts, topics)
    model, _ = fitted(Traveller(), teacher=FrozenEstimator(teacher), n_rounds=1)
    doubted = [r.row for r in model.rejected_ if "says 'travel'" in r.detail]
    assert doubted == [f"a train to Rome at {i}" for i in range(4)]


@pytest.mark.parametrize("error", [RuntimeError, BudgetExceededError])
def test_rows_whose_labels_could_not_be_checked_are_set_aside(error):
    model = GOLDAugmenter(generator=TextWriter(), teacher=Reader(1, error), **PAPER)
    if error is RuntimeError:
        with pytest.raises(error, match="the teacher failed"):
            model.fit(TEXTS, TOPICS)
    else:
        with pytest.warns(GenerationStoppedWarning, match="budget"):
            model.fit(TEXTS, TOPICS)
        assert model.termination_condition_ == "budget"
    assert len(model.X_generated_) == 32
    assert [r[3:] for r in model.rejected_] == [("label", "not checked")] * 32


def test_useless_replies_cost_nothing_but_themselves():
    class Flaky(TextWriter):
        def rows(self, request, rng):
            return super().rows(request, rng) if request.number % 2 else "no list at all"

    model, writer = fitted(Flaky())
    assert len(model.X_generated_) == 8 * len(writer.requests) // 2
    replies = [r for r in model.rejected_ if r.reason == "reply"]
    assert len(replies) == len(writer.requests) // 2


def test_if_nothing_is_valid_the_error_shows_three_replies():
    numbers = iter(range(100))

    model = GOLDAugmenter(generator=lambda request: [next(numbers)], n_rounds=50, **PAPER)
    with pytest.raises(GenerationError, match="8 requests.*invalid 8") as caught:
        model.fit(TEXTS, TOPICS)
    assert str(caught.value).count("---") == 3
    for shown in "567":
        assert f"\n{shown}" in str(caught.value)
    assert len(model.rejected_) == 8


class Breaking(TextWriter):
    """Fails at one request."""

    def __init__(self, error, at=6):
        super().__init__()
        self.error, self.at = error, at

    def rows(self, request, rng):
        if request.number == self.at:
            raise self.error
        return super().rows(request, rng)


def test_rows_accepted_before_a_generator_fails_train_the_student():
    model = GOLDAugmenter(generator=Breaking(RuntimeError("the generator broke")), **PAPER)
    with pytest.warns(GenerationStoppedWarning, match="48 rows: .*RuntimeError: the generator bro"):
        model.fit(TEXTS, TOPICS)
    assert len(model.X_generated_) == len(model.y_generated_) == 6 * 8
    assert model.termination_condition_ == "error"
    assert [entry["accepted"] for entry in model.history_] == [32, 16]
    assert [entry["requests"] for entry in model.history_] == [4, 2]
    assert model.score(TEXTS, TOPICS) > 0.5


def test_a_generator_that_fails_before_there_are_rows_is_an_error():
    model = GOLDAugmenter(generator=Breaking(RuntimeError("broke"), at=0), **PAPER)
    with pytest.raises(RuntimeError, match="broke"):
        model.fit(TEXTS, TOPICS)


def test_rows_accepted_before_an_interrupt_are_kept():
    model = GOLDAugmenter(generator=Breaking(KeyboardInterrupt()), **PAPER)
    with pytest.raises(KeyboardInterrupt):
        model.fit(TEXTS, TOPICS)
    assert len(model.X_generated_) == 6 * 8
    assert model.termination_condition_ == "error"
    with pytest.raises(NotFittedError):
        model.predict(TEXTS)


def test_a_student_that_cannot_learn_the_rows_fails_before_a_request():
    writer = TextWriter()
    for student in (LogisticRegression(), RandomForestClassifier()):
        with pytest.raises(ValueError, match="could not convert|no decision_function"):
            GOLDAugmenter(student, generator=writer, strategy="gold").fit(TEXTS, TOPICS)
    with pytest.raises(ValueError, match="could not convert"):
        fitted(writer, ood_score=IsolationForest())
    assert not writer.requests


# The student


def test_the_final_student_is_fresh_and_learns_labeled_and_generated_rows():
    student = make_pipeline(TfidfVectorizer(), LogisticRegression())
    model, _ = fitted(estimator=student)
    X, y = [*TEXTS, *model.X_generated_], [*TOPICS, *model.y_generated_]
    expected = clone(student).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(TEXTS), expected.predict_proba(TEXTS))
    np.testing.assert_array_equal(model.decision_function(TEXTS), expected.decision_function(TEXTS))
    assert not hasattr(student[-1], "classes_")


def test_a_final_estimator_takes_its_place():
    final = make_pipeline(TfidfVectorizer(), RandomForestClassifier(n_estimators=5))
    model, _ = fitted(final_estimator=final)
    assert isinstance(model.estimator_[-1], RandomForestClassifier)
    assert not hasattr(model, "decision_function")
    assert model.score(TEXTS, TOPICS) > 0.5


@pytest.mark.parametrize("strategy", ["gold", "random-feedback", "no-feedback"])
def test_a_random_state_makes_everything_repeatable(strategy):
    student = make_pipeline(TfidfVectorizer(), SGDClassifier(loss="log_loss"))
    detector = make_pipeline(TfidfVectorizer(), IsolationForest(n_estimators=10))
    one, two = (
        fitted(estimator=student, ood_score=detector, strategy=strategy)[0] for _ in range(2)
    )
    np.testing.assert_array_equal(one.X_generated_, two.X_generated_)
    np.testing.assert_array_equal(one.ood_scores_, two.ood_scores_)
    np.testing.assert_array_equal(one.predict_proba(TEXTS), two.predict_proba(TEXTS))
    other, _ = fitted(estimator=student, ood_score=detector, strategy=strategy, random_state=1)
    assert list(other.X_generated_) != list(one.X_generated_)


def test_a_fitted_model_pickles():
    X, y = table()
    model = GOLDAugmenter(generator=TableWriter(), n_rounds=2).fit(X, y)
    restored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(restored.predict(X), model.predict(X))
    assert restored.rejected_ == model.rejected_


def test_nets_learn_labels_of_any_type_and_end_with_the_symmetric_loss():
    torch = pytest.importorskip("torch")
    from skorch import NeuralNetClassifier

    from skllmreg.nn import SymmetricCrossEntropyLoss

    net = NeuralNetClassifier(
        torch.nn.Linear,
        module__in_features=3,
        module__out_features=2,
        optimizer=torch.optim.Adam,
        criterion=torch.nn.CrossEntropyLoss,
        lr=0.1,
        max_epochs=30,
        train_split=None,
        verbose=0,
    )
    X, y = table(as_frame=False)
    X, y = X.astype(np.float32), np.array(["no", "yes"])[y]
    final = clone(net).set_params(criterion=SymmetricCrossEntropyLoss, criterion__alpha=0.1)
    for student in (net, make_pipeline("passthrough", net)):
        models = [
            GOLDAugmenter(
                student, final_estimator=final, generator=TableWriter(), n_rounds=2, random_state=0
            ).fit(X, y)
            for _ in range(2)
        ]
        np.testing.assert_array_equal(models[0].predict_proba(X), models[1].predict_proba(X))
        assert models[0].score(X, y) > 0.8
        assert isinstance(models[0].estimator_.criterion_, SymmetricCrossEntropyLoss)


def test_it_is_a_step_of_an_imbalanced_learn_pipeline():
    imblearn = pytest.importorskip("imblearn.pipeline")
    pipeline = imblearn.make_pipeline(
        GOLDAugmenter(generator=TextWriter(), n_rounds=1, random_state=0),
        TfidfVectorizer(),
        LogisticRegression(),
    )
    assert pipeline.fit(TEXTS, TOPICS).score(TEXTS, TOPICS) == 1
    assert not hasattr(GOLDAugmenter, "transform")


# Without a generator, and what cannot be


def test_without_a_generator_it_is_the_plain_student():
    X, y = table(as_frame=False)
    with pytest.warns(NoLLMWarning, match="labeled rows"):
        model = GOLDAugmenter(LogisticRegression()).fit(X, y)
    plain = LogisticRegression().fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    assert model.X_generated_.shape == (0, 3)
    assert model.rejected_ == model.history_ == []
    with pytest.raises(ValueError, match="fit_resample needs llm"):
        model.fit_resample(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"feedback_quantiles": (0.8, 0.5)}, "not a band"),
        ({"n_samples": {"mony": 3}}, "n_samples names 'mony'.*'money'"),
        ({"n_samples": {"money": 0}}, "n_samples asks for no rows"),
        ({"n_samples": {}}, "n_samples asks for no rows"),
        ({"n_samples": {"money": 2.5}}, "n_samples.'money'. is 2.5"),
        ({"n_samples": {"money": True}}, "n_samples.'money'. is True"),
        ({"n_samples": {"money": -1, "parcel": 5}}, "n_samples.'money'. is -1"),
        ({"class_descriptions": {"mony": "about money"}}, "class_descriptions names 'mony'"),
        ({"class_descriptions": {"money": 3}}, "class_descriptions.'money'. is 3"),
        ({"attributes": {"tone": {"mony": ["angry"]}}}, "attributes.'tone'. names 'mony'"),
        (
            {
                "label_check": "student",
                "estimator": make_pipeline(TfidfVectorizer(), LinearSVC()),
            },
            "predict_proba.*LinearSVC",
        ),
        ({"llm": None, "generator": None, "strategy": "silver"}, "strategy"),
        ({"attributes": {"topic": []}}, "attributes"),
        ({"label_check": "teacher"}, "needs a teacher"),
    ],
)
def test_impossible_parameters_are_named_before_a_request(params, message):
    writer = TextWriter()
    with pytest.raises(ValueError, match=message):
        GOLDAugmenter(**({"generator": writer} | params)).fit(TEXTS, TOPICS)
    assert not writer.requests


def test_a_generator_may_change_the_rows_that_it_is_shown():
    class Careless(TableWriter):
        def rows(self, request, rng):
            rows = super().rows(request, rng)
            for row in request.seed_examples + request.feedback:
                row["height"] = -777.0
            return rows

    X, y = table()
    model = GOLDAugmenter(generator=Careless(), n_rounds=4, random_state=0).fit(X, y)
    assert model.X_generated_["height"].min() > -10


def test_descriptions_of_columns_are_for_tables():
    with pytest.raises(ValueError, match="feature_descriptions.*X is texts"):
        fitted(feature_descriptions={"x0": "in metres"})


def test_one_class_is_named():
    with pytest.raises(ValueError, match="y has one class: 'parcel'"):
        GOLDAugmenter(generator=TextWriter()).fit(TEXTS[:4], TOPICS[:4])


LONG = [f"{text} {number} {number} and so on" for number, text in enumerate(TEXTS)]


@pytest.mark.parametrize(
    ("X", "pass_"),
    [
        (pd.DataFrame({"message": LONG}), r"X\['message'\]"),
        (pl.DataFrame({"message": TOPICS}), r"X\['message'\]"),
        (np.array(LONG)[:, None], r"X\[:, 0\]"),
    ],
)
def test_texts_in_a_table_of_one_column_are_to_be_passed_as_texts(X, pass_):
    with pytest.raises(ValueError, match=f"pass {pass_}"):
        GOLDAugmenter(generator=TextWriter()).fit(X, TOPICS)


def test_several_texts_are_repeated_only_where_each_text_is():
    X = pd.DataFrame({"title": LONG, "body": LONG[::-1]})

    def writer(request):
        row = {"title": f"a new title that is number {request.number}", "body": LONG[0]}
        return [row, row, row | {"body": LONG[0] + " again"}]

    model = GOLDAugmenter(generator=writer, n_rounds=2, **PAPER).fit(X, TOPICS)
    assert len(model.X_generated_) == 8
    assert [r.reason for r in model.rejected_] == ["duplicate", "near-duplicate"] * 8


@pytest.mark.parametrize("y", [[f"An answer of its own, {i}" for i in range(8)], list("abcdefgh")])
def test_free_texts_in_y_are_refused_before_a_request_unless_they_are_described(y):
    writer = Repeater()
    model = GOLDAugmenter(generator=writer, n_rounds=1, duplicate_threshold=None)
    with pytest.raises(ValueError, match="GOLDSeq2SeqAugmenter"):
        model.fit(TEXTS, y)
    assert not writer.requests
    described = dict.fromkeys(y, "a class")
    model.set_params(class_descriptions=described, generator=lambda r: [f"{r.label} as asked"])
    assert len(model.fit(TEXTS, y).y_generated_) == 8


@pytest.mark.parametrize("index", [range(5, 13), list("abcdefgh"), [(i, "x") for i in range(8)]])
def test_labeled_rows_keep_the_index_of_their_frame_and_no_label_comes_twice(index):
    multi = isinstance(index[0], tuple)
    index = pd.MultiIndex.from_tuples(index, names=["i", "k"]) if multi else pd.Index(index)
    X = pd.DataFrame({"n": np.arange(8.0), "m": np.arange(8.0) ** 2}, index=index)
    y = pd.Series(TOPICS, index=index)
    model = GOLDAugmenter(generator=TableWriter(), n_rounds=1, random_state=0)
    X_new, y_new = model.fit_resample(X, y)
    assert X_new.loc[X.index].equals(X)
    assert X_new.index.is_unique
    assert X_new.index.equals(y_new.index)
    assert X_new.index.names == X.index.names


def test_a_table_tells_where_each_row_comes_from():
    model, writer = fitted(attributes={"tone": ["angry", "polite"]})
    frame = model.to_frame()
    assert frame["row"].tolist() == model.X_generated_.tolist()
    assert frame["label"].tolist() == model.y_generated_.tolist()
    np.testing.assert_array_equal(frame["energy"], model.ood_scores_)
    for _, line in frame.iterrows():
        request = writer.requests[line["request"]]
        assert json.loads(line["seed_examples"]) == request.seed_examples
        assert json.loads(line["feedback"]) == request.feedback
        assert json.loads(line["attributes"]) == request.attributes
        assert (line["round"], line["novel"]) == (request.round, request.novel)
    assert pd.to_datetime(frame["date"]).notna().all()


def test_rejected_rows_and_the_summary_account_for_everything():
    class Mixed(TextWriter):
        def rows(self, request, rng):
            return [*super().rows(request, rng)[:5], 7, TEXTS[0]]

    model, _ = fitted(Mixed())
    rejected = model.to_frame(rejected=True)
    assert set(rejected["reason"]) == {"invalid", "duplicate"}
    assert (
        rejected.loc[rejected["reason"] == "invalid", "detail"].tolist() == ["7 is not a text"] * 16
    )
    summary = model.summary()
    assert summary.index.tolist() == ["money", "parcel", "all"]
    assert summary.loc["all", "requests"] == model.n_requests_ == 16
    assert summary.loc["all", "accepted"] == len(model.X_generated_)
    assert summary.loc["all", "labeled"] == 8
    for _, line in summary.iterrows():
        assert line["written"] == line["accepted"] + line["invalid"] + line["duplicate"]


def test_novel_requests_can_show_rows_of_their_round():
    model, writer = fitted(show_batch=True)
    plain, _ = fitted()
    assert not any(r.batch for r in writer.requests if not r.novel)
    rows = dict(zip(model.X_generated_, model.generation_round_, strict=True))
    for request in (r for r in writer.requests if r.novel):
        assert request.batch
        assert all(rows[row] == request.round for row in request.batch)
    assert len(plain.X_generated_) == len(model.X_generated_)


class Counting(SGDClassifier):
    """Counts how often it is fitted anew, and trained on."""

    calls: list = []

    def fit(self, X, y):
        self.calls.append("fit")
        return super().fit(X, y)

    def partial_fit(self, X, y, classes=None):
        self.calls.append("partial_fit")
        return super().partial_fit(X, y, classes)


def test_one_student_can_be_trained_on_from_round_to_round():
    X, y = table(as_frame=False)
    Counting.calls.clear()
    model = GOLDAugmenter(
        Counting(), generator=TableWriter(), keep_student=True, n_rounds=4, **PAPER
    )
    model.fit(X, y)
    # The rehearsal, three rounds with feedback, and the final student, which is fresh.
    assert Counting.calls == ["fit", "fit", "partial_fit", "partial_fit", "fit"]
    with pytest.raises(ValueError, match="keep_student=True needs .*partial_fit.*Logistic"):
        model.set_params(estimator=LogisticRegression()).fit(X, y)


@pytest.mark.parametrize("strategy", ["errors", "coverage"])
def test_labeled_rows_can_be_the_feedback(strategy):
    model, writer = fitted(strategy=strategy, n_novel_batches=0, n_seed_examples=1)
    own = {topic: {x for x, t in zip(TEXTS, TOPICS, strict=True) if t == topic} for topic in TOPICS}
    shown = [r for r in writer.requests if r.feedback]
    assert shown
    assert all(set(r.feedback) <= own[r.label] for r in shown)
    assert np.isnan(model.ood_scores_).all()


@pytest.mark.parametrize("method", ["fit", "fit_resample"])
def test_warnings_point_at_the_line_of_the_user(method):
    model = GOLDAugmenter(generator=Repeater(since=4), n_samples=1000, random_state=0)
    with pytest.warns(GenerationStoppedWarning) as caught:
        getattr(model, method)(TEXTS, TOPICS)
    assert [warning.filename for warning in caught] == [__file__]


def test_hints_of_attributes_reach_the_generator():
    _, writer = fitted(attributes={"tone": ["angry", "polite"], "topic": {"money": ["bills"]}})
    money = [r for r in writer.requests if r.label == "money"]
    assert {r.attributes["tone"] for r in writer.requests} <= {"angry; polite", "polite; angry"}
    assert money[0].attributes["topic"] == "bills"


@pytest.mark.parametrize(
    "y",
    [
        ["x", None, "y"],
        pd.Series([1, None, 2], dtype="Int64"),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series(["x", None, "y"], dtype="string"),
    ],
)
def test_a_missing_label_is_named(y):
    with pytest.raises(ValueError, match="Row 1 of y has no label.*LLKDSelector"):
        GOLDAugmenter(generator=lambda request: []).fit(["a b", "c d", "e f"], y)


def test_labels_of_two_kinds_are_an_error():
    with pytest.raises(ValueError, match="y holds texts beside other labels"):
        GOLDAugmenter(generator=lambda request: []).fit(["a b", "c d", "e f"], ["x", 1, "y"])


MIXED = pd.DataFrame({"a": [0.5, None, 2.5, 4.0] * 6, "c": ["x", None, "z", "x"] * 6})


@pytest.mark.parametrize(
    "X",
    [
        MIXED,
        MIXED.convert_dtypes(),
        pl.DataFrame(MIXED.astype(object).where(MIXED.notna(), None).to_dict("list")),
        MIXED.astype(object).where(MIXED.notna(), None).to_numpy(),
        MIXED[["a"]].to_numpy(),
        MIXED.convert_dtypes().to_numpy(),
        MIXED[["c", "c"]].fillna("w").to_numpy(dtype=str),
    ],
)
def test_the_default_student_takes_any_table(X):
    n = 24

    def again(request):
        return [dict(row) for row in request.seed_examples]

    model = GOLDAugmenter(generator=again, n_rounds=1, random_state=0)
    with pytest.raises(GenerationError, match="duplicate.*few different rows"):
        model.fit(X, ["p", "q"] * (n // 2))


def test_integers_beside_a_missing_one_stay_what_they_are():
    big = 2**53 + 1
    X = pd.DataFrame({"a": np.arange(6) / 3, "id": pd.array([big, None] * 3, dtype="Int64")})
    schema = TableSchema.from_frame(X)
    frame = schema.to_frame([{"a": 0.1, "id": big + 2}, {"a": 0.2, "id": None}])
    assert frame["id"].tolist() == [big + 2, pd.NA]
    assert frame.dtypes.equals(X.dtypes)


def test_a_final_estimator_that_cannot_learn_the_rows_is_an_error_before_anything_is_asked():
    writer = TextWriter()
    with pytest.raises(ValueError, match="could not convert"):
        fitted(writer, final_estimator=LogisticRegression())
    assert not writer.requests


@pytest.mark.parametrize("dtype", ["Int64", "boolean"])
def test_labels_of_pandas_own_types_reach_the_generator_as_they_are(dtype):
    asked = []
    y = pd.Series([0, 1] * 4).astype(dtype)
    model = GOLDAugmenter(generator=lambda r: asked.append(r.label) or ["x"], n_rounds=1)
    model.fit([f"text of row {i}" for i in range(8)], y)
    assert set(map(type, asked)) == {int if dtype == "Int64" else bool}


def test_numbered_labels_may_be_named_beside_the_real_ones():
    texts, both = [f"text of row {i}" for i in range(8)], {"a": "x", "b": "y", 0: "x", 1: "y"}
    model = GOLDAugmenter(
        generator=lambda r: [f"{r.label} {r.number} {i}" for i in range(8)],
        class_descriptions=both,
        n_samples=dict.fromkeys(both, 2),
        n_rounds=1,
        duplicate_threshold=None,
        random_state=0,
    )
    assert len(model.fit(texts, [0, 1] * 4).y_generated_) == 4
    with pytest.raises(ValueError, match="number the sorted labels.*Add the numbers"):
        model.set_params(class_descriptions={"a": "x", "b": "y"}).fit(texts, [0, 1] * 4)
