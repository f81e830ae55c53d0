"""Teach a skorch student: soft targets, and LLKD's rule for every batch, through its loss.

The user's net needs no subclass: its criterion is wrapped while it is fitted, and its training rows
carry their numbers where labels would be, by which the loss finds the teacher's word.
"""

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import BatchScoring, EpochScoring
from torch.utils.data import Subset

from skllmreg.nn import SymmetricCrossEntropyLoss


def fit_net(estimator, X, target, weight, *, rule=None, codes=None):
    """Fit a clone of a net to weighted targets; to plain labels in its own way.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier
        With torch's CrossEntropyLoss on logits or NLLLoss on probabilities.
    X : what the net takes, of shape (n_samples, ...)
    target : ndarray of shape (n_samples, n_classes)
    weight : ndarray of shape (n_samples,)
    rule : callable, default=None
        Selects, in each batch, among the rows that the teacher has answered.
    codes : ndarray of int of shape (n_samples,), default=None
        The teacher's labels, for the rule; -1 for labeled rows, which always count.

    Returns
    -------
    net : fitted NeuralNetClassifier
    share : ndarray of shape (n_samples,)
        In which share of its presentations a row was learned from; NaN for rows held out by the
        net's own `train_split`.
    """
    net = clone(estimator)
    labels = target.argmax(axis=1)
    lesson = BatchLesson(target, weight, rule, codes)
    if rule is None and lesson.hard and (lesson.weight == 1).all():
        return net.fit(X, labels), np.ones(len(labels))
    check_net(net)
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
    net.fit(X, labels)
    net.criterion, net.train_split, net.predict_nonlinearity = criterion, train_split, nonlinearity
    net.criterion_ = net.criterion_.base
    lesson.count()
    with np.errstate(invalid="ignore"):
        return net, lesson.used / lesson.shown


def is_cross_entropy(criterion):
    """Whether it is the loss on logits: as a class, an instance, or a partial of a class."""
    while isinstance(criterion, partial):
        criterion = criterion.func
    kind = criterion if isinstance(criterion, type) else type(criterion)
    return issubclass(kind, torch.nn.CrossEntropyLoss)


def check_net(net):
    """Raise where a net's loss or callbacks do not go with soft labels or selection.

    Parameters
    ----------
    net : skorch.NeuralNetClassifier
    """
    if not isinstance(net, NeuralNetClassifier):
        raise TypeError(f"{type(net).__name__} is not a skorch NeuralNetClassifier.")
    make_criterion(net.criterion, **net.get_params_for("criterion"))
    for callback in net.callbacks or []:
        callback = callback[-1] if isinstance(callback, tuple) else callback
        if isinstance(callback, EpochScoring | BatchScoring) and callback.on_train:
            raise TypeError(
                f"The net's callback {callback.name or callback.scoring!r} scores on training rows "
                "(on_train=True), whose labels may be soft. Score on validation rows."
            )


def make_criterion(criterion, **params):
    """Make the net's own loss; a TypeError if it is not one that can be taught."""
    made: Any = criterion if isinstance(criterion, torch.nn.Module) else criterion(**params)
    kinds = (torch.nn.CrossEntropyLoss, torch.nn.NLLLoss, SymmetricCrossEntropyLoss)
    plain = type(made) in kinds
    if not plain or made.ignore_index >= 0 or made.reduction == "none":
        raise TypeError(
            f"The net's criterion is {made}; soft labels and selection need torch's own "
            "CrossEntropyLoss on logits or NLLLoss on probabilities, or SymmetricCrossEntropyLoss, "
            "without ignore_index."
        )
    return made


def taught(dataset):
    """Copy a skorch data set, with labels that name the rows, counted from the end: no class.

    Swapping the labels costs nothing per row, as a data set around it would.
    """
    if getattr(dataset, "y", None) is None:
        raise TypeError(f"The net's data set, a {type(dataset).__name__}, has no attribute y.")
    dataset = copy.copy(dataset)
    dataset.y = np.arange(-len(dataset), 0)
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
    target, weight, rule, codes
        As in `fit_net`.
    """

    def __init__(self, target, weight, rule=None, codes=None):
        n, self.n_classes = target.shape
        labels = target.argmax(axis=1)
        # Hard targets as classes: less memory, and a cheaper loss.
        self.hard = bool((target[np.arange(n), labels] == 1).all())
        self.target = labels if self.hard else np.asarray(target, dtype=np.float32)
        self.weight = np.asarray(weight, dtype=np.float32)
        self.rule = rule
        self.codes = np.zeros(n, dtype=np.intp) if codes is None else np.asarray(codes, np.intp)
        self.some_labeled = bool((self.codes < 0).any())
        self.scale = -1 / math.log(max(self.n_classes, 2))  # of the entropy; and it is negative
        self.batches: list[tuple[np.ndarray, np.ndarray]] = []
        self.n_noted = 0
        self.shown, self.used = np.zeros((2, n), dtype=np.intp)

    def weigh(self, rows, log_q):
        """Weigh rows, 0 where not selected.

        Parameters
        ----------
        rows : ndarray of int of shape (n_rows,)
            Counted from the end.
        log_q : ndarray of shape (n_classes, n_rows)
            The student's log-probabilities.

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        weight = self.weight.take(rows)
        if self.rule is not None:
            log_q = np.maximum(log_q, -30.0)  # of a masked class, -inf: its share is 0
            need = (np.exp(log_q) * log_q).sum(axis=0) * self.scale
            codes = self.codes.take(rows)
            if self.some_labeled:
                asked = np.flatnonzero(codes >= 0)
                weight[asked] = self.rule(codes[asked], weight[asked], need[asked])
            else:
                weight = self.rule(codes, weight, need)
        self.batches.append((rows, weight > 0))
        self.n_noted += len(rows)
        if self.n_noted > len(self.weight):  # once an epoch: counting costs more than noting
            self.count()
        return weight

    def count(self):
        """Count how often a row was shown, and how often it was learned from."""
        if not self.batches:
            return
        rows, used = map(np.concatenate, zip(*self.batches, strict=True))
        n = len(self.weight)
        rows += n
        self.shown += np.bincount(rows, minlength=n)
        self.used += np.bincount(rows[used], minlength=n)
        self.batches, self.n_noted = [], 0


class TeachingLoss(torch.nn.Module):
    """Cross-entropy to the targets of a `BatchLesson`, over the rows that it selects.

    The mean over the selected rows of weight times loss; an empty selection has loss 0. In
    validation the net's own criterion counts.

    A batch costs a few dozen calls of numpy and torch, each a few microseconds: they are kept few.

    Parameters
    ----------
    criterion : class or instance
        The net's own.
    lesson : BatchLesson
    **params
        Of the criterion.
    """

    base: Any
    each: Any

    def __init__(self, criterion, lesson, **params):
        super().__init__()
        self.base = make_criterion(criterion, **params)
        self.on_logits = isinstance(self.base, torch.nn.CrossEntropyLoss)
        self.lesson = lesson
        # Weights of the classes and smoothing of labels are put into soft targets; as in torch, a
        # row counts as much as its class weighs.
        self.target, self.size = lesson.target, None
        smoothing = getattr(self.base, "label_smoothing", 0.0)
        hard = self.target.ndim == 1
        self.each = None
        if isinstance(self.base, SymmetricCrossEntropyLoss):
            self.each = copy.copy(self.base)
            self.each.reduction = "none"
        if smoothing and hard:
            self.target, hard = np.eye(lesson.n_classes, dtype=np.float32)[self.target], False
        if self.base.weight is not None:
            class_weight = self.base.weight.cpu().numpy()
            self.size = class_weight[self.target] if hard else self.target @ class_weight
        if smoothing:
            self.target = (1 - smoothing) * self.target + smoothing / lesson.n_classes
        if self.base.weight is not None and not hard:
            self.target = self.target * class_weight

    def forward(self, output, label):
        """Compute the loss; in training a label names a row as `taught` does, else a class."""
        if not self.training:
            return self.base(output if self.on_logits else log_of(output), label)
        if output.shape[1] != self.lesson.n_classes:
            raise ValueError(
                f"The module has {output.shape[1]} outputs; there are {self.lesson.n_classes} "
                "classes."
            )
        output = output.t()  # torch is far slower along a short last axis
        log_q = torch.log_softmax(output, dim=0) if self.on_logits else log_of(output)
        rows = label.cpu().numpy()
        if rows[0] >= 0:
            raise TypeError(
                "The net's data set keeps its labels elsewhere than in its attribute y: it "
                "cannot be taught."
            )
        weight = self.lesson.weigh(rows, log_q.detach().cpu().float().numpy())
        if self.base.reduction == "mean":
            used = np.count_nonzero(weight)
            weight /= (used if self.size is None else self.size[rows][weight > 0].sum()) or 1
        target = self.target.take(rows, axis=0)
        if self.each is not None:
            losses = self.each(output.t(), torch.from_numpy(target).to(output.device))
            return torch.dot(torch.from_numpy(weight).to(losses), losses)
        if target.ndim == 2:
            target *= -weight[:, None]
            return torch.dot(torch.from_numpy(target.T.ravel()).to(log_q), log_q.flatten())
        codes = torch.from_numpy(target).to(log_q.device)
        losses = torch.nn.functional.nll_loss(
            log_q.t(), codes, weight=self.base.weight, reduction="none"
        )
        return torch.dot(torch.from_numpy(weight).to(losses), losses)


def log_of(proba):
    """Logarithm as skorch takes it before NLLLoss."""
    return torch.log(proba + torch.finfo(proba.dtype).eps)
