import itertools

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skllmreg import GOLDAugmenter
from skllmreg.augmentation._kinds import SeveralTexts, TableRows, Texts, kind_of
from skllmreg.exceptions import ClosedSetWarning, GenerationError

ANIMALS = ["dog", "cat", "cow", "hen", "fox", "owl", "bee", "ant", "elk", "yak"]
PLACES = ["garden", "street", "barn", "kitchen", "river", "forest"]
VERBS = ["sleeps", "eats", "runs", "waits", "hides", "plays"]


def pair(animal, place, verb, label):
    other = verb if label == "entailment" else "sings"
    return {
        "premise": f"The old {animal} {verb} quietly in the {place} behind the house",
        "hypothesis": f"A {animal} {other} there",
    }


def pairs(n=32):
    labels = ["entailment", "not_entailment"] * (n // 2)
    cells = list(itertools.product(ANIMALS, PLACES, VERBS))[:: 360 // n]
    return pd.DataFrame([pair(*c, k) for c, k in zip(cells, labels, strict=False)]), labels


def sound(request):
    """Writes pairs that are right, and hardly ever the same."""
    rng = np.random.RandomState(request.random_state)
    return [
        pair(*(rng.choice(list_) for list_ in (ANIMALS, PLACES, VERBS)), request.label)
        | {
            "premise": f"On day {rng.randint(10**6)} the {rng.choice(ANIMALS)} {rng.choice(VERBS)} "
            f"{rng.choice(PLACES)} {rng.choice(ANIMALS)} {rng.choice(VERBS)} {rng.choice(PLACES)}"
        }
        for _ in range(request.n_rows)
    ]


@pytest.mark.parametrize("make", [lambda X: X, lambda X: pl.DataFrame(X.to_dict("list"))])
def test_sound_pairs_are_accepted_and_come_back_as_they_were(make):
    X, y = pairs()
    X = make(X)
    model = GOLDAugmenter(generator=sound, n_rounds=3, random_state=0)
    X_new, y_new = model.fit_resample(X, y)
    n_written = sum(entry["rows"] for entry in model.history_)
    assert len(model.X_generated_) >= 0.9 * n_written
    assert type(X_new) is type(X)
    assert list(X_new.columns) == ["premise", "hypothesis"]
    assert len(X_new) == len(y_new)
    assert set(model.predict(X)) <= {"entailment", "not_entailment"}


def test_short_texts_that_do_not_repeat_are_no_closed_set():
    X = pd.DataFrame({"word": ANIMALS, "other": [f"a {place}" for place in (PLACES * 2)[:10]]})
    with pytest.warns(ClosedSetWarning, match="'other' .'a barn', 'a forest'") as caught:
        kind = kind_of(pd.concat([X, X.assign(word=[f"{w}s" for w in ANIMALS])]))
    assert caught[0].filename == __file__
    assert [column.kind for column in kind.schema.columns] == ["text", "category"]
    assert isinstance(kind_of(X, text_columns=["word", "other"]), SeveralTexts)


def test_what_is_taken_for_a_closed_set_is_said_before_a_request():
    X = pd.DataFrame({"size": ["small", "large"] * 8, "n": np.arange(16.0)})
    asked = []
    model = GOLDAugmenter(generator=lambda request: asked.append(request) or [], n_rounds=1)
    with pytest.warns(ClosedSetWarning) as caught, pytest.raises(GenerationError):
        model.fit(X, ["a", "b", "b", "a"] * 4)
    assert "size" in str(caught[0].message)
    assert asked


@pytest.mark.filterwarnings("error::skllmreg.exceptions.ClosedSetWarning")
def test_declared_categories_and_named_texts_need_no_warning():
    X = pd.DataFrame({"size": ["small", "large"] * 8, "n": np.arange(16.0)})
    assert isinstance(kind_of(X.astype({"size": "category"})), TableRows)
    assert isinstance(kind_of(X, text_columns=[]), TableRows)
    kind = kind_of(X, text_columns=["size"])
    assert [column.kind for column in kind.schema.columns] == ["text", "integer"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [(["prem"], "names 'prem', which is not a column"), (["n"], "names 'n', which holds 0")],
)
def test_text_columns_that_are_none_are_named(columns, message):
    X = pd.DataFrame({"premise": ["It rains."] * 2, "n": [0, 1]})
    with pytest.raises(ValueError, match=message):
        kind_of(X, text_columns=columns)


def test_text_columns_are_for_tables():
    with pytest.raises(ValueError, match="text_columns are of a table"):
        kind_of(np.array(["a"], dtype=object), text_columns=["x"])
    assert isinstance(kind_of(np.array(["a"], dtype=object)), Texts)


def test_another_claim_about_the_same_premise_is_another_row():
    X, _ = pairs()
    kind = kind_of(X)
    index = kind.index(0.8)
    row = kind.rows[0]
    changed = row | {"hypothesis": "Somebody is at home"}
    assert index.add([row, changed, changed, changed | {"premise": row["premise"] + " now"}]) == [
        "duplicate",
        "",
        "duplicate",
        "near-duplicate",
    ]


@pytest.mark.slow
@given(st.lists(st.tuples(*[st.text("ab ", max_size=8)] * 2), max_size=12), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_pairs_are_compared_in_their_order_however_many_come_at_a_time(rows, step):
    X = pd.DataFrame({"p": ["It rains today."], "q": ["It is wet outside."]})
    rows = [{"p": p, "q": q} for p, q in rows]
    whole, parts = kind_of(X).index(0.5), kind_of(X).index(0.5)
    found = [s for i in range(0, len(rows), step) for s in parts.add(rows[i : i + step])]
    assert whole.add(rows) == found


def test_a_table_of_numbers_and_texts_has_a_student_for_both():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"note": [f"{w} {i} was here" for i, w in enumerate(ANIMALS * 2)]})
    X["n"] = rng.normal(size=20)
    y = np.array(["bird" if "hen" in note or "owl" in note else "no" for note in X["note"]])

    def generator(request):
        rng = np.random.RandomState(request.random_state)
        words = ["hen", "owl"] if request.label == "bird" else ["dog", "fox"]
        return [
            {"note": f"{rng.choice(words)} {rng.randint(10**6)} was here", "n": rng.normal()}
            for _ in range(request.n_rows)
        ]

    model = GOLDAugmenter(generator=generator, n_rounds=2, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.9
