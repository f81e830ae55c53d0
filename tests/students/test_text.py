import pickle
import threading

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from skllmreg import LLKDSelector
from skllmreg.students import SentenceEncoder, TextClassifier, _text

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
    np.testing.assert_array_equal(one.features_[0][-1].idf_, two.features_[0][-1].idf_)


def test_weight_zero_is_as_good_as_absent():
    wrong = np.concatenate([LABELS, np.roll(LABELS, 1)])
    weight = np.repeat([1.0, 0.0], 60)
    assert clone(small).fit(TEXTS * 2, wrong, sample_weight=weight).score(TEXTS, LABELS) == 1


def test_only_words_that_occur_have_coefficients():
    model = clone(small).fit(TEXTS, LABELS)
    occurring = model.features_[0].transform(TEXTS).getnnz(axis=0) > 0
    assert model.linear_.coef_.shape == (3, occurring.sum())
    assert model.predict(["parcel zzz", "qqq"])[0] == "delivery"


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


def letters(texts):
    """A poor encoder: how often a text has each letter."""
    return np.array([[text.count(chr(97 + i)) for i in range(26)] for text in texts], dtype=float)


meant = TextClassifier(letters, n_features=2**12, random_state=0)


@pytest.mark.parametrize("as_", [list, np.array, pd.Series, pl.Series])
def test_with_an_encoder_any_sequence_of_texts_is_taken(as_):
    model = clone(meant).fit(as_(TEXTS), LABELS)
    assert model.score(as_(TEXTS), LABELS) == 1
    np.testing.assert_allclose(model.predict_proba(as_(TEXTS)).sum(axis=1), 1)
    np.testing.assert_allclose(
        model.predict_proba(TEXTS), softmax(model.decision_function(TEXTS), axis=1)
    )


def test_of_two_classes_the_decision_is_the_logit_of_the_second():
    model = clone(meant).fit(TEXTS, LABELS == "money")
    decision = model.decision_function(TEXTS)
    assert decision.shape == (60,)
    np.testing.assert_allclose(model.predict_proba(TEXTS)[:, 1], expit(decision))
    np.testing.assert_array_equal(model.predict(TEXTS), decision > 0)


def test_it_is_a_logistic_regression_on_vectors_and_words_side_by_side():
    model = clone(meant).set_params(C=7.0).fit(TEXTS, LABELS)
    words = clone(small).fit(TEXTS, LABELS).features_[0].transform(TEXTS)
    words = words[:, words.getnnz(axis=0) > 0]
    X = sparse.hstack([SentenceEncoder(letters).transform(TEXTS), words]).tocsr()
    expected = LogisticRegression(C=7.0, tol=1e-5, max_iter=1000).fit(X, LABELS).predict_proba(X)
    np.testing.assert_allclose(model.predict_proba(TEXTS), expected, atol=2e-3)


def test_weights_repeat_rows_whether_or_not_there_is_an_encoder():
    weight = np.where(np.arange(60) % 2, 3, 1)
    one = clone(meant).set_params(C=10.0).fit(TEXTS, LABELS, sample_weight=weight)
    two = clone(meant).set_params(C=10.0)
    two.fit(list(np.repeat(TEXTS, weight)), np.repeat(LABELS, weight))
    np.testing.assert_allclose(one.predict_proba(TEXTS), two.predict_proba(TEXTS), atol=1e-6)


def test_rows_of_weight_zero_are_neither_learned_nor_encoded():
    seen = []

    def noting(texts):
        seen.extend(texts)
        return letters(texts)

    wrong = [text.replace("number", "no") for text in TEXTS]
    weight = np.repeat([1.0, 0.0], 60)
    model = clone(meant).set_params(encoder=noting)
    model.fit(TEXTS + wrong, np.concatenate([LABELS, np.roll(LABELS, 1)]), sample_weight=weight)
    assert sorted(seen) == sorted(TEXTS)
    assert model.score(TEXTS, LABELS) == 1


def test_balanced_classes_weigh_the_same():
    kept = np.flatnonzero((LABELS != "money") | (np.arange(60) < 9))
    texts, labels = [TEXTS[i] for i in kept], LABELS[kept]
    balanced = clone(meant).set_params(class_weight="balanced", C=1.0).fit(texts, labels)
    plain = clone(meant).set_params(C=1.0).fit(texts, labels)
    column = balanced.classes_.tolist().index("money")
    assert (
        balanced.predict_proba(texts)[:, column].mean()
        > plain.predict_proba(texts)[:, column].mean()
    )


def test_few_texts_get_a_strength_that_is_not_chosen_from_them():
    assert clone(meant).fit(TEXTS[:12], LABELS[:12]).C_ == 10
    assert clone(meant).fit(TEXTS, LABELS).C_ in (1, 3, 10, 30, 100)


def test_of_many_texts_words_of_one_text_alone_are_left_out(monkeypatch):
    monkeypatch.setattr(_text, "FEW_ROWS", 10)
    texts = [f"{text} unique{i}" for i, text in enumerate(TEXTS)]
    model = clone(meant).fit(texts, LABELS)
    assert model.score(texts, LABELS) == 1
    assert model.coef_.shape[1] < clone(meant).fit(texts[:9], LABELS[:9]).coef_.shape[1] * 9


@pytest.mark.parametrize("student", [small, meant])
def test_pairs_of_texts_have_words_of_each_column(student):
    pairs = pd.DataFrame({"one": TEXTS, "other": TEXTS[::-1]})
    y = np.array([a.split()[-1] == b.split()[-1] for a, b in zip(TEXTS, TEXTS[::-1], strict=True)])
    model = clone(student).fit(pairs, y)
    assert model.score(pairs, y) > 0.95
    assert model.feature_names_in_.tolist() == ["one", "other"]
    np.testing.assert_array_equal(
        model.predict_proba(pl.DataFrame(pairs.to_dict("list"))), model.predict_proba(pairs)
    )
    array = clone(student).fit(pairs.to_numpy(), y)
    with pytest.raises(ValueError, match="features"):
        array.predict(pairs.to_numpy()[:, [0, 1, 1]])
    with pytest.raises(ValueError, match=r"1 columns of texts; the model was fitted on 2"):
        array.predict(TEXTS)
    np.testing.assert_allclose(array.predict_proba(pairs.to_numpy()), model.predict_proba(pairs))


def test_the_encoder_is_shared_by_clones_and_survives_a_pickle_by_name():
    class Locked:
        def __init__(self):
            self.lock = threading.Lock()

        def encode(self, texts):
            with self.lock:
                return letters(texts)

    model = TextClassifier(Locked(), n_features=2**12)
    assert clone(model).encoder is model.encoder
    assert clone(clone(model).fit(TEXTS, LABELS)).encoder is model.encoder
    assert cross_val_score(model, TEXTS, LABELS, cv=2).mean() == 1
    fitted = clone(meant).fit(TEXTS, LABELS)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_a_pipeline_may_be_the_encoder():
    encoder = make_pipeline(SentenceEncoder(letters), PCA(5, random_state=0))
    assert TextClassifier(encoder, n_features=2**12).fit(TEXTS, LABELS).score(TEXTS, LABELS) == 1


def test_one_class_is_an_error_with_an_encoder_too():
    with pytest.raises(ValueError, match="one class"):
        clone(meant).fit(TEXTS, ["a"] * 60)


def test_soft_labels_of_a_selection_encode_each_text_once():
    seen = []

    def noting(texts):
        seen.extend(texts)
        return letters(texts)

    proba = 0.6 * (LABELS[:, None] == np.unique(LABELS)) + 0.4 / 3
    student = TextClassifier(noting, n_features=2**12)
    model = LLKDSelector(student, max_teacher_calls=30, random_state=0)
    model.fit(TEXTS, teacher_proba=proba, classes=np.unique(LABELS))
    assert sorted(seen) == sorted(TEXTS)
    assert model.score(TEXTS, LABELS) > 0.9


def test_a_saved_model_holds_the_words_of_its_texts_alone():
    texts = [f"Where is parcel {i}?" if i % 2 else f"My money back, case {i}" for i in range(40)]
    model = TextClassifier().fit(texts, ["parcel", "money"] * 20)
    saved = pickle.dumps(model)
    assert len(saved) < 200_000
    again = pickle.loads(saved)
    np.testing.assert_array_equal(again.predict_proba(texts), model.predict_proba(texts))
    assert len(pickle.dumps(again)) < 200_000
