import json
import pickle
import shutil
import sys

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skllmreg import GOLDAugmenter, LLKDSelector
from skllmreg.students import TransformerClassifier

TEXTS = ["parcel is late", "where is parcel", "refund me", "i want refund now"] * 6
LABELS = np.array(["delivery", "delivery", "money", "money"] * 6)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model and tokenizer of a few hundred numbers, in a folder as the hub has them."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # for so small a model, threads wait for each other
    folder = tmp_path_factory.mktemp("tiny")
    words = sorted({word for text in TEXTS for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return TransformerClassifier(
        str(folder), max_epochs=12, batch_size=8, lr=0.005, device="cpu", random_state=0
    )


def test_it_loads_trains_and_predicts(tiny):
    model = clone(tiny).fit(TEXTS, LABELS)
    assert model.score(TEXTS, LABELS) == 1
    assert model.predict(["where is parcel now", "i want refund"]).tolist() == ["delivery", "money"]
    np.testing.assert_allclose(model.predict_proba(TEXTS).sum(axis=1), 1, rtol=1e-5)


def test_a_fit_prints_nothing_and_leaves_the_settings_of_transformers(tiny, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    clone(tiny).set_params(max_epochs=1).fit(TEXTS, LABELS)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_a_tokenizer_that_pads_on_the_left_does_not_here(tiny, tmp_path):
    folder = shutil.copytree(tiny.model, tmp_path / "left")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left"}))
    model = clone(tiny).set_params(model=str(folder), max_epochs=1, batch_size=2)
    model.fit(TEXTS, LABELS)
    long = ["where is parcel i want parcel now"] * 2
    np.testing.assert_allclose(
        model.predict_proba(["refund me"]),
        model.predict_proba(["refund me", "refund me", *long])[:1],
        rtol=1e-5,
    )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_decisions_are_the_logits_of_the_probabilities(tiny, n_classes):
    labels = np.arange(24) % n_classes
    model = clone(tiny).set_params(max_epochs=1).fit(TEXTS, labels)
    f = model.decision_function(TEXTS)
    assert f.shape == ((24,) if n_classes == 2 else (24, 3))
    expected = softmax(np.column_stack([-f / 2, f / 2]) if n_classes == 2 else f, axis=1)
    np.testing.assert_allclose(model.predict_proba(TEXTS), expected, rtol=1e-5)


def test_it_is_a_student_of_the_augmenter(tiny):
    def generator(request):
        return [f"{request.seed_examples[0]} {request.number} {i}" for i in range(request.n_rows)]

    model = GOLDAugmenter(
        clone(tiny).set_params(max_epochs=1),
        generator=generator,
        strategy="gold",
        n_rounds=2,
        n_batches=1,
    ).fit(TEXTS[:4], LABELS[:4])
    assert np.isfinite(model.ood_scores_).any()


def test_weight_zero_is_not_learned(tiny):
    flipped = np.where(LABELS == "money", "delivery", "money")
    weight = np.repeat([1.0, 0.0], len(TEXTS))
    model = clone(tiny).fit(TEXTS * 2, np.concatenate([LABELS, flipped]), sample_weight=weight)
    assert model.score(TEXTS, LABELS) == 1


def test_fitted_model_pickles(tiny):
    model = clone(tiny).set_params(max_epochs=1).fit(TEXTS, LABELS)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.predict_proba(TEXTS), model.predict_proba(TEXTS), rtol=1e-5)


def test_it_is_a_student_of_the_selector(tiny):
    y = np.where(np.arange(24) < 4, LABELS, None)
    proba = 0.8 * (LABELS[:, None] == np.array(["delivery", "money"])) + 0.1
    model = LLKDSelector(clone(tiny), strategy="all").fit(TEXTS, y, teacher_proba=proba)
    assert model.score(TEXTS, LABELS) == 1


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"skllmreg\[transformers\]"):
        TransformerClassifier().fit(["a", "b"], [0, 1])


def test_contract():
    with pytest.raises(NotFittedError):
        TransformerClassifier().predict(["a"])
    with pytest.raises(ValueError, match="str"):
        TransformerClassifier().fit([1.0, 2.0], [0, 1])
    assert clone(TransformerClassifier("x", lr=1e-4)).get_params()["lr"] == 1e-4


PROBA = 0.8 * (LABELS[:, None] == np.array(["delivery", "money"])) + 0.1


@pytest.fixture
def steps(monkeypatch):
    """Optimization steps taken since the test began."""
    torch = pytest.importorskip("torch")
    taken = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda *args, **kw: (taken.append(1), step(*args, **kw))[1]
    )
    return taken


def teach(student, steps, **params):
    """Fit a selector whose teacher has answers about all rows; the steps it took, and itself."""
    before = len(steps)
    model = LLKDSelector(student, random_state=0, **params)
    model.fit(TEXTS, teacher_proba=PROBA, classes=["delivery", "money"])
    return len(steps) - before, model


def test_it_selects_while_it_trains(tiny, steps):
    student = clone(tiny).set_params(max_epochs=3)
    n_all, _ = teach(student, steps, strategy="all", labels="hard")
    n_soft, _ = teach(student, steps, strategy="all")
    n_llkd, model = teach(student, steps, strategy="llkd", labels="hard")
    assert n_all == n_soft == n_llkd == 9
    assert 0 < np.nanmean(model.estimator_.learned_share_) < 1
    np.testing.assert_allclose(
        model.sample_weight_, model.estimator_.learned_share_[model.sample_indices_]
    )


@pytest.mark.parametrize("n_labeled", [0, 20])
def test_distill_costs_at_most_five_times_the_steps_of_hard_labels(tiny, steps, n_labeled):
    """Of noise, so that the students of the rounds never agree and all calls are made."""
    student = clone(tiny).set_params(max_epochs=3, batch_size=4)
    rng, vocabulary = np.random.default_rng(0), " ".join(TEXTS).split()
    texts = [" ".join(rng.choice(vocabulary, 8)) for _ in range(60)]
    y = np.full(60, None)
    y[:n_labeled] = LABELS[:n_labeled]
    proba = rng.dirichlet([0.2, 0.2], size=60)
    taken = {}
    for strategy, labels in (("random", "hard"), ("distill", "soft")):
        before = len(steps)
        LLKDSelector(
            student, strategy=strategy, labels=labels, max_teacher_calls=30, random_state=0
        ).fit(texts, y, teacher_proba=proba, classes=["delivery", "money"])
        taken[strategy] = len(steps) - before
    assert taken["distill"] <= 5 * taken["random"]


def test_soft_targets_pull_to_their_shares(tiny):
    target = np.where(LABELS[:, None] == "money", [0.3, 0.7], [0.8, 0.2])
    model = clone(tiny).set_params(max_epochs=15, weight_decay=0.0)
    model.fit_distributions(TEXTS, target, classes=np.array(["delivery", "money"]))
    np.testing.assert_allclose(model.predict_proba(TEXTS), target, atol=0.1)


def test_a_rule_that_selects_nothing_teaches_nothing(tiny):
    model = clone(tiny).set_params(max_epochs=1, weight_decay=0.0)
    target = np.eye(2)[(LABELS == "money").astype(int)]
    arguments = {"classes": np.array(["delivery", "money"]), "codes": target.argmax(axis=1)}
    model.fit_distributions(
        TEXTS, target, rule=lambda codes, weight, need: np.zeros(len(codes), "f4"), **arguments
    )
    assert not model.learned_share_.any()
    assert np.ptp(model.predict_proba(TEXTS)[:, 0]) < 0.2


def test_it_goes_on_from_another_for_one_epoch(tiny, steps):
    first = clone(tiny).fit(TEXTS, LABELS)
    before = first.predict_proba(TEXTS)
    n = len(steps)
    target = np.eye(2)[(LABELS == "money").astype(int)]
    again = clone(tiny).set_params(lr=1e-9)
    again.fit_distributions(TEXTS, target, classes=first.classes_, start=first)
    assert len(steps) - n == 3
    np.testing.assert_allclose(again.predict_proba(TEXTS), before, atol=1e-4)
    np.testing.assert_array_equal(first.predict_proba(TEXTS), before)


def test_a_frozen_encoder_stays_and_encodes_once(tiny, monkeypatch):
    import torch

    from skllmreg.students import _transformer_net

    calls = []
    embed = _transformer_net.Transformer.embed
    monkeypatch.setattr(
        _transformer_net.Transformer,
        "embed",
        lambda self, **tokens: (calls.append(len(tokens["input_ids"])), embed(self, **tokens))[1],
    )
    model = clone(tiny).set_params(freeze_encoder=True, max_epochs=20, lr=3e-3).fit(TEXTS, LABELS)
    assert sum(calls) == len(TEXTS)
    assert model.score(TEXTS, LABELS) == 1
    fresh = _transformer_net.Transformer(tiny.model, 2)
    for one, other in zip(
        fresh.encoder.parameters(), model.net_.module_.encoder.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_early_stopping_ends_the_training_and_keeps_the_best_epoch(tiny):
    noise = np.random.default_rng(0).permutation(LABELS)
    model = clone(tiny).set_params(
        early_stopping=True, validation_fraction=0.25, max_epochs=40, n_iter_no_change=2
    )
    model.fit(TEXTS, noise)
    losses = [epoch["valid_loss"] for epoch in model.net_.history]
    assert len(losses) == int(np.argmin(losses)) + 3 < 40


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_the_symmetric_loss_is_reached_by_hard_and_soft_labels(tiny, labels):
    from skllmreg.nn import SymmetricCrossEntropyLoss

    student = clone(tiny).set_params(loss="symmetric", alpha=0.5)
    model = LLKDSelector(student, strategy="all", labels=labels, random_state=0)
    model.fit(TEXTS, teacher_proba=PROBA, classes=["delivery", "money"])
    assert isinstance(model.estimator_.net_.criterion_, SymmetricCrossEntropyLoss)
    assert model.score(TEXTS, LABELS) == 1


def test_a_checkpoint_with_a_head_of_another_size_loads(tiny, tmp_path):
    import transformers

    transformers.BertForSequenceClassification.from_pretrained(
        tiny.model, num_labels=7
    ).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny.model).save_pretrained(tmp_path)
    model = clone(tiny).set_params(model=str(tmp_path), max_epochs=1).fit(TEXTS, LABELS)
    assert model.predict_proba(TEXTS).shape == (24, 2)


@pytest.mark.parametrize("n_steps", [1, 2, 7, 100])
def test_the_learning_rate_grows_and_then_falls_to_zero(n_steps):
    from skllmreg.students._transformer_net import learning_rate

    found = np.array([learning_rate(step, n_steps) for step in range(n_steps + 1)])
    assert found.max() == 1
    assert found[-1] == 0
    assert (np.diff(found[found.argmax() :]) <= 0).all()
