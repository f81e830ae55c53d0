"""Leading stateless steps of a pipeline run once, and stand in front of what was fitted."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skllmreg.students import SentenceEncoder
from skllmreg.students._fitting import linear_student
from skllmreg.students._stateless import StatelessSteps

TEXTS = np.array(["a parcel", "a refund", "a parcel", "two refunds"] * 5, dtype=object)
LABELS = np.array(["parcel", "money", "parcel", "money"] * 5)


def lengths(texts):
    return np.array([[len(text), text.count("p")] for text in texts])


def test_a_repeated_text_goes_through_the_steps_once():
    seen = []
    noting = FunctionTransformer(lambda texts: (seen.extend(texts), lengths(texts))[1])
    split = StatelessSteps(make_pipeline(noting, LogisticRegression()), TEXTS)
    assert seen == ["a parcel", "a refund", "two refunds"]
    np.testing.assert_array_equal(split.X, lengths(TEXTS))
    whole = split.join(split.estimator.fit(split.X, LABELS))
    assert [name for name, _ in whole.steps] == ["functiontransformer", "logisticregression"]
    assert whole.score(TEXTS, LABELS) == 1


@pytest.mark.parametrize(
    "first",
    [
        make_pipeline(HashingVectorizer(n_features=64), TfidfTransformer()),
        make_pipeline(SentenceEncoder(lengths)),
        make_pipeline(SentenceEncoder(lengths)).set_output(transform="pandas"),
        make_pipeline("passthrough", TfidfVectorizer()),
    ],
)
def test_the_joined_pipeline_is_the_one_that_would_have_been_fitted(first):
    pipeline = make_pipeline(*(step for _, step in first.steps), LogisticRegression())
    split = StatelessSteps(pipeline, TEXTS)
    assert len(split.estimator.steps) < len(pipeline.steps)
    whole = split.join(split.estimator.fit(split.X, LABELS))
    expected = pipeline.fit(TEXTS, LABELS)
    np.testing.assert_allclose(whole.predict_proba(TEXTS), expected.predict_proba(TEXTS))


@pytest.mark.parametrize(
    ("estimator", "X"),
    [
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), TEXTS),
        (LogisticRegression(), TEXTS),
        (make_pipeline(FunctionTransformer(), LogisticRegression()), np.ones((4, 2))),
        (make_pipeline(FunctionTransformer(), LogisticRegression()), pd.DataFrame({"a": [1, 2]})),
    ],
)
def test_what_learns_and_what_are_no_texts_stay_as_they_are(estimator, X):
    split = StatelessSteps(estimator, X)
    assert split.estimator is estimator
    assert split.X is X
    assert split.join(estimator) is estimator


def test_the_default_student_of_vectors_of_length_one_has_a_weak_penalty():
    X = SentenceEncoder(lengths).transform(TEXTS)
    for one in (X, sparse.csr_matrix(X), pd.DataFrame(X)):
        assert linear_student(one).C == 30
    for other in (lengths(TEXTS), 2 * X, pd.DataFrame({"a": ["x", "y"]})):
        assert linear_student(other).C == 1
