import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from skllmreg import LLKDSelector
from skllmreg.students import TextClassifier

TEXTS = [
    f"{word} number {i} is {'here' if i % 3 else 'there'}"
    for i in range(20)
    for word in ("parcel", "refund", "invoice")
]
LABELS = np.array(["delivery", "money", "bill"] * 20)
small = TextClassifier(n_features=2**12, random_state=0)


@pytest.mark.parametrize("as_", [list, np.array, pd.Series, pl.Series])
def test_any_sequence_of_texts_is_taken(as_):
    model = clone(small).fit(as_(TEXTS), LABELS)
    assert model.score(as_(TEXTS), LABELS) == 1
    np.testing.assert_allclose(model.predict_proba(as_(TEXTS)).sum(axis=1), 1)
    assert model.decision_function(as_(TEXTS)).shape == (60, 3)
    assert model.predict(["the invoices"]).tolist() == ["bill"]


def test_parts_of_words_help_with_spelling():
    assert clone(small).fit(TEXTS, LABELS).predict(["parcell"]).tolist() == ["delivery"]
    words = clone(small).set_params(char_ngrams=None).fit(TEXTS, LABELS)
    sure = [
        model.predict_proba(["parcell"]).max() for model in (words, clone(small).fit(TEXTS, LABELS))
    ]
    assert sure[0] < sure[1]


def test_a_repeated_text_counts_once_among_the_texts():
    one = clone(small).fit(TEXTS, LABELS)
    two = clone(small).fit(TEXTS * 2, np.tile(LABELS, 2))
    np.testing.assert_array_equal(one.features_[-1].idf_, two.features_[-1].idf_)


def test_weight_zero_is_as_good_as_absent():
    wrong = np.concatenate([LABELS, np.roll(LABELS, 1)])
    weight = np.repeat([1.0, 0.0], 60)
    assert clone(small).fit(TEXTS * 2, wrong, sample_weight=weight).score(TEXTS, LABELS) == 1


@pytest.mark.parametrize("wrong", ["one text", [["a"], ["b"]], ["a", None], [1.0, 2.0]])
def test_anything_but_texts_is_an_error(wrong):
    with pytest.raises(ValueError, match="str"):
        clone(small).fit(wrong, [0, 1])


def test_contract():
    with pytest.raises(NotFittedError):
        clone(small).predict(TEXTS)
    model = clone(small).fit(TEXTS, LABELS)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), model.predict_proba(TEXTS))
    assert repr(small) == "TextClassifier(n_features=4096, random_state=0)"
    assert cross_val_score(small, TEXTS, LABELS, cv=2).mean() == 1


def test_it_is_the_default_student_for_texts():
    y = np.where(np.arange(60) < 6, LABELS, None)
    proba = 0.9 * (LABELS[:, None] == np.unique(LABELS)) + 0.1 / 3
    model = LLKDSelector(random_state=0).fit(TEXTS, y, teacher_proba=proba)
    assert isinstance(model.estimator_, TextClassifier)
    assert model.score(TEXTS, LABELS) == 1
    X_new, y_new = model.fit_resample(TEXTS, y, teacher_proba=proba)
    assert list(X_new) == TEXTS
    np.testing.assert_array_equal(y_new, LABELS)
