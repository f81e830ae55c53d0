"""Teach a skorch student: soft targets, and LLKD's rule for every batch, through its loss.

The user's net needs no subclass: its criterion is wrapped while it is fitted, and its training rows
carry the teacher's word where labels would be.
"""

from functools import partial

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch.utils.data import Dataset, Subset

from skllmreg.selection._strategies import PaperRule


def fit_net(estimator, X, target, weight, *, rule=None, teacher_proba=None):
    """Fit a clone of a net to weighted targets.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier
        With torch's CrossEntropyLoss on logits or NLLLoss on probabilities.
    X : what the net takes, of shape (n_samples, ...)
    target : ndarray of shape (n_samples, n_classes)
    weight : ndarray of shape (n_samples,)
    rule : PaperRule, default=None
        Selects, in each batch, among the rows of `teacher_proba`; labelled rows always count.
    teacher_proba : ndarray of shape (n_samples, n_classes), default=None
        NaN for labelled rows.

    Returns
    -------
    net : fitted NeuralNetClassifier
    share : ndarray of shape (n_samples,)
        In which share of its presentations a row was learned from; NaN for rows held out by the
        net's own `train_split`.
    """
    if not isinstance(estimator, NeuralNetClassifier):
        raise TypeError(f"{type(estimator).__name__} is no skorch NeuralNetClassifier.")
    net = clone(estimator)
    if teacher_proba is None:
        teacher_proba = np.full(target.shape, np.nan)
    table = Table(target, weight, teacher_proba)
    tally = np.zeros((2, len(target)), dtype=np.int64)
    criterion, train_split = net.criterion, net.train_split
    nonlinearity = net.predict_nonlinearity
    wrapped = {
        "criterion": partial(TeachingLoss, criterion, rule, target.shape[1], tally),
        "train_split": TeachingSplit(train_split, table),
    }
    if nonlinearity == "auto" and is_cross_entropy(criterion):
        # skorch infers the softmax from the criterion, which it does not see now.
        wrapped["predict_nonlinearity"] = partial(torch.softmax, dim=-1)
    net.set_params(**wrapped)
    net.fit(X, target.argmax(axis=1))
    net.criterion, net.train_split, net.predict_nonlinearity = criterion, train_split, nonlinearity
    net.criterion_ = net.criterion_.base
    shown, used = tally
    with np.errstate(invalid="ignore"):
        return net, used / shown


def is_cross_entropy(criterion):
    """Whether it is the loss on logits, as a class or an instance."""
    kind = criterion if isinstance(criterion, type) else type(criterion)
    return issubclass(kind, torch.nn.CrossEntropyLoss)


class Table:
    """What the training loop has to know of each row, as one tensor.

    Columns: the target (n_classes), the teacher's probabilities (n_classes), weight, row.
    """

    def __init__(self, target, weight, teacher_proba):
        rows = np.arange(len(target), dtype=np.float64)
        # Double: a single has whole numbers up to 16 million only.
        self.values = torch.as_tensor(np.column_stack([target, teacher_proba, weight, rows]))


class Taught(Dataset):
    """A data set whose labels are the rows of a table."""

    def __init__(self, dataset, table):
        self.dataset = dataset
        self.table = table

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        return self.dataset[i][0], self.table.values[i]


class TeachingSplit:
    """The net's own split into training and validation; only the training part is taught."""

    def __init__(self, split, table):
        self.split = split
        self.table = table

    def __call__(self, dataset, y=None, **params):
        taught = Taught(dataset, self.table)
        if not self.split:
            return taught, None
        train, valid = self.split(dataset, y, **params)
        if train is dataset:
            return taught, valid
        if not isinstance(train, Subset) or train.dataset is not dataset:
            raise TypeError(
                "The net's train_split has to return a torch Subset of the data for training, as "
                f"skorch's ValidSplit does; got {type(train).__name__}."
            )
        return Subset(taught, train.indices), valid


class TeachingLoss(torch.nn.Module):
    """Cross-entropy to the targets of a `Table`, over the rows that the rule selects.

    The mean over the selected rows of weight times loss; a batch without any has loss 0. Plain
    labels, as in validation, go to the net's own criterion.

    Parameters
    ----------
    criterion : class or instance
        The net's own.
    rule : PaperRule or None
    n_classes : int
    tally : ndarray of int of shape (2, n_samples)
        Counts how often a row is shown and learned from.
    **params
        Of the criterion.
    """

    def __init__(self, criterion, rule: PaperRule | None, n_classes, tally, **params):
        super().__init__()
        self.base = criterion(**params) if isinstance(criterion, type) else criterion
        if not isinstance(self.base, torch.nn.CrossEntropyLoss | torch.nn.NLLLoss):
            raise TypeError(
                f"The net's criterion is {type(self.base).__name__}; soft labels need torch's "
                "CrossEntropyLoss on logits or NLLLoss on probabilities."
            )
        self.on_logits = isinstance(self.base, torch.nn.CrossEntropyLoss)
        self.rule = rule
        self.n_classes = n_classes
        self.tally = tally

    def forward(self, output, label):
        """Compute the loss; `label` is plain or holds rows of the table."""
        if not self.on_logits:
            output = torch.log(output + torch.finfo(output.dtype).eps)
        if label.ndim == 1:
            return self.base(output, label)
        if output.shape[1] != self.n_classes:
            raise ValueError(
                f"The module has {output.shape[1]} outputs; there are {self.n_classes} classes."
            )
        k = self.n_classes
        weight = label[:, 2 * k].to(output)
        rows = label[:, 2 * k + 1].long().cpu().numpy()
        self.tally[0, rows] += 1
        if self.rule is None:
            self.tally[1, rows] += 1
        else:
            weight = weight * self._selected(output, label[:, k : 2 * k], rows)
        losses = torch.nn.functional.cross_entropy(
            output,
            label[:, :k].to(output),
            weight=self.base.weight,
            label_smoothing=getattr(self.base, "label_smoothing", 0.0),
            reduction="none",
        )
        return (weight * losses).sum() / (weight > 0).sum().clamp(min=1)

    def _selected(self, output, teacher_proba, rows):
        """Weights by the rule, 0 for rows that are not selected."""
        assert self.rule is not None
        p = teacher_proba.cpu().numpy()
        weight = np.ones(len(p))
        asked = ~np.isnan(p[:, 0])
        if asked.any():
            q = torch.softmax(output.detach(), dim=1).double().cpu().numpy()
            chosen, chosen_weight = self.rule(p[asked], q[asked])
            found = np.zeros(asked.sum())
            found[chosen] = chosen_weight
            weight[asked] = found
        self.tally[1, rows] += weight > 0
        return torch.as_tensor(weight).to(output)
