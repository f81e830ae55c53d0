import pickle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from skllmreg import (
    CascadeDisplay,
    ChatModel,
    LLKDSelector,
    LLMCascadeClassifier,
    LLMTeacherClassifier,
    UnlabeledSplit,
)
from skllmreg.exceptions import (
    InvalidReplyError,
    LLMError,
    NoAnswerWarning,
    NoLLMWarning,
    UnkeptPromiseWarning,
)
from tests.loopback import completion, last


def population(n=3000, seed=0):
    """Rows, true labels, and the probabilities of a teacher that errs where rows are unclear."""
    X, truth = make_classification(
        n, 6, n_informative=4, n_redundant=0, n_classes=3, class_sep=1.5, random_state=seed
    )
    near = KNeighborsClassifier(15).fit(X[: n // 2], truth[: n // 2])
    return X, truth, 0.97 * near.predict_proba(X) + 0.01


X, TRUTH, PROBA = population()
SAID = PROBA.argmax(axis=1)
TRAIN, NEW = np.arange(1500), np.arange(1500, 3000)
Y = np.where(np.arange(1500) < 30, TRUTH[:1500], -1)


class Table(ClassifierMixin, BaseEstimator):
    """A live teacher: says what the table has for a row, and counts the rows it was asked about.

    `broken` are places in X of rows about which it fails; `silent`, of rows without an answer.
    """

    def __init__(self, broken=(), silent=()):
        self.broken, self.silent = broken, silent
        self.classes_ = np.arange(3)
        self.asked = []

    def __sklearn_clone__(self):
        return self

    def fit(self, X, y):
        return self

    def predict_proba(self, rows):
        at = [int(np.flatnonzero((X == row).all(axis=1))[0]) for row in rows]
        self.asked += at
        proba = PROBA[at].copy()
        proba[np.isin(at, self.silent)] = np.nan
        failed = [i for i, row in enumerate(at) if row in self.broken]
        if failed:
            error = InvalidReplyError("refused")
            error.replies = [None if i in failed else p for i, p in enumerate(proba)]
            error.failures = {i: InvalidReplyError("refused") for i in failed}
            raise error
        return proba


def cascade(**params):
    return LLMCascadeClassifier(
        LogisticRegression(), **{"max_teacher_calls": 600, "random_state": 0} | params
    )


def live(**rows):
    """A fitted teacher, so that it is calibrated as a table is."""
    return FrozenEstimator(Table(**rows))


LIVE = cascade(teacher=live()).fit(X[TRAIN], Y)
RECORDED = cascade().fit(X[TRAIN], Y, teacher_proba=PROBA[TRAIN])


def test_the_student_answers_where_it_is_sure_and_the_teacher_elsewhere():
    deferred = LIVE.defer(X[NEW])
    assert 0 < deferred.mean() < 1
    student = LIVE.estimator_.predict_proba(X[NEW])
    np.testing.assert_array_equal(deferred, student.max(axis=1) < LIVE.threshold_)
    expected = np.where(deferred, SAID[NEW], student.argmax(axis=1))
    np.testing.assert_array_equal(LIVE.predict(X[NEW]), expected)
    proba = LIVE.predict_proba(X[NEW])
    np.testing.assert_allclose(proba[~deferred], student[~deferred])
    np.testing.assert_allclose(proba[deferred], PROBA[NEW][deferred])


def test_a_live_teacher_and_its_recording_give_the_same_cascade():
    assert LIVE.threshold_ == RECORDED.threshold_
    assert set(LIVE.to_frame()["source"]) == {"live"}
    assert set(RECORDED.to_frame()["source"]) == {"recorded"}


def test_calibration_rows_are_inside_the_budget_and_used_for_nothing_else():
    teacher = live()
    model = cascade(teacher=teacher, n_calibration=250).fit(X[TRAIN], Y)
    assert len(teacher.asked) == len(set(teacher.asked)) == model.n_teacher_calls_ == 600
    drawn = model.calibration_indices_
    assert len(set(drawn)) == 250
    assert (Y[drawn] == -1).all()
    assert not set(drawn) & set(model.estimator_.sample_indices_)
    assert (model.estimator_.labeled_iter_[drawn] == -1).all()
    frame = model.to_frame()
    assert frame["calibration"].sum() == 250
    assert not frame.loc[drawn, "used"].any()


def test_calibration_rows_do_not_depend_on_the_student_or_on_what_the_teacher_says():
    other = LLMCascadeClassifier(GaussianNB(), max_teacher_calls=600, random_state=0)
    other.fit(X[TRAIN], Y, teacher_proba=PROBA[TRAIN][:, [1, 2, 0]])
    np.testing.assert_array_equal(other.calibration_indices_, RECORDED.calibration_indices_)


def test_what_is_promised_is_what_the_attributes_say():
    scores, disagrees = RECORDED.calibration_scores_, RECORDED.calibration_disagrees_
    answered = scores >= RECORDED.threshold_
    assert RECORDED.coverage_ == answered.mean()
    assert RECORDED.disagreement_ == (answered & disagrees).mean()
    assert RECORDED.disagreement_ <= RECORDED.disagreement_bound_ <= 0.05
    share, bound = RECORDED.alone_disagreement_
    assert RECORDED.disagreement_ <= share == disagrees[answered].mean() <= bound


@pytest.mark.parametrize(
    ("calls", "n"), [(None, 294), (600, 200), (2000, 294), (300, 150), (100, 59)]
)
def test_auto_takes_two_hundred_rows_or_a_fifth_and_at_most_half(calls, n):
    model = cascade(max_teacher_calls=calls).fit(X[TRAIN], Y, teacher_proba=PROBA[TRAIN])
    assert len(model.calibration_indices_) == n


@pytest.mark.parametrize(
    "params",
    [
        {"n_calibration": 58},
        {"max_teacher_calls": 50},
        {"max_disagreement": 0.01, "n_calibration": 200},
    ],
)
def test_too_few_rows_for_any_promise_are_an_error_before_the_first_call(params):
    teacher = live()
    with pytest.raises(ValueError, match="can promise nothing.*at least (59|299) are needed"):
        cascade(teacher=teacher, **params).fit(X[TRAIN], Y)
    assert not teacher.asked


def test_a_budget_that_calibration_eats_up_is_an_error_before_the_first_call():
    teacher = live()
    with pytest.raises(ValueError, match="leave none of the 100 calls"):
        cascade(teacher=teacher, n_calibration=100, max_teacher_calls=100).fit(X[TRAIN], Y)
    assert not teacher.asked


@pytest.mark.filterwarnings("ignore::skllmreg.exceptions.NoLLMWarning")
def test_without_an_unlabeled_row_there_is_nothing_to_calibrate_with():
    with pytest.raises(ValueError, match="no row to calibrate"):
        cascade(teacher=FrozenEstimator(GaussianNB().fit(X, TRUTH))).fit(X, TRUTH)


def test_a_teacher_that_the_student_contradicts_gets_every_row():
    student = FrozenEstimator(LogisticRegression().fit(X, SAID))
    model = LLMCascadeClassifier(student, n_calibration=59, fallback="abstain")
    with pytest.warns(UnkeptPromiseWarning, match="every row goes to the teacher"):
        model.fit(X[TRAIN], teacher_proba=np.roll(PROBA[TRAIN], 1, axis=1))
    assert model.defer(X[NEW]).all()
    assert model.coverage_ == 0
    assert model.threshold_ == np.inf
    assert (model.predict(X[NEW]) == -1).all()


def test_a_fitted_selector_is_calibrated_on_fresh_rows():
    selector = LLKDSelector(LogisticRegression(), teacher=live(), max_teacher_calls=300)
    selector.fit(X[:1000], Y[:1000])
    fresh = np.arange(1000, 1500)
    model = LLMCascadeClassifier(FrozenEstimator(selector), random_state=0).fit(X[fresh])
    assert model.n_teacher_calls_ == 200
    assert model.estimator_.estimator is selector
    assert model.teacher_ is selector.teacher_
    table = LLMCascadeClassifier(FrozenEstimator(selector), random_state=0)
    table.fit(X[fresh], teacher_proba=PROBA[fresh])
    assert table.threshold_ == model.threshold_
    assert 0 < model.coverage_ < 1


def test_a_frozen_student_without_a_teacher_is_an_error():
    frozen = FrozenEstimator(LogisticRegression().fit(X[:100], TRUTH[:100]))
    with pytest.raises(ValueError, match="needs a teacher"):
        LLMCascadeClassifier(frozen).fit(X[TRAIN])


def test_recorded_answers_train_it_and_the_teacher_answers_afterwards():
    teacher = live()
    model = cascade(teacher=teacher).fit(X[TRAIN], Y, teacher_proba=PROBA[TRAIN])
    assert not teacher.asked
    np.testing.assert_array_equal(model.predict(X[NEW]), LIVE.predict(X[NEW]))
    assert sorted(teacher.asked) == NEW[model.defer(X[NEW])].tolist()


def test_recorded_answers_alone_leave_no_one_to_ask():
    deferred = RECORDED.defer(X[NEW])
    for fallback in ("teacher", "raise"):
        with pytest.raises(ValueError, match="only its recorded answers are here.*teacher="):
            clone(RECORDED).set_params(fallback=fallback).fit(
                X[TRAIN], Y, teacher_proba=PROBA[TRAIN]
            ).predict(X[NEW])
    RECORDED.set_params(fallback="student")
    np.testing.assert_array_equal(RECORDED.predict(X[NEW]), RECORDED.estimator_.predict(X[NEW]))
    RECORDED.set_params(fallback="abstain")
    np.testing.assert_array_equal(RECORDED.predict(X[NEW]) == -1, deferred)
    RECORDED.set_params(fallback="teacher")


def test_a_failing_teacher_is_an_error_that_keeps_all_other_answers():
    deferred = NEW[LIVE.defer(X[NEW])]
    model = cascade(teacher=live(broken=deferred[2:4])).fit(X[TRAIN], Y)
    with pytest.raises(LLMError, match=f"Row {deferred[2] - 1500}") as caught:
        model.predict(X[NEW])
    replies, expected = caught.value.replies, LIVE.predict(X[NEW]).tolist()
    missing = [i for i, reply in enumerate(replies) if reply is None]
    assert missing == [row - 1500 for row in deferred[2:4]]
    assert [r for r in replies if r is not None] == [
        label for i, label in enumerate(expected) if i not in missing
    ]


@pytest.mark.parametrize("fallback", ["student", "abstain"])
def test_a_failing_teacher_is_replaced_where_it_failed(fallback):
    deferred = NEW[LIVE.defer(X[NEW])]
    model = cascade(teacher=live(broken=deferred[:5]), fallback=fallback).fit(X[TRAIN], Y)
    with pytest.warns(NoAnswerWarning, match=f"failed on 5 of {len(deferred)} rows"):
        predicted = model.predict(X[NEW])
    expected = LIVE.predict(X[NEW])
    failed = deferred[:5] - 1500
    student = LIVE.estimator_.predict(X[NEW[failed]])
    expected[failed] = student if fallback == "student" else -1
    np.testing.assert_array_equal(predicted, expected)


def test_a_bug_of_the_teacher_is_no_failure_of_its_server():
    class Buggy(Table):
        def predict_proba(self, rows):
            if len(self.asked) >= 600:
                raise KeyError("oops")
            return super().predict_proba(rows)

    model = cascade(teacher=FrozenEstimator(Buggy()), fallback="student").fit(X[TRAIN], Y)
    with pytest.raises(KeyError, match="oops"):
        model.predict(X[NEW])


def test_a_teacher_that_abstains_has_answered_unless_it_must_not():
    deferred = NEW[LIVE.defer(X[NEW])]
    teacher = live(silent=deferred[:3])
    model = cascade(teacher=teacher).fit(X[TRAIN], Y)
    assert (model.predict(X[deferred]) == -1).sum() == 3
    assert np.isnan(model.predict_proba(X[deferred])).any(axis=1).sum() == 3
    model.set_params(fallback="student")
    assert (model.predict(X[deferred]) != -1).all()
    model.set_params(fallback="raise")
    with pytest.raises(LLMError, match="no answer for 3 rows; the first is row 0"):
        model.predict(X[deferred])


def test_a_teacher_that_abstains_in_calibration_disagrees():
    rows = RECORDED.calibration_indices_[:40]
    with pytest.warns(NoAnswerWarning, match="40 of 200 calibration rows"):
        model = cascade(teacher=live(silent=rows)).fit(X[TRAIN], Y)
    assert model.calibration_disagrees_[np.isin(model.calibration_indices_, rows)].all()
    assert model.coverage_ < RECORDED.coverage_


def test_labels_that_are_strings_abstain_as_none():
    names = np.array(["a", "b", "c"])
    model = cascade(fallback="abstain")
    y = np.where(Y == -1, None, names[Y])
    model.fit(X[TRAIN], y, teacher_proba=pd.DataFrame(PROBA[TRAIN], columns=names))
    predicted = model.predict(X[NEW])
    assert [label is None for label in predicted] == model.defer(X[NEW]).tolist()
    assert model.score(X[NEW], names[TRUTH[NEW]]) == np.mean(predicted == names[TRUTH[NEW]])


def test_no_label_is_needed():
    model = cascade(teacher=FrozenEstimator(GaussianNB().fit(X, TRUTH))).fit(X[TRAIN])
    assert 0.2 < model.coverage_ < 1


def test_without_a_teacher_the_student_answers_everything_and_nothing_is_promised():
    with pytest.warns(NoLLMWarning):
        model = LLMCascadeClassifier(LogisticRegression()).fit(X, TRUTH)
    np.testing.assert_array_equal(model.predict(X), LogisticRegression().fit(X, TRUTH).predict(X))
    assert np.isnan(model.disagreement_bound_)
    with pytest.raises(ValueError, match="nothing to draw"):
        CascadeDisplay.from_estimator(model)


@pytest.mark.slow
def test_a_grid_search_over_students_and_limits_tests_on_labeled_rows():
    y = np.where(np.arange(1500) < 150, TRUTH[TRAIN], -1)
    search = GridSearchCV(
        cascade(fallback="student", max_teacher_calls=300),
        {"max_disagreement": [0.05, 0.2], "estimator": [LogisticRegression(), GaussianNB()]},
        cv=UnlabeledSplit(2),
        error_score="raise",
    )
    search.fit(X[TRAIN], y, teacher_proba=PROBA[TRAIN])
    assert search.best_score_ > 0.7


def test_parameters_of_the_selector_are_reached():
    model = cascade(max_teacher_calls=300)
    model.set_params(estimator=LLKDSelector(LogisticRegression()), estimator__strategy="random")
    model.fit(X[TRAIN], Y, teacher_proba=PROBA[TRAIN])
    assert model.estimator_.strategy == "random"
    assert model.estimator_.n_teacher_calls_ == 150
    assert model.estimator.max_teacher_calls is None


def test_the_curve_is_drawn_and_the_point_in_use_lies_on_it():
    display = CascadeDisplay.from_estimator(RECORDED)
    i = np.flatnonzero(display.coverage == display.chosen[0])[0]
    assert display.disagreement[i] == display.chosen[1]
    assert display.bound[i] <= 0.05
    _, ax = plt.subplots()
    assert display.plot(ax=ax).ax_ is ax


def test_a_summary_says_what_a_thousand_rows_take_before_and_after():
    found = LIVE.summary()
    assert (found["rows"], found["calls"], found["failures"]) == (1500, 600, 0)
    assert found["calls_per_1000"] == (1000, pytest.approx(1000 * (1 - LIVE.coverage_)))
    assert found["dollars_per_1000"] is None
    assert RECORDED.summary()["recorded"] == 600


def test_an_llm_as_the_teacher_costs_what_the_summary_says(loopback):
    def reply(body):
        letter = "a" if "zebra" in last(body) else "b"
        top = [{"token": letter, "logprob": -0.1}, {"token": "ab"[letter == "a"], "logprob": -2.4}]
        return completion(letter, logprobs={"content": [{**top[0], "top_logprobs": top}]})

    loopback.reply = reply
    texts = [f"{('zebra', 'lion')[i % 2]} number {i}" for i in range(200)]
    chat = ChatModel("tiny", base_url=loopback.base_url, prices=(100.0, 200.0))
    teacher = LLMTeacherClassifier(chat, task="Sort.", class_descriptions={"a": "1", "b": "2"})
    student = LLKDSelector(strategy="random")
    model = LLMCascadeClassifier(student, teacher, max_teacher_calls=120, random_state=0)
    model.fit(texts)
    # Each call takes 10 + 5 tokens.
    found = model.summary()
    assert len(loopback.seen) == found["calls"] == 120
    assert (found["cached"], found["tokens"]) == (0, 1800)
    assert found["dollars"] == pytest.approx(120 * 0.002)
    before, after = found["dollars_per_1000"]
    assert before == pytest.approx(2)
    assert after == pytest.approx(2 * (1 - model.coverage_))
    assert set(model.to_frame()["source"]) == {"live"}
    again = clone(model).fit(texts)
    found = again.summary()
    assert (found["cached"], found["tokens"], found["dollars"]) == (120, 0, 0)
    assert set(again.to_frame()["source"]) == {"cached"}


def test_it_survives_pickling_and_cloning():
    again = pickle.loads(pickle.dumps(RECORDED))
    np.testing.assert_array_equal(again.defer(X[NEW]), RECORDED.defer(X[NEW]))
    assert clone(LIVE).get_params()["teacher"] is LIVE.teacher


@pytest.mark.slow
@pytest.mark.parametrize("tempting", [False, True])
def test_the_promise_holds_over_draws(tempting):
    # With a budget the student asks about rows it is unsure of: calibrated on these, or on what it
    # learned from, the bound would be off. A promise at .8 shows an excess in few draws.
    X, _, proba = population(8000, seed=1)
    said, n_draws, exceeded = proba.argmax(axis=1), 500, 0
    for seed in range(n_draws):
        rows = np.random.default_rng(seed).permutation(8000)[:400]
        model = LLMCascadeClassifier(
            LLKDSelector(LogisticRegression(max_iter=30), strategy="student", n_rounds=2),
            max_teacher_calls=160 if tempting else None,
            n_calibration=80,
            max_disagreement=0.08,
            confidence=0.8,
            random_state=seed,
        )
        model.fit(X[rows], teacher_proba=proba[rows], classes=range(3))
        alone = ~model.defer(X)
        exceeded += np.mean(alone & (model.estimator_.predict(X) != said)) > 0.08
    assert exceeded / n_draws <= 0.2 + 2 * np.sqrt(0.2 * 0.8 / n_draws)
