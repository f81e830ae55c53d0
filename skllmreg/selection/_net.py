"""Teach a skorch student: soft targets, and LLKD's rule for every batch, through its loss.

The user's net needs no subclass: its criterion is wrapped while it is fitted, and its training rows
carry their numbers where labels would be, by which the loss finds the teacher's word.
"""

import copy
from functools import partial

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch.utils.data import Subset

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
    lesson = BatchLesson(target, weight, rule, teacher_proba)
    criterion, train_split = net.criterion, net.train_split
    nonlinearity = net.predict_nonlinearity
    wrapped = {
        "criterion": partial(TeachingLoss, criterion, lesson),
        "train_split": TeachingSplit(train_split),
    }
    if nonlinearity == "auto" and is_cross_entropy(criterion):
        # skorch infers the softmax from the criterion, which it does not see now.
        wrapped["predict_nonlinearity"] = partial(torch.softmax, dim=-1)
    net.set_params(**wrapped)
    net.fit(X, target.argmax(axis=1))
    net.criterion, net.train_split, net.predict_nonlinearity = criterion, train_split, nonlinearity
    net.criterion_ = net.criterion_.base
    with np.errstate(invalid="ignore"):
        return net, lesson.used / lesson.shown


def is_cross_entropy(criterion):
    """Whether it is the loss on logits, as a class or an instance."""
    kind = criterion if isinstance(criterion, type) else type(criterion)
    return issubclass(kind, torch.nn.CrossEntropyLoss)


def taught(dataset):
    """Copy a skorch data set, with labels that name the rows: -1 - row, so that they are no class.

    Swapping the labels costs nothing per row, as a data set around it would.
    """
    if getattr(dataset, "y", None) is None:
        raise TypeError(f"The net's data set, a {type(dataset).__name__}, has no attribute y.")
    dataset = copy.copy(dataset)
    dataset.y = -1 - np.arange(len(dataset))
    return dataset


class TeachingSplit:
    """The net's own split into training and validation; only the training part is taught."""

    def __init__(self, split):
        self.split = split

    def __call__(self, dataset, y=None, **params):
        if not self.split:
            return taught(dataset), None
        train, valid = self.split(dataset, y, **params)
        if train is dataset:
            return taught(dataset), valid
        if not isinstance(train, Subset) or train.dataset is not dataset:
            raise TypeError(
                "The net's train_split has to return a torch Subset of the data for training, as "
                f"skorch's ValidSplit does; got {type(train).__name__}."
            )
        return Subset(taught(dataset), train.indices), valid


class BatchLesson:
    """Targets and weights of the rows, and which of a batch are learned from.

    Parameters
    ----------
    target, weight, rule, teacher_proba
        As in `fit_net`.

    Attributes
    ----------
    shown, used : ndarray of int of shape (n_samples,)
        How often each row was shown and learned from.
    """

    def __init__(self, target, weight, rule: PaperRule | None, teacher_proba):
        self.n_classes = target.shape[1]
        # Hard targets as classes: a cheaper loss.
        hard = bool((target.max(axis=1) == 1).all())
        self.target = torch.as_tensor(target.argmax(axis=1) if hard else target.astype(np.float32))
        self.weight = np.asarray(weight, dtype=np.float32)
        self.rule = rule
        self.teacher_proba = teacher_proba
        self.all_asked = rule is not None and not np.isnan(teacher_proba[:, 0]).any()
        self.shown, self.used = np.zeros((2, len(target)), dtype=np.int64)

    def batch(self, rows, output):
        """Return target and weight of the rows: 0 where not selected, else over their number."""
        target, rows = self.target[rows], rows.numpy()
        weight = self.weight[rows]
        if self.rule is not None:
            weight *= self._selected(self.teacher_proba[rows], output)
        self.shown[rows] += 1
        used = weight > 0
        self.used[rows] += used
        return target, torch.from_numpy(weight / max(np.count_nonzero(used), 1))

    def _selected(self, teacher_proba, output):
        assert self.rule is not None
        q = output.detach().cpu().numpy()
        q = np.exp(q - q.max(axis=1, keepdims=True))
        q /= q.sum(axis=1, keepdims=True)
        chosen = np.zeros(len(q), dtype=np.float32)
        if self.all_asked:
            found, chosen_weight = self.rule(teacher_proba, q)
            chosen[found] = chosen_weight
            return chosen
        asked = ~np.isnan(teacher_proba[:, 0])
        chosen[~asked] = 1.0
        if asked.any():
            found, chosen_weight = self.rule(teacher_proba[asked], q[asked])
            chosen[np.flatnonzero(asked)[found]] = chosen_weight
        return chosen


class TeachingLoss(torch.nn.Module):
    """Cross-entropy to the targets of a `BatchLesson`, over the rows that it selects.

    The mean over the selected rows of weight times loss; a batch without any has loss 0. Plain
    labels, as in validation, go to the net's own criterion.

    Parameters
    ----------
    criterion : class or instance
        The net's own.
    lesson : BatchLesson
    **params
        Of the criterion.
    """

    def __init__(self, criterion, lesson, **params):
        super().__init__()
        self.base = criterion(**params) if isinstance(criterion, type) else criterion
        if not isinstance(self.base, torch.nn.CrossEntropyLoss | torch.nn.NLLLoss):
            raise TypeError(
                f"The net's criterion is {type(self.base).__name__}; soft labels need torch's "
                "CrossEntropyLoss on logits or NLLLoss on probabilities."
            )
        self.on_logits = isinstance(self.base, torch.nn.CrossEntropyLoss)
        self.lesson = lesson

    def forward(self, output, label):
        """Compute the loss; a label is a class, or names a row as `taught` does."""
        if not self.on_logits:
            output = torch.log(output + torch.finfo(output.dtype).eps)
        if int(label[0]) >= 0:
            return self.base(output, label)
        if output.shape[1] != self.lesson.n_classes:
            raise ValueError(
                f"The module has {output.shape[1]} outputs; there are {self.lesson.n_classes} "
                "classes."
            )
        target, weight = self.lesson.batch((-1 - label).cpu(), output)
        losses = torch.nn.functional.cross_entropy(
            output,
            target.to(output) if target.ndim == 2 else target.to(output.device),
            weight=self.base.weight,
            label_smoothing=getattr(self.base, "label_smoothing", 0.0),
            reduction="none",
        )
        return torch.dot(weight.to(losses), losses)
