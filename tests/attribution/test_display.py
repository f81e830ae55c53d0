import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skllmreg import (
    AttributionDisplay,
    Attributions,
    LLMAttributionRegularizedClassifier,
    LLMAttributionRegularizedRegressor,
    LLMShapeTransformer,
)
from skllmreg.datasets import load_attributions


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    scores = load_attributions("breast_cancer")
    return LLMAttributionRegularizedClassifier(attributions=scores, gamma=1.0).fit(X, y)


def fitted(model, scores, standardize=True):
    """Fit to 40 rows of three columns, of which the last tells nothing."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(0, 3, 40), "b": rng.normal(size=40), "same": 2.5})
    y = np.where(X["a"] + 3 * X["b"] > 0, "yes", "no")
    return model(attributions=scores, gamma=0.01, standardize=standardize).fit(
        X, y if model is LLMAttributionRegularizedClassifier else X["a"] - X["b"]
    )


def tick_labels(ax):
    return [text.get_text() for text in ax.get_yticklabels()]


def columns(display):
    """The learned coefficients as drawn, by row."""
    twin = display.figure_.axes[1]
    return [(patch.get_width(), patch.get_hatch()) for patch in twin.patches]


def test_points_are_mean_scores_with_the_spread_of_the_estimates():
    scores = [{"a": 4, "b": -1, "same": 0}, {"a": 8, "b": -1, "same": 0}]
    display = AttributionDisplay.from_estimator(fitted(LLMAttributionRegularizedClassifier, scores))
    (points,) = display.ax_.containers
    np.testing.assert_allclose(points.lines[0].get_xdata(), [6, -1, 0])
    (bars,) = points.lines[2]
    np.testing.assert_allclose([segment[:, 0] for segment in bars.get_segments()][0], [4, 8])
    assert tick_labels(display.ax_) == ["a", "b", "same"]


def test_columns_are_coefficients_per_standard_deviation():
    model = fitted(LLMAttributionRegularizedClassifier, {"a": 9, "b": 1, "same": 5})
    display = AttributionDisplay.from_estimator(model)
    widths = dict(
        zip(tick_labels(display.ax_), [width for width, _ in columns(display)], strict=True)
    )
    assert widths["a"] == pytest.approx(model.coef_[0, 0] * model.scale_[0])
    assert model.scale_[0] == pytest.approx(3, rel=0.3)
    assert widths["same"] == 0  # a constant column has an infinite scale
    assert "standard deviation" in display.figure_.axes[1].get_xlabel()


def test_without_standardize_columns_are_the_coefficients():
    model = fitted(LLMAttributionRegularizedClassifier, {"a": 9, "b": 1, "same": 5}, False)
    display = AttributionDisplay.from_estimator(model)
    np.testing.assert_array_equal(display.coef, model.coef_)
    assert "standard deviation" not in display.figure_.axes[1].get_xlabel()


def test_signs_that_disagree_are_marked_and_counted():
    scores = {"a": 9, "b": -8, "same": 0}
    display = AttributionDisplay.from_estimator(fitted(LLMAttributionRegularizedClassifier, scores))
    assert display.coef[0, 0] > 0
    assert display.coef[0, 1] > 0  # against the score
    assert [bool(hatch) for _, hatch in columns(display)] == [False, True, False]
    assert "1 of 3 signs disagree" in display.ax_.get_title(loc="left")


def test_sorted_by_score_and_long_lists_are_cut_with_a_note(cancer):
    display = AttributionDisplay.from_estimator(cancer, max_features=4)
    names = tick_labels(display.ax_)
    assert len(names) == 5
    assert names[-1] == "… 26 more"
    mean = dict(zip(cancer.feature_names_in_, np.abs(cancer.attributions_[0]), strict=True))
    shown = [mean[name] for name in names[:-1]]
    assert shown == sorted(mean.values(), reverse=True)[:4]


def test_two_classes_are_two_sides_of_one_picture(cancer):
    benign = AttributionDisplay.from_estimator(cancer)
    malignant = AttributionDisplay.from_estimator(cancer, class_=0)
    np.testing.assert_array_equal(malignant.scores, -benign.scores)
    np.testing.assert_array_equal(malignant.coef, -benign.coef)
    assert "for class 1" in benign.ax_.get_title(loc="left")
    assert "for class 0" in malignant.ax_.get_title(loc="left")


def test_several_classes_have_axes_each_or_one_is_chosen():
    X, y = load_wine(return_X_y=True, as_frame=True)
    scores = load_attributions("wine")
    model = LLMAttributionRegularizedClassifier(attributions=scores, gamma=1.0).fit(X, y)
    display = AttributionDisplay.from_estimator(model)
    assert [ax.get_title(loc="left").split()[4] for ax in display.ax_] == ["0", "1", "2"]
    one = AttributionDisplay.from_estimator(model, class_=2)
    np.testing.assert_array_equal(one.coef[0], model.coef_[2] * model.scale_)
    with pytest.raises(ValueError, match="3 outputs need as many axes, got 1"):
        AttributionDisplay.from_estimator(model, ax=one.ax_)
    with pytest.raises(ValueError, match=r"no class 7; the classes are \[0, 1, 2\]"):
        AttributionDisplay.from_estimator(model, class_=7)


def test_regressor_is_drawn_without_a_class():
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    scores = load_attributions("diabetes")
    model = LLMAttributionRegularizedRegressor(attributions=scores).fit(X, y)
    display = AttributionDisplay.from_estimator(model)
    np.testing.assert_array_equal(display.coef[0], model.coef_ * model.scale_)
    assert "raises the target" in display.ax_.get_title(loc="left")
    with pytest.raises(ValueError, match="is a regressor"):
        AttributionDisplay.from_estimator(model, class_=1)


def test_draws_into_given_axes_and_again(cancer):
    figure, ax = plt.subplots()
    display = AttributionDisplay.from_estimator(cancer, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    again = display.plot(max_features=2)
    assert again is display
    assert display.figure_ is not figure


def test_columns_without_names_and_names_that_look_like_formulas():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 2)), np.arange(20) % 2
    model = LLMAttributionRegularizedClassifier(attributions=[5, -5]).fit(X, y)
    assert set(tick_labels(AttributionDisplay.from_estimator(model).ax_)) == {"x0", "x1"}
    X = pd.DataFrame(X, columns=[r"cost in $ \of $", "n" * 200])
    model = LLMAttributionRegularizedClassifier(attributions=[5, -5]).fit(X, y)
    display = AttributionDisplay.from_estimator(model)
    display.figure_.canvas.draw()  # would raise if it were read as a formula
    assert max(len(name) for name in tick_labels(display.ax_)) == 40


@pytest.mark.filterwarnings("ignore::skllmreg.exceptions.NoLLMWarning")
def test_what_cannot_be_drawn_says_why(cancer):
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    with pytest.raises(NotFittedError):
        AttributionDisplay.from_estimator(LLMAttributionRegularizedClassifier())
    with pytest.raises(ValueError, match="fitted without scores"):
        AttributionDisplay.from_estimator(LLMAttributionRegularizedClassifier().fit(X, y))
    assert AttributionDisplay.from_estimator(make_pipeline(cancer)).coef_name
    with pytest.raises(ValueError, match="LogisticRegression is not drawn to"):
        AttributionDisplay.from_estimator(LogisticRegression(max_iter=5000).fit(X, y))


def test_of_a_network_the_linear_part_is_drawn_if_there_is_one():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 2)), np.arange(20) % 2
    network = LLMAttributionRegularizedClassifier(
        attributions=[5, -5], hidden_layer_sizes=2, max_epochs=1
    )
    display = AttributionDisplay.from_estimator(network.fit(X, y))
    assert "linear coefficient" in display.figure_.axes[1].get_xlabel()
    with pytest.raises(ValueError, match="network without a linear part"):
        AttributionDisplay.from_estimator(network.set_params(gamma=1.0).fit(X, y))


def test_missing_matplotlib_is_named(cancer, monkeypatch):
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match="AttributionDisplay requires matplotlib"):
            AttributionDisplay.from_estimator(cancer)


def test_shapes_are_drawn_as_curves_beside_their_rows():
    X = pd.DataFrame({"age": np.arange(20.0, 60), "bmi": np.arange(40.0) % 7})
    said = Attributions(
        {1: {"age": 6, "bmi": 2}}, shapes={1: {"age": [[[20, -1], [40, 1], [60, -1]]]}}
    )
    frame = LLMShapeTransformer(shapes=said).fit_transform(X)
    y = np.arange(40) // 10 % 2
    model = LLMAttributionRegularizedClassifier(attributions=said).fit(frame, y)
    display = AttributionDisplay.from_estimator(model)
    (curves,) = display.ax_.child_axes
    drawn = [line for line in curves.lines if len(line.get_xdata()) == 3]
    assert len(drawn) == 2  # the raw column and the shaped one
    np.testing.assert_allclose(np.diff(drawn[0].get_ydata()), [-0.76, 0.76])
    assert display.score_name == "score"  # no LLM has said them
