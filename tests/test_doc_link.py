"""The picture of every estimator in a notebook leads to its page."""

from pathlib import Path

import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skllmreg
from skllmreg import students

API = (Path(__file__).parents[1] / "docs" / "api.rst").read_text(encoding="utf-8").split()
PUBLIC = [(name, getattr(skllmreg, name)) for name in skllmreg.__all__]
PUBLIC += [(f"students.{name}", getattr(students, name)) for name in students.__all__]
ESTIMATORS = {
    name: public
    for name, public in PUBLIC
    if isinstance(public, type) and issubclass(public, BaseEstimator)
}
REQUIRED = {"students.Seq2SeqTransformer": ["a folder"]}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_html_links_to_the_page_of_the_public_name(name):
    estimator = ESTIMATORS[name](*REQUIRED.get(name, []))
    link = f'href="https://skllmreg.readthedocs.io/en/stable/generated/skllmreg.{name}.html"'
    assert name in API
    assert link in estimator._repr_html_()
    assert link in make_pipeline(StandardScaler(), estimator)._repr_html_()


def test_a_users_subclass_has_no_page():
    class Own(skllmreg.LLMAttributionRegularizedClassifier):
        pass

    assert "skllmreg.readthedocs.io" not in Own()._repr_html_()
