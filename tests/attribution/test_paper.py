"""The documented recipe ranks like the training loop that the paper published."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skllmreg import LLMAttributionRegularizedClassifier
from skllmreg.datasets import load_attributions


def published_loop(X, y, target, seed, *, gamma=100.0, lr=1e-2, epochs=200):
    """Train a linear layer as published; return its coefficients and intercept."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # tiny matrices
    layer = torch.nn.Linear(X.shape[1], 1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr)
    X = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    y = torch.tensor(y, dtype=torch.float32)
    target = torch.tensor(target / np.linalg.norm(target), dtype=torch.float32)
    for _ in range(epochs):
        optimizer.zero_grad()
        logits = layer(X)[:, 0]
        (gradients,) = torch.autograd.grad(logits.sum(), X, create_graph=True)
        batch_mean = gradients.mean(axis=0)
        distance = (batch_mean / batch_mean.norm() - target).square().mean()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y) + gamma * distance
        loss.backward()
        optimizer.step()
    return layer.weight.detach().numpy()[0].astype(float), layer.bias.item()


def paper_setting(scores):
    """The recipe of the user guide."""
    return make_pipeline(
        MinMaxScaler(),
        LLMAttributionRegularizedClassifier(
            attributions=scores,
            gamma=200 / scores.shape[1],
            score_transform="exp",
            standardize=False,
        ),
    )


def tasks():
    """Two-class tasks of scikit-learn's data: breast cancer, and each class of wine and iris."""
    loaders = {"breast_cancer": load_breast_cancer, "wine": load_wine, "iris": load_iris}
    for name, loader in loaders.items():
        data = loader()
        for label, estimates in load_attributions(name).to_estimates().items():
            scores = np.array([[e[f] for f in data.feature_names] for e in estimates])
            yield f"{name} {label}", data.data, (data.target == label).astype(int), scores


@pytest.mark.slow
@pytest.mark.parametrize("per_class", [5, 30])
def test_paper_setting_ranks_like_the_published_loop(per_class):
    differences = {}
    for name, X, y, scores in tasks():
        for seed in range(2):
            rng = np.random.default_rng(seed)
            train = np.concatenate(
                [rng.choice(np.flatnonzero(y == k), per_class, replace=False) for k in (0, 1)]
            )
            test = np.setdiff1d(np.arange(len(y)), train)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ours = paper_setting(scores).fit(X[train], y[train])
            scaler = MinMaxScaler().fit(X[train])
            mean = scores.mean(axis=0)
            target = np.sign(mean) * np.exp(np.abs(mean))
            coef, intercept = published_loop(scaler.transform(X[train]), y[train], target, seed)
            auc = roc_auc_score(y[test], ours.predict_proba(X[test])[:, 1])
            published = roc_auc_score(y[test], scaler.transform(X[test]) @ coef + intercept)
            differences.setdefault(name, []).append(auc - published)
    mean = {name: np.mean(values) for name, values in differences.items()}
    assert abs(np.mean(list(mean.values()))) <= 0.005, mean
