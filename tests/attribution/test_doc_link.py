import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skllmreg

ESTIMATORS = [
    skllmreg.LLMAttributionRegularizedClassifier,
    skllmreg.LLMAttributionRegularizedRegressor,
    skllmreg.LLMFeatureSelector,
]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_html_links_to_the_page_of_the_public_name(estimator):
    name = estimator.__name__
    page = f"https://skllmreg.readthedocs.io/en/stable/generated/skllmreg.{name}.html"
    assert getattr(skllmreg, name) is estimator
    assert f'href="{page}"' in estimator()._repr_html_()
    assert f'href="{page}"' in make_pipeline(StandardScaler(), estimator())._repr_html_()


def test_a_users_subclass_has_no_page():
    class Own(skllmreg.LLMAttributionRegularizedClassifier):
        pass

    assert "skllmreg.readthedocs.io" not in Own()._repr_html_()
