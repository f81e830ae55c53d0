"""Pickles of other versions: what SECURITY.md promises of them, and no more."""

import pickle
import warnings

import numpy as np
import pytest
import sklearn
from sklearn.exceptions import InconsistentVersionWarning

from skllmreg import ChatModel, LLKDSelector, LLMAttributionRegularizedClassifier
from skllmreg.exceptions import NoLLMWarning

X = np.random.default_rng(0).normal(size=(20, 2))
Y = np.arange(20) % 2


def test_parts_of_another_scikit_learn_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoLLMWarning)
        data = pickle.dumps(LLKDSelector().fit(X, Y))
    here, there = sklearn.__version__.encode(), b"0" * len(sklearn.__version__)
    assert here in data
    with pytest.warns(InconsistentVersionWarning, match="LogisticRegression"):
        pickle.loads(data.replace(here, there))


def test_models_and_chat_models_keep_nothing_that_a_later_version_must_know():
    """Parameters and fitted attributes alone: a version that has the same ones reads them."""
    model = LLMAttributionRegularizedClassifier(attributions=[1, 2]).fit(X, Y)
    private = {name for name in vars(model) if name.startswith("_")}
    assert private <= {"_location", "_offset", "_holes"}
    chat = pickle.loads(pickle.dumps(ChatModel("tiny")))
    assert {name for name in vars(chat) if name.startswith("_")} == {"_run"}


def test_a_pickle_of_this_version_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LLMAttributionRegularizedClassifier(attributions=[1, 2]).fit(X, Y)
        again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
