import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.datasets import load_iris
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, OneClassSVM
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier

from skllmreg.augmentation import _energy
from skllmreg.augmentation._energy import (
    check_ood_score,
    energy_score,
    logits_of,
    ood_scores,
    student_energy,
)
from skllmreg.nn import SymmetricCrossEntropyLoss

rng = np.random.default_rng(0)
logits = rng.normal(scale=3, size=(50, 4))
X, y = load_iris(return_X_y=True)
to_float32 = FunctionTransformer(np.float32)


def net(criterion=torch.nn.CrossEntropyLoss, module=None, kind=NeuralNetClassifier, **params):
    module = torch.nn.Linear(4, 3) if module is None else module
    return kind(module, criterion=criterion, max_epochs=3, verbose=0, train_split=None, **params)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_energy_is_minus_the_tempered_log_sum_exp(temperature):
    expected = -temperature * logsumexp(logits / temperature, axis=1)
    np.testing.assert_allclose(energy_score(logits, temperature=temperature), expected)


def test_a_constant_in_the_logits_is_taken_off_the_energy():
    np.testing.assert_allclose(energy_score(logits + 2.5), energy_score(logits) - 2.5)


def test_at_low_temperature_energy_is_minus_the_largest_logit():
    np.testing.assert_allclose(energy_score(logits, temperature=1e-6), -logits.max(axis=1))


def test_huge_logits_neither_overflow_nor_vanish():
    np.testing.assert_allclose(energy_score([[1e4, 0.0], [-1e4, -1e4]]), [-1e4, 1e4 - np.log(2)])


def test_one_decision_value_stands_for_two_logits_and_tells_the_margin_only():
    f = np.linspace(-6, 6, 13)
    energy = energy_score(f)
    np.testing.assert_allclose(energy, energy_score(np.column_stack([-f / 2, f / 2])))
    np.testing.assert_allclose(energy, -np.logaddexp(-f / 2, f / 2))
    np.testing.assert_allclose(energy, energy[::-1])
    assert np.all(np.diff(energy[6:]) < 0)


def test_of_sequences_it_is_the_mean_over_the_tokens_that_count():
    tokens = rng.normal(size=(6, 5, 4))
    mask = np.arange(5) < np.array([1, 2, 3, 4, 5, 5])[:, None]
    expected = [-logsumexp(row[m], axis=1).mean() for row, m in zip(tokens, mask, strict=True)]
    np.testing.assert_allclose(energy_score(tokens, mask=mask), expected)
    padded = np.where(mask[..., None], tokens, np.nan)
    np.testing.assert_allclose(energy_score(padded, mask=mask), expected)
    whole = -logsumexp(tokens, axis=2).mean(axis=1)
    np.testing.assert_allclose(energy_score(tokens), whole)


def test_a_mask_that_leaves_nothing_or_fits_nothing_is_an_error():
    tokens = rng.normal(size=(3, 5, 4))
    mask = np.ones((3, 5), bool)
    mask[1] = False
    with pytest.raises(ValueError, match="leaves row 1 no token"):
        energy_score(tokens, mask=mask)
    with pytest.raises(ValueError, match="first two dimensions"):
        energy_score(logits, mask=mask)
    with pytest.raises(ValueError, match="True .or 1. for the tokens"):
        energy_score(tokens, mask=np.where(mask, 7, -100))  # labels, in which -100 is padding


@pytest.mark.parametrize("shape", [(0,), (0, 4), (0, 3, 4)])
def test_no_rows_have_no_energies(shape):
    assert energy_score(np.empty(shape)).shape == (0,)


@pytest.mark.parametrize("shape", [(50,), (50, 4), (50, 3, 4)])
def test_chunks_change_nothing(shape, monkeypatch):
    values = rng.normal(size=shape)
    whole = energy_score(values)
    monkeypatch.setattr(_energy, "CHUNK_VALUES", 24)
    np.testing.assert_array_equal(energy_score(values), whole)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_students_are_scored_by_their_decision_function_in_chunks(n_classes, monkeypatch):
    rows = y < n_classes
    student = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[rows], y[rows])
    expected = energy_score(student.decision_function(X), temperature=2.0)
    monkeypatch.setattr(_energy, "CHUNK_ROWS", 7)
    np.testing.assert_allclose(student_energy(student, X, temperature=2.0), expected)


@pytest.mark.parametrize("criterion", [torch.nn.CrossEntropyLoss, SymmetricCrossEntropyLoss])
@pytest.mark.parametrize("piped", [False, True])
def test_nets_are_scored_by_their_raw_outputs(criterion, piped):
    inputs = X.astype(np.float32)
    student = net(criterion)
    check_ood_score("energy", student)
    if piped:
        student = make_pipeline(to_float32, make_pipeline(StandardScaler(), student))
        fitted = student.fit(inputs, y)
        inner = fitted[-1]
        raw = inner[-1].module_(torch.as_tensor(inner[:-1].transform(inputs)))
    else:
        fitted = student.fit(inputs, y)
        raw = fitted.module_(torch.as_tensor(inputs))
    expected = -logsumexp(raw.detach().double().numpy(), axis=1)
    # Batches of other sizes round otherwise, also where the energy is near 0.
    np.testing.assert_allclose(student_energy(fitted, inputs), expected, rtol=1e-5, atol=1e-5)


def test_a_net_with_one_output_is_a_decision_value():
    inputs, binary = X.astype(np.float32), (y == 0).astype(np.float32)
    student = net(torch.nn.BCEWithLogitsLoss, torch.nn.Linear(4, 1), NeuralNetBinaryClassifier)
    fitted = student.fit(inputs, binary)
    assert logits_of(fitted, inputs).shape == (150,)


@pytest.mark.parametrize("criterion", [torch.nn.NLLLoss, torch.nn.BCELoss])
def test_a_net_that_ends_in_probabilities_is_an_error_before_it_is_fitted(criterion):
    with pytest.raises(ValueError, match="puts out probabilities.*end in logits"):
        check_ood_score("energy", make_pipeline(to_float32, net(criterion)))


def test_probabilities_alone_are_an_error_that_names_the_way_out():
    with pytest.raises(ValueError, match="RandomForestClassifier has no decision_function.*Isol"):
        check_ood_score("energy", make_pipeline(StandardScaler(), RandomForestClassifier()))
    check_ood_score(IsolationForest(), RandomForestClassifier())


@pytest.mark.parametrize("temperature", [1, 5])
@pytest.mark.parametrize("put_out", ["log_proba", "proba"])
def test_probabilities_in_place_of_logits_are_an_error(put_out, temperature):
    class Normalized(LogisticRegression):
        def decision_function(self, X):
            f = super().decision_function(X)
            f -= logsumexp(f, axis=1, keepdims=True)
            return f if put_out == "log_proba" else np.exp(f)

    with pytest.raises(ValueError, match="are log-prob" if put_out == "log_proba" else "are prob"):
        student_energy(Normalized(max_iter=1000).fit(X, y), X, temperature=temperature)


@pytest.mark.parametrize(("n_classes", "n_pairs"), [(3, 3), (4, 6)])
def test_a_decision_function_of_pairs_is_an_error(n_classes, n_pairs):
    student = SVC(decision_function_shape="ovo").fit(X, np.arange(150) % n_classes)
    match = f'{n_pairs} columns for {n_classes} classes.*each class.*"ovr"'
    with pytest.raises(ValueError, match=match):
        logits_of(student, X)


@pytest.mark.parametrize(
    "detector",
    [
        IsolationForest(random_state=0),
        LocalOutlierFactor(novelty=True),
        OneClassSVM(),
        KernelDensity(),
        make_pipeline(StandardScaler(), KernelDensity()),
    ],
)
def test_any_outlier_detector_scores_what_is_far_highest(detector):
    known, far = X[y == 0], np.vstack([X[y == 0][:5] + 0.01, [[30.0, -20.0, 40.0, 50.0]]])
    scores = ood_scores(detector, None, far, known)
    assert scores.argmax() == 5


def test_a_detector_of_texts_is_a_pipeline():
    known = np.array(["the cat sat", "a cat ran", "the cat ran", "cat and mat"], dtype=object)
    new = np.array(["the cat", "quantum flux"], dtype=object)
    detector = make_pipeline(TfidfVectorizer(), OneClassSVM(kernel="linear"))
    assert ood_scores(detector, None, new, known).argmax() == 1


def test_what_scores_no_samples_is_an_error():
    with pytest.raises(ValueError, match="score_samples.*novelty=True"):
        check_ood_score(LocalOutlierFactor(), LogisticRegression())
