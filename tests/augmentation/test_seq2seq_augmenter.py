import datetime
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError

from skllmreg import ChatModel, GOLDSeq2SeqAugmenter
from skllmreg.augmentation import answer_in, exact_match, matches
from skllmreg.exceptions import GenerationError, NoLLMWarning
from tests.loopback import last

FORMATS = ["%d %B %Y", "%B %d, %Y", "%d.%m.%Y"]
X = ["1 May 2024", "June 2, 2023", "03.07.2022"]
Y = ["2024-05-01", "2023-06-02", "2022-07-03"]
ISO = matches(r"\d{4}-\d{2}-\d{2}")


class Writer:
    """Writes dates in any format with the ISO one; a share of the targets is wrong."""

    def __init__(self, wrong=0.0, kind="another day"):
        self.wrong, self.kind, self.requests = wrong, kind, []

    def __call__(self, request):
        self.requests.append(request)
        rng = np.random.RandomState(request.random_state)
        return [self.pair(rng) for _ in range(request.n_rows)]

    def pair(self, rng):
        day = datetime.date(1990, 1, 1) + datetime.timedelta(int(rng.randint(12_000)))
        target = day.isoformat()
        if rng.rand() < self.wrong:
            other = (day + datetime.timedelta(1)).isoformat()
            target = {"another day": other, "another form": day.strftime("%d/%m/%Y")}[self.kind]
        return {"input": day.strftime(FORMATS[rng.randint(3)]), "target": target}


def truth(x):
    return next(
        datetime.datetime.strptime(x, form).date().isoformat()
        for form in FORMATS
        if form.count(" ") == x.count(" ") and form.count(",") == x.count(",")
    )


class Lookup(BaseEstimator):
    """A student that knows what it has seen; the energy is the length of the input."""

    fits: list = []

    def fit(self, X, y):
        self.known_ = dict(zip(X, y, strict=True))
        self.fits.append(len(X))
        return self

    def predict(self, X):
        return np.array([self.known_.get(x, "") for x in X], dtype=object)

    def energy(self, X, y, temperature=1.0):
        return np.array([float(len(x)) for x in X])


def fitted(writer=None, **params):
    writer = writer or Writer()
    params = {"n_rounds": 3, "random_state": 0} | params
    return GOLDSeq2SeqAugmenter(Lookup(), generator=writer, **params).fit(X, Y), writer


def test_pairs_are_written_and_learned():
    model, writer = fitted()
    assert len(writer.requests) == model.n_requests_ == 12
    assert {r.label for r in writer.requests} == {None}
    assert all(
        e in [{"input": x, "target": y} for x, y in zip(X, Y, strict=True)]
        for r in writer.requests
        for e in r.seed_examples
    )
    assert model.score(model.X_generated_, model.y_generated_) == 1
    assert [truth(x) for x in model.X_generated_] == model.y_generated_.tolist()
    frame = model.to_frame()
    assert frame["input"].tolist() == model.X_generated_.tolist()
    assert frame["target"].tolist() == model.y_generated_.tolist()
    assert model.summary().loc["all", "accepted"] == len(frame)


@pytest.mark.parametrize("kind", ["another form", "another day"])
def test_wrong_targets_are_refused_by_a_check_or_by_a_second_answer(kind):
    def second(inputs):
        return [truth(x) for x in inputs]

    checks = {"validate": ISO} if kind == "another form" else {"answer_check": second}
    model, _ = fitted(Writer(0.2, kind), n_rounds=8, **checks)
    assert [truth(x) for x in model.X_generated_] == model.y_generated_.tolist()
    reason = "invalid" if kind == "another form" else "label"
    assert sum(r.reason == reason for r in model.rejected_) > 20


def test_a_student_can_answer_again():
    every = Lookup().fit(
        *zip(
            *[
                (p["input"], p["target"])
                for p in Writer()(type("R", (), {"random_state": 0, "n_rows": 99})())
            ],
            strict=True,
        )
    )
    model = GOLDSeq2SeqAugmenter(
        Lookup(),
        generator=lambda r: [(x, "2000-01-01") for x in every.known_],
        answer_check=every,
        n_rounds=1,
        n_batches=1,
    )
    with pytest.raises(GenerationError, match="label: a second answer is"):
        model.fit(X, Y)


def test_a_model_is_asked_again_with_examples_first_and_the_input_last(loopback):
    loopback.reply = lambda body: json.dumps(
        {"target": truth(json.loads(last(body).split("\n")[-1]))}
    )
    llm = ChatModel("tiny", base_url=loopback.base_url)
    model, _ = fitted(Writer(0.3), answer_check=llm, task="Write the date.", n_rounds=1)
    assert [truth(x) for x in model.X_generated_] == model.y_generated_.tolist()
    starts = {last(body).rpartition("\n")[0] for body in loopback.requests}
    assert len(starts) == 1
    assert json.dumps({"input": X[0], "target": Y[0]}) in starts.pop()


def test_an_llm_writes_pairs(loopback):
    writer = Writer()
    rng = np.random.RandomState(0)
    loopback.reply = lambda body: json.dumps({"rows": [writer.pair(rng) for _ in range(8)]})
    model = GOLDSeq2SeqAugmenter(
        llm=ChatModel("tiny", base_url=loopback.base_url),
        task="Write dates in one format.",
        input_description="a date",
        n_rounds=1,
        random_state=0,
    ).fit(X, Y)
    assert len(model.X_generated_) == 32
    prompt = last(loopback.requests[0])
    assert '"input": a date' in prompt
    assert "the class" not in prompt
    frame = model.to_frame()
    assert set(frame["model"]) == {"tiny"}
    assert frame["prompt_hash"].str.len().eq(16).all()


def test_inputs_of_several_fields_reach_writer_and_student_by_their_names():
    frame = pd.DataFrame(
        {"question": ["Who came?", "Who left?"], "context": ["Ada came first.", "Bob left early."]},
        index=["a", "b"],
    )

    def generator(request):
        assert set(request.seed_examples[0]["input"]) == {"question", "context"}
        return [
            {
                "input": {"question": f"Who saw {n}?", "context": f"It was Eve who saw {n}."},
                "target": "Eve" if n % 3 else "Mallory",
            }
            for n in range(request.number * 9, request.number * 9 + 8)
        ]

    model = GOLDSeq2SeqAugmenter(generator=generator, validate=answer_in("context"), n_rounds=1)
    X_new, y_new = model.fit_resample(frame, ["Ada", "Bob"])
    assert list(X_new.columns) == ["question", "context"]
    assert X_new.index.tolist()[:3] == ["a", "b", "generated_0"]
    assert set(model.y_generated_) == {"Eve"}
    assert {r.detail for r in model.rejected_} == {"the target is not in 'context'"}
    assert model.predict(frame).tolist() == ["Ada", "Bob"]
    assert model.to_frame()["question"].tolist() == model.X_generated_["question"].tolist()


def test_the_same_input_is_a_duplicate_whatever_its_target_and_numbers_count():
    rows = [("Add 2 and 3", "5"), ("add 2 and 3.", "6"), ("Add 2 and 4", "6"), ("1 may 2024", "x")]
    model, _ = fitted(lambda request: rows, n_rounds=1, n_batches=1)
    assert model.X_generated_.tolist() == ["Add 2 and 3", "Add 2 and 4"]
    assert [r.reason for r in model.rejected_] == ["duplicate"] * 2


def test_feedback_lies_in_the_band_of_energies():
    model, writer = fitted(strategy="gold", n_rounds=4)
    energies = dict(zip(model.X_generated_, model.ood_scores_, strict=True))
    shown = [(r.round, row) for r in writer.requests for row in r.feedback]
    assert shown
    for number, row in shown:
        low, high = model.history_[number - 1]["band"][None]
        assert low <= energies[row["input"]] == len(row["input"]) <= high


def test_without_feedback_no_student_is_trained_in_the_rounds():
    Lookup.fits.clear()
    model, _ = fitted()
    assert Lookup.fits == [3, 3 + len(model.X_generated_)]


def test_a_labeled_pair_that_is_refused_itself_is_an_error_before_a_request():
    writer = Writer()
    model = GOLDSeq2SeqAugmenter(generator=writer, validate=[ISO, lambda x, y: "no" * (x == X[1])])
    with pytest.raises(ValueError, match="Row 1 of the labeled pairs is refused itself: no"):
        model.fit(X, Y)
    assert not writer.requests


def test_a_check_that_returns_something_else_is_an_error():
    with pytest.raises(TypeError, match="validate returned True"):
        GOLDSeq2SeqAugmenter(generator=Writer(), validate=lambda x, y: True).fit(X, Y)


def test_without_a_generator_the_most_similar_input_answers():
    with pytest.warns(NoLLMWarning):
        model = GOLDSeq2SeqAugmenter().fit(X, Y)
    assert model.predict(["1 May 2021"]).tolist() == ["2024-05-01"]
    assert model.energy(["1 May 2024"], ["x"]) == pytest.approx(0)
    assert len(model.X_generated_) == len(model.to_frame()) == 0


def test_a_student_without_energy_cannot_have_gold():
    class Plain(BaseEstimator):
        def fit(self, X, y):
            return self

        def predict(self, X):
            return X

    with pytest.raises(ValueError, match="needs a student with energy"):
        GOLDSeq2SeqAugmenter(Plain(), generator=Writer(), strategy="gold").fit(X, Y)


@pytest.mark.parametrize("metric", ["token_f1", lambda true, text: float(true[:4] == text[:4])])
def test_the_score_is_the_mean_of_the_metric(metric):
    model, _ = fitted(metric=metric)
    assert model.score(X, Y) == 1
    assert 0 <= model.score(X[::-1], Y) < 1


def test_an_unfitted_model_says_so_and_a_clone_is_one():
    model, _ = fitted()
    with pytest.raises(NotFittedError):
        clone(model).predict(X)
    assert exact_match(model.predict(X)[0], Y[0])
