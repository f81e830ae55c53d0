"""The published training loop, written afresh from the paper's description (arXiv:2502.20268).

One linear layer; mean cross-entropy plus gamma / d times the squared distance between the direction
of the batch's mean input gradient and the direction of the scores sign(s) exp(|s|); gamma = 100;
Adam with learning rate 1e-2, 200 epochs of one batch; features scaled by the few rows' minimum and
maximum.
"""

import numpy as np
import torch
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import MinMaxScaler
from skorch import NeuralNetBinaryClassifier

GAMMA, LEARNING_RATE, EPOCHS = 100.0, 1e-2, 200


def score_direction(estimates):
    scores = np.mean(estimates, axis=0)
    target = np.sign(scores) * np.exp(np.abs(scores))
    return torch.tensor(target / np.linalg.norm(target), dtype=torch.float32)


def attribution_loss(logits, X, target):
    """gamma / d * |g / |g| - t|^2 for the mean input gradient g of the batch."""
    (gradient,) = torch.autograd.grad(logits.sum(), X, create_graph=True)
    gradient = gradient.mean(dim=0)
    return GAMMA * torch.mean((gradient / gradient.norm() - target) ** 2)


class PublishedLoop(ClassifierMixin, BaseEstimator):
    """The loop in plain torch: what it computes, without what surrounds it."""

    def __init__(self, estimates, epochs=EPOCHS, seed=0):
        self.estimates = estimates
        self.epochs = epochs
        self.seed = seed

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        self.scaler_ = MinMaxScaler().fit(X)
        inputs = torch.tensor(self.scaler_.transform(X), dtype=torch.float32, requires_grad=True)
        labels = torch.tensor(y, dtype=torch.float32)
        target = score_direction(self.estimates)
        torch.manual_seed(self.seed)
        layer = torch.nn.Linear(inputs.shape[1], 1)
        optimizer = torch.optim.Adam(layer.parameters(), lr=LEARNING_RATE)
        for _ in range(self.epochs):
            optimizer.zero_grad()
            logits = layer(inputs)[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
            (loss + attribution_loss(logits, inputs, target)).backward()
            optimizer.step()
        self.coef_ = layer.weight.detach().numpy().astype(float)
        self.intercept_ = layer.bias.detach().numpy().astype(float)
        return self

    def decision_function(self, X):
        return (self.scaler_.transform(X) @ self.coef_.T + self.intercept_)[:, 0]

    def predict_proba(self, X):
        positive = expit(self.decision_function(X))
        return np.column_stack([1 - positive, positive])


class PublishedNet(NeuralNetBinaryClassifier):
    """The loop as skorch runs it: the loss needs the gradient by the inputs of the batch."""

    def __init__(self, *args, target=None, **kwargs):
        self.target = target
        super().__init__(*args, **kwargs)

    def infer(self, x, **fit_params):
        return super().infer(x.requires_grad_(), **fit_params)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        loss = super().get_loss(y_pred, y_true, X, training=training)
        return loss + attribution_loss(y_pred, X, self.target) if training else loss


class SkorchLoop(ClassifierMixin, BaseEstimator):
    """The loop through skorch, from rows as they are to a ranking; a linear layer without units."""

    def __init__(self, estimates, seed=0, n_units=None, options=None):
        self.estimates = estimates
        self.seed = seed
        self.n_units = n_units
        self.options = options

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        self.scaler_ = MinMaxScaler().fit(X)
        torch.manual_seed(self.seed)
        self.net_ = PublishedNet(
            self.module(X.shape[1]),
            target=score_direction(self.estimates),
            optimizer=torch.optim.Adam,
            lr=LEARNING_RATE,
            max_epochs=EPOCHS,
            batch_size=-1,
            train_split=None,
            verbose=0,
            **(self.options or {}),
        )
        self.net_.fit(self.scaler_.transform(X).astype(np.float32), y.astype(np.float32))
        return self

    def module(self, n_features):
        if self.n_units is None:
            return torch.nn.Linear(n_features, 1)
        return torch.nn.Sequential(
            torch.nn.Linear(n_features, self.n_units),
            torch.nn.ReLU(),
            torch.nn.Linear(self.n_units, 1),
        )

    def decision_function(self, X):
        return self.predict_proba(X)[:, 1]

    def predict_proba(self, X):
        return self.net_.predict_proba(self.scaler_.transform(X).astype(np.float32))
