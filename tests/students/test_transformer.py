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
        str(folder), max_epochs=20, batch_size=8, lr=0.01, device="cpu", random_state=0
    )


def test_it_loads_trains_and_predicts(tiny):
    model = clone(tiny).fit(TEXTS, LABELS)
    assert model.score(TEXTS, LABELS) == 1
    assert model.predict(["my parcel", "my refund"]).tolist() == ["delivery", "money"]
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
        clone(tiny).set_params(max_epochs=1), generator=generator, n_rounds=2, n_batches=1
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
