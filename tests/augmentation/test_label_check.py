import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skllmreg.augmentation._student import SURE, doubt_labels
from skllmreg.students import TextClassifier

CLASSES = np.array(["cats", "dogs", "fish"])
WORDS = {
    "cats": "purr whiskers claws kitten litter scratch",
    "dogs": "bark leash bone puppy kennel fetch",
    "fish": "fins tank bubbles gills reef swim",
}


class Teacher:
    """Knows the truth, as surely as it is told."""

    classes_ = CLASSES

    def __init__(self, sure):
        self.sure = sure

    def predict_proba(self, X):
        truth = [next(k for k in WORDS if text.split()[0] in WORDS[k]) for text in X]
        hits = self.classes_ == np.array(truth)[:, None]
        return np.where(hits, self.sure, (1 - self.sure) / (len(self.classes_) - 1))


def written(n=40, n_wrong=9):
    """Texts of all classes, and labels of which some are wrong."""
    rng = np.random.default_rng(0)
    truth = np.repeat(CLASSES, n)
    texts = np.array([" ".join(rng.choice(WORDS[k].split(), 3)) for k in truth], dtype=object)
    wrong = np.zeros(len(truth), bool)
    wrong[rng.choice(len(truth), n_wrong, replace=False)] = True
    labels = np.where(wrong, CLASSES[(np.searchsorted(CLASSES, truth) + 1) % 3], truth)
    return texts, labels, wrong


def doubt(method, texts, labels, **changes):
    params = {
        "X_labeled": np.array([WORDS[k] for k in CLASSES], dtype=object),
        "labeled_codes": np.arange(len(CLASSES)),
        "classes": CLASSES,
        "student": TextClassifier(),
        "teacher": None,
        "random_state": np.random.RandomState(0),
    }
    return doubt_labels(method, texts, np.searchsorted(CLASSES, labels), **(params | changes))


@pytest.mark.parametrize("method", ["student", "dynamics"])
def test_wrong_labels_among_clear_rows_are_found_and_right_ones_stay(method):
    texts, labels, wrong = written()
    doubted = np.array(doubt(method, texts, labels)) != ""
    assert doubted[wrong].mean() > 0.8
    assert doubted[~wrong].mean() < 0.05


@pytest.mark.parametrize("method", ["student", "dynamics"])
def test_rows_that_nothing_is_known_about_are_believed(method):
    rng = np.random.default_rng(0)
    texts = np.array([f"word{i} word{i + 1}" for i in range(0, 120, 2)], dtype=object)
    labels = rng.choice(CLASSES, len(texts))
    assert np.mean(np.array(doubt(method, texts, labels)) != "") < 0.1


def test_a_sure_teacher_is_believed_an_unsure_one_abstains():
    texts, labels, wrong = written()
    reasons = doubt("teacher", texts, labels, teacher=Teacher(0.9))
    assert (np.array(reasons) != "").tolist() == wrong.tolist()
    assert next(filter(None, reasons)).startswith("the teacher says '")
    assert not any(doubt("teacher", texts, labels, teacher=Teacher(SURE - 0.01)))


def test_a_teacher_that_gives_no_probabilities_is_not_asked_for_any():
    texts, labels, _ = written()
    teacher = Teacher(0.9)
    teacher.predict_proba = lambda X: np.full((len(X), 3), np.nan)
    assert not any(doubt("teacher", texts, labels, teacher=teacher))


@pytest.mark.parametrize("method", ["student", "dynamics"])
@pytest.mark.parametrize("make", [np.asarray, lambda X: pd.DataFrame(X, columns=["a", "b"])])
def test_tables_are_checked_too(method, make):
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], 60)
    X = rng.normal(size=(120, 2)) + 6 * codes[:, None]
    y = codes.copy()
    y[[0, 70]] = 1 - y[[0, 70]]
    reasons = doubt_labels(
        method,
        make(X),
        y,
        X_labeled=make(X[[1, 71]]),
        labeled_codes=y[[1, 71]],
        classes=np.array([0, 1]),
        student=make_pipeline(StandardScaler(), LogisticRegression()),
        teacher=None,
        random_state=np.random.RandomState(0),
    )
    assert [i for i, reason in enumerate(reasons) if reason] == [0, 70]


def test_a_single_row_of_a_class_is_no_error():
    for method in ("student", "dynamics"):
        assert len(doubt(method, np.array(["purr bark"], object), np.array(["cats"]))) == 1
