import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skllmreg.students import Seq2SeqTransformer

X = ["red cat", "blue cat", "red dog", "blue dog"] * 4
Y = ["cat: red", "cat: blue", "dog: red", "dog: blue"] * 4


@pytest.fixture(scope="module")
def tiny():
    """A student from a configuration of a few thousand numbers."""
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4, dropout_rate=0.0
    )
    return Seq2SeqTransformer(
        config, max_target=12, max_epochs=30, batch_size=4, lr=1e-2, device="cpu", random_state=0
    )


@pytest.fixture(scope="module")
def fitted(tiny):
    return clone(tiny).fit(X, Y)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pretrained model and its tokenizer, as the hub has them."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "</s>", "<unk>", "red", "blue", "cat", "dog", ":"]
    plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path_factory.mktemp("pretrained")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(path)
    config = transformers.T5Config(
        vocab_size=len(words), d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=4
    )
    config.decoder_start_token_id = 0
    transformers.T5ForConditionalGeneration(config).save_pretrained(path)
    return str(path)


def by_hand(model, x, y, temperature=1.0):
    """Energy of one pair alone: nothing is padded, and every token counts."""
    torch = pytest.importorskip("torch")
    inputs, labels = model.tokenizer_.inputs([x], 99), model.tokenizer_.targets([y], 99)
    with torch.no_grad():
        out = model.model_(input_ids=torch.tensor(inputs), labels=torch.tensor(labels))
    f = out.logits[0].double().numpy() / temperature
    most = f.max(axis=1, keepdims=True)
    return -temperature * np.mean(np.log(np.exp(f - most).sum(axis=1)) + most[:, 0])


@pytest.mark.slow
def test_it_learns_pairs_from_random_weights(fitted):
    assert fitted.score(X[:4], Y[:4]) == 1
    assert fitted.loss_curve_[-1] < 0.1 * fitted.loss_curve_[0]
    assert fitted.predict(["red dog"]).tolist() == ["dog: red"]


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_energy_is_the_mean_over_the_targets_own_tokens(fitted, temperature):
    pairs = [("red cat", "cat: red"), ("a blue dog", "dog"), ("no", "a longer")]
    found = fitted.energy(*zip(*pairs, strict=True), temperature=temperature)
    expected = [by_hand(fitted, x, y, temperature) for x, y in pairs]
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-6)


def test_padding_changes_no_energy(fitted):
    long = ["a red cat and a blue dog and a red dog and a blue cat"] * 3
    alone = fitted.energy(["red cat", "dog"], ["cat: red", "d"])
    padded = fitted.energy(["red cat", "dog", *long], ["cat: red", "d", *["cat: red, b"] * 3])
    np.testing.assert_allclose(padded[:2], alone, atol=1e-6, rtol=1e-6)


def test_padding_changes_no_prediction(fitted):
    assert fitted.predict(["red cat", "blue dog " * 9])[0] == fitted.predict(["red cat"])[0]


def test_unfamiliar_inputs_have_higher_energy(fitted):
    known = fitted.energy(X[:4], Y[:4])
    assert fitted.energy(["%%!! 99"] * 4, Y[:4]).mean() > known.mean()


def test_a_random_state_makes_a_fit_repeatable(tiny):
    short = clone(tiny).set_params(max_epochs=2)
    one, two = clone(short).fit(X, Y), clone(short).fit(X, Y)
    np.testing.assert_array_equal(one.energy(X, Y), two.energy(X, Y))
    other = clone(short).set_params(random_state=1).fit(X, Y)
    assert not np.allclose(one.energy(X, Y), other.energy(X, Y))


def test_training_on_starts_where_the_fit_has_ended(tiny):
    model = clone(tiny).set_params(max_epochs=8).fit(X, Y)
    afresh = model.loss_curve_[0]
    assert model.partial_fit(X, Y).loss_curve_[0] < 0.6 * afresh
    assert model.fit(X, Y).loss_curve_[0] == pytest.approx(afresh)


def test_a_folder_of_a_pretrained_model_is_loaded_with_its_tokenizer(folder):
    model = Seq2SeqTransformer(
        folder, max_target=6, max_epochs=20, batch_size=4, lr=1e-2, device="cpu", random_state=0
    ).fit(X, Y)
    assert set(model.predict(X[:4])) <= {"cat : red", "cat : blue", "dog : red", "dog : blue"}
    np.testing.assert_allclose(
        model.energy(X[:1], Y[:1]), by_hand(model, X[0], Y[0]), atol=1e-6, rtol=1e-6
    )
    assert model.tokenizer_.targets(["cat"], 9)[0][-1] == model.tokenizer_.eos


def test_the_symmetric_loss_without_cross_entropy_is_bounded(tiny):
    model = clone(tiny).set_params(loss="symmetric", alpha=0.0, max_epochs=2).fit(X, Y[::-1])
    assert max(model.loss_curve_) <= -np.log(1e-4)


def test_a_fitted_model_pickles(fitted):
    restored = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(restored.energy(X, Y), fitted.energy(X, Y))


def test_a_fit_prints_nothing(tiny, capfd):
    clone(tiny).set_params(max_epochs=1).fit(X, Y).predict(X[:1])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (["a", 3], ["b", "c"], "Row 1 of X is 3"),
        (["a", "b"], ["c", None], "Row 1 of y is None"),
        (["a", "b"], ["c"], "inconsistent numbers"),
        ([], [], "X is empty"),
    ],
)
def test_pairs_that_cannot_be_learned_are_named(tiny, X, y, message):
    with pytest.raises(ValueError, match=message):
        clone(tiny).fit(X, y)


def test_an_unfitted_model_says_so(tiny):
    with pytest.raises(NotFittedError):
        clone(tiny).predict(X)
    with pytest.raises(NotFittedError):
        clone(tiny).energy(X, Y)
