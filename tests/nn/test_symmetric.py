import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch.nn import functional

from skllmreg.nn import SymmetricCrossEntropyLoss

torch.manual_seed(0)
logits = torch.randn(7, 4, dtype=torch.float64)
labels = torch.tensor([0, 1, 2, 3, 0, 1, 2])
soft = functional.softmax(torch.randn(7, 4, dtype=torch.float64), dim=1)
tokens = torch.randn(3, 4, 5, dtype=torch.float64)  # samples, classes, tokens
token_labels = torch.randint(0, 4, (3, 5))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("x", "y"), [(logits, labels), (logits, soft), (tokens, token_labels)])
def test_gradient_equals_finite_differences(x, y, reduction):
    loss = SymmetricCrossEntropyLoss(alpha=0.3, beta=0.7, reduction=reduction)
    assert torch.autograd.gradcheck(lambda z: loss(z, y), (x.clone().requires_grad_(),))


@pytest.mark.parametrize("y", [labels, soft])
def test_beta_zero_is_cross_entropy(y):
    loss = SymmetricCrossEntropyLoss(alpha=1.0, beta=0.0)(logits, y)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, y))


def test_alpha_zero_is_mean_absolute_error_times_a_constant():
    loss = SymmetricCrossEntropyLoss(alpha=0.0, beta=1.0)(logits, labels)
    error = (functional.softmax(logits, dim=1) - functional.one_hot(labels, 4)).abs().sum(dim=1)
    torch.testing.assert_close(loss, math.log(1e4) / 2 * error.mean())  # 4.605 times


def test_reverse_term_is_9_21_times_the_missing_probability():
    p = functional.softmax(logits, dim=1)[torch.arange(7), labels]
    loss = SymmetricCrossEntropyLoss(alpha=0.0, reduction="none")(logits, labels)
    torch.testing.assert_close(loss, math.log(1e4) * (1 - p))
    assert math.log(1e4) == pytest.approx(9.21, abs=0.001)


def test_soft_targets_that_are_one_hot_equal_classes():
    loss = SymmetricCrossEntropyLoss(alpha=0.2)
    one_hot = functional.one_hot(labels, 4).double()
    torch.testing.assert_close(loss(logits, labels), loss(logits, one_hot))


def test_padding_counts_neither_in_the_sum_nor_in_the_mean():
    padded = token_labels.clone()
    padded[:, 3:] = -100
    loss = SymmetricCrossEntropyLoss(alpha=0.2)
    torch.testing.assert_close(loss(tokens, padded), loss(tokens[..., :3], token_labels[:, :3]))


def test_a_surely_wrong_label_pulls_less_than_with_cross_entropy():
    sure = torch.tensor([[12.0, 0.0]], requires_grad=True)
    wrong = torch.tensor([1])
    pulls = [
        torch.autograd.grad(loss(sure, wrong), sure)[0].abs().max()
        for loss in (SymmetricCrossEntropyLoss(alpha=0.1), functional.cross_entropy)
    ]
    assert pulls[0] < 0.11 * pulls[1]


@pytest.mark.parametrize("params", [{"alpha": -1}, {"beta": -1}, {"floor": 0}, {"floor": 1}])
def test_impossible_weights_are_an_error(params):
    with pytest.raises(ValueError, match="alpha and beta are weights"):
        SymmetricCrossEntropyLoss(**params)


def test_it_is_a_criterion_of_a_net_that_then_has_probabilities():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(np.int64)
    net = NeuralNetClassifier(
        torch.nn.Linear,
        module__in_features=3,
        module__out_features=2,
        criterion=SymmetricCrossEntropyLoss,
        criterion__alpha=0.5,
        optimizer=torch.optim.Adam,
        lr=0.1,
        max_epochs=20,
        train_split=None,
        verbose=0,
    )
    proba = clone(net).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    assert np.mean(proba.argmax(axis=1) == y) > 0.9
