import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skllmreg import GenerationDisplay, GOLDAugmenter, GOLDSeq2SeqAugmenter
from skllmreg.augmentation._display import place
from skllmreg.augmentation._student import table_features
from skllmreg.exceptions import NoLLMWarning
from tests.augmentation.writers import TEXTS, TOPICS, TableWriter, TextWriter, table


def fitted(**params):
    params = {"random_state": 0, "n_rounds": 3, "n_novel_batches": 2} | params
    return GOLDAugmenter(generator=TextWriter(), **params).fit(TEXTS, TOPICS)


def heights(container):
    return np.array([patch.get_height() for patch in container])


def test_every_row_is_drawn_once():
    model = fitted()
    display = GenerationDisplay.from_estimator(model, TEXTS, X_real=["a parcel", "the bill", "?"])
    real, seeds, *rounds = display.ax_[0].collections
    assert [len(c.get_offsets()) for c in (real, seeds)] == [3, len(TEXTS)]
    drawn = [len(c.get_offsets()) for c in rounds if len(c.get_offsets())]
    assert drawn == np.bincount(model.generation_round_).tolist()
    names = [text.get_text() for text in display.ax_[0].get_legend().get_texts()]
    assert names == ["real", "labeled", *sorted(set(TOPICS)), "round 0", "round 1", "round 2"]


def test_the_histogram_holds_the_scored_rows_and_the_band_the_feedback():
    model = fitted()
    display = GenerationDisplay.from_estimator(model, TEXTS)
    below, band, above = (heights(c).sum() for c in display.ax_[1].containers)
    assert below + band + above == np.isfinite(model.ood_scores_).sum()
    assert band == np.sum(display.side[np.isfinite(model.ood_scores_)] == 0)
    # Of eight rows of a class, in two rounds that were followed by another.
    assert (below, band, above) == (4 * 2 * 2, 2 * 2 * 2, 2 * 2 * 2)


def test_accepted_rejected_and_cost_are_drawn_by_round():
    model = fitted()
    for entry in model.history_:
        entry["cost"] = 0.25
    model.history_[1]["rejected"] = {"label": 3}
    display = GenerationDisplay.from_estimator(model, TEXTS)
    accepted, label = display.ax_[2].containers[:2]
    assert heights(accepted).tolist() == [entry["accepted"] for entry in model.history_]
    assert heights(label).tolist() == [0, 3, 0]
    assert display.ax_[2].get_title(loc="left").endswith("$0.75")
    right = next(a for a in display.figure_.axes if "dollars" in a.get_ylabel())
    assert right.lines[0].get_ydata().tolist() == [0.25, 0.5, 0.75]


def test_without_feedback_there_are_no_scores_to_draw():
    model = fitted(strategy="no-feedback")
    display = GenerationDisplay.from_estimator(model, TEXTS)
    assert [ax.get_title(loc="left") for ax in display.ax_][1:] == ["Accepted and refused"]


def test_nothing_is_named_that_is_not_there():
    display = GenerationDisplay.from_estimator(fitted(n_rounds=1, strategy="no-feedback"), TEXTS)
    names = [text.get_text() for text in display.ax_[0].get_legend().get_texts()]
    assert names == ["labeled", *sorted(set(TOPICS))]
    assert not [ax for ax in display.figure_.axes if "dollars" in ax.get_ylabel()]


def test_many_classes_share_a_color_and_many_rounds_a_marker():
    model = fitted()
    display = GenerationDisplay.from_estimator(model, TEXTS)
    display.labels = np.arange(len(display.generated)) % 13
    display.round_ = np.arange(len(display.generated)) % 8
    names = [t.get_text() for t in display.plot().ax_[0].get_legend().get_texts()]
    assert "4 others" in names
    assert names[-1] == "round 4 and later"


def test_rows_pass_through_the_steps_of_a_pipeline():
    X, y = table()
    augmenter = GOLDAugmenter(generator=TableWriter(), n_rounds=1, random_state=0)
    model = make_pipeline(FunctionTransformer(lambda X: X.assign(age=X["age"] + 1)), augmenter)
    display = GenerationDisplay.from_estimator(model.fit(X, y), X)
    assert display.seeds.shape == (len(X), 2)


@pytest.mark.parametrize("as_frame", [True, False])
def test_tables_of_numbers_and_categories_are_drawn(as_frame):
    X, y = table(as_frame)
    detector = make_pipeline(table_features(X), IsolationForest())
    model = GOLDAugmenter(
        generator=TableWriter(), strategy="gold", ood_score=detector, n_rounds=2
    ).fit(X, y)
    display = GenerationDisplay.from_estimator(model, X, X_real=X)
    assert display.generated.shape == (len(model.X_generated_), 2)
    assert display.ax_[1].get_xlabel().startswith("outlier score")


@pytest.mark.parametrize(
    "rows",
    [np.array([[1.0], [np.nan], [3.0]]), np.array(["a b", "b c", "c d e"], dtype=object)],
    ids=["one column", "words of one letter"],
)
def test_narrow_rows_have_places(rows):
    places = place(rows)
    assert places.shape == (3, 2)
    assert np.isfinite(places).all()


def test_an_embedding_of_the_users_is_used():
    model = fitted()
    lengths = FunctionTransformer(lambda X: [[len(x), x.count(" ")] for x in X])
    display = GenerationDisplay.from_estimator(model, TEXTS, embedding=lengths)
    assert display.seeds[:, 0].tolist() == [len(text) for text in TEXTS]
    flat = FunctionTransformer(lambda X: [[len(x)] for x in X])
    with pytest.raises(ValueError, match="two coordinates"):
        GenerationDisplay.from_estimator(model, TEXTS, embedding=flat)
    with pytest.raises(ValueError, match="'tsne' has no fit_transform"):
        GenerationDisplay.from_estimator(model, TEXTS, embedding="tsne")


def test_what_an_interrupt_has_left_is_drawn():
    class Stopped(TextWriter):
        def rows(self, request, rng):
            if request.number == 6:
                raise KeyboardInterrupt
            return super().rows(request, rng)

    model = GOLDAugmenter(generator=Stopped(), n_novel_batches=2, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(TEXTS, TOPICS)
    display = GenerationDisplay.from_estimator(model, TEXTS)
    assert heights(display.ax_[2].containers[0]).tolist() == [32, 16]


def test_rows_of_another_kind_are_refused_and_columns_found_by_name():
    X, y = table()
    model = GOLDAugmenter(generator=TableWriter(), n_rounds=1, random_state=0).fit(X, y)
    for other in (TEXTS, X.to_numpy()):
        with pytest.raises(ValueError, match="X is of another kind"):
            GenerationDisplay.from_estimator(model, other)
    with pytest.raises(ValueError, match="X_real has no column 'age'"):
        GenerationDisplay.from_estimator(model, X, X_real=X.drop(columns="age"))
    with pytest.raises(ValueError, match="X is of another kind"):
        GenerationDisplay.from_estimator(fitted(), X)
    plain = GenerationDisplay.from_estimator(model, X)
    turned = GenerationDisplay.from_estimator(model, X[X.columns[::-1]].assign(more=1))
    np.testing.assert_allclose(plain.seeds, turned.seeds)


def test_axes_of_the_users_are_used_and_counted():
    model = fitted()
    _, axes = plt.subplots(3)
    assert GenerationDisplay.from_estimator(model, TEXTS, ax=axes).ax_[2] is axes[2]
    with pytest.raises(ValueError, match="3 are wanted"):
        GenerationDisplay.from_estimator(model, TEXTS, ax=axes[:2])


def test_a_plain_student_cannot_be_drawn():
    with pytest.warns(NoLLMWarning):
        model = GOLDAugmenter().fit(TEXTS, TOPICS)
    with pytest.raises(ValueError, match="nothing to draw"):
        GenerationDisplay.from_estimator(model, TEXTS)


def test_frames_are_standardized_before_they_are_placed():
    X = pd.DataFrame({"a": [0.0, 1.0, 2.0, 5.0], "b": [3e6, 1e6, 2e6, 0.0]})
    y = [0, 0, 1, 1]
    model = GOLDAugmenter(generator=TableWriter(), n_rounds=1).fit(X, y)
    display = GenerationDisplay.from_estimator(model, X)
    rows = pd.concat([X, model.X_generated_])
    expected = PCA(2).fit_transform((rows - rows.mean()) / rows.std(ddof=0))
    np.testing.assert_allclose(np.abs(display.seeds), np.abs(expected[:4]), atol=1e-6)


def test_pairs_of_texts_and_inputs_with_targets_are_drawn_too():
    X = pd.DataFrame({"premise": [f"It rains on day {i} in May." for i in range(8)]})
    X["claim"] = [f"It is wet on day {i} of the month." for i in range(8)]

    def pairs(request):
        return [
            {"premise": f"Snow fell on {request.number} {i} places.", "claim": f"Cold {i} {i * 7}"}
            for i in range(request.n_rows)
        ]

    model = GOLDAugmenter(generator=pairs, strategy="gold", n_rounds=2, random_state=0)
    GenerationDisplay.from_estimator(model.fit(X, ["a", "b"] * 4), X)

    def dates(request):
        return [(f"{i}.{request.number + 1}.2024", f"2024-{i}") for i in range(10, 18)]

    model = GOLDSeq2SeqAugmenter(generator=dates, strategy="gold", n_rounds=2, random_state=0)
    texts = ["1.1.2024", "2.12.2023"]
    display = GenerationDisplay.from_estimator(model.fit(texts, ["2024-1", "2023-2"]), texts)
    assert set(display.side) <= {-1, 0, 1}
