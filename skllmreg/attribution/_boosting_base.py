"""Fit a linear model and boosted trees, and blend them: what the two boosting estimators share."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skllmreg.attribution._boosting import (
    choose_tree_weight,
    folds,
    monotone_signs,
    rows_that_count,
    tree_sizes,
    tree_weight,
)
from skllmreg.attribution._elicit import elicit_attributions
from skllmreg.attribution._loss import HALF_SQUARED_ERROR, LOG_LOSS, encode_labels
from skllmreg.attribution._mixed_table import MixedTable
from skllmreg.attribution._scores import is_named, parse_attributions
from skllmreg.attribution._shapes import bends
from skllmreg.utils._doc_link import DocLinkMixin


class BoostingModel(DocLinkMixin, BaseEstimator):
    """Where the scores come from, and how the two parts are fitted and blended.

    A subclass has the two kinds of parts, and the name of the method that computes their outputs.
    """

    _table: MixedTable
    _trees: type
    _output: str

    _parameter_constraints: dict = {
        "task": [str, None],
        "feature_descriptions": [dict, list, None],
        "n_estimates": [Interval(Integral, 1, None, closed="left")],
        "label_holes": [StrOptions({"auto"}), list, None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_leaf_nodes": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
        "min_samples_leaf": [Interval(Integral, 1, None, closed="left")],
        "monotone": ["boolean"],
        "tree_weight": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        llm=None,
        *,
        task=None,
        feature_descriptions=None,
        attributions=None,
        n_estimates=5,
        label_holes="auto",
        learning_rate=0.05,
        max_iter="auto",
        max_leaf_nodes="auto",
        min_samples_leaf=10,
        monotone=True,
        tree_weight="auto",
        random_state=None,
    ):
        self.llm = llm
        self.task = task
        self.feature_descriptions = feature_descriptions
        self.attributions = attributions
        self.n_estimates = n_estimates
        self.label_holes = label_holes
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.max_leaf_nodes = max_leaf_nodes
        self.min_samples_leaf = min_samples_leaf
        self.monotone = monotone
        self.tree_weight = tree_weight
        self.random_state = random_state

    def _fit_parts(self, X, y, sample_weight, X_unlabeled, classes=None):
        """Fit the linear model and, with enough rows, the trees; return the rows they believe.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Encoded for trees.
        y : ndarray of shape (n_samples,)
            The target, or the index of each row's class.
        sample_weight : ndarray of shape (n_samples,)
        X_unlabeled : {array-like, data frame} or None
            As given by the user.
        classes : ndarray of shape (n_classes,), default=None
            None for a regression.

        Returns
        -------
        ndarray of bool of shape (n_samples,)
            False in label holes.
        """
        table = self._table
        if X_unlabeled is not None:
            X_unlabeled = table.for_linear(table.for_trees(self, X_unlabeled))
        for_linear = table.for_linear(X)
        self.linear_names_ = table.linear_names
        attributions = self._get_attributions(classes)
        estimates = self._estimates(attributions, classes, for_linear)
        self.attributions_ = None if estimates is None else estimates.mean(axis=0)
        scores = None
        if self.monotone and estimates is not None and (classes is None or len(classes) == 2):
            scores = self._constrainable(attributions, estimates.mean(axis=0)[0])

        def fit_linear(rows):
            linear = self._make_linear(estimates, classes)
            linear._names = self.linear_names_
            linear.fit(
                for_linear[rows],
                self._labels(y[rows]),
                sample_weight[rows],
                X_unlabeled=X_unlabeled,
            )
            return linear

        def fit_trees(rows):
            return self._fit_trees(X[rows], y[rows], sample_weight[rows], scores, classes)

        self.linear_ = fit_linear(slice(None))
        self.prior_weight_ = self.linear_.prior_weight_
        self.label_holes_ = self.linear_.label_holes_
        believed = self.linear_.outside_holes(for_linear)
        if classes is not None and len(np.unique(y[believed])) < len(classes):
            believed[:] = True
        self.tree_weight_ = self.tree_weight
        if self.tree_weight == "auto":
            self.tree_weight_ = self._choose_tree_weight(
                X, for_linear, y, sample_weight, np.flatnonzero(believed), fit_linear, fit_trees
            )
        self.trees_, self.monotonic_cst_ = None, np.zeros(self.n_features_in_, dtype=int)
        self.n_iter_ = self.linear_.n_iter_
        if self.tree_weight_ > 0:
            self.trees_, self.monotonic_cst_ = fit_trees(believed)
            self.n_iter_ = self.trees_.n_iter_
        return believed

    def _fit_trees(self, X, y, sample_weight, scores, classes):
        """Fit trees; return them with their constraints."""
        signs = np.zeros(self.n_features_in_, dtype=int)
        if scores is not None:
            signs = monotone_signs(X, y, sample_weight, scores)
        codes = y if classes is not None else None
        n_trees, n_leaves = tree_sizes(rows_that_count(codes, sample_weight))
        trees = self._trees(
            learning_rate=self.learning_rate,
            max_iter=n_trees if self.max_iter == "auto" else self.max_iter,
            max_leaf_nodes=n_leaves if self.max_leaf_nodes == "auto" else self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            categorical_features=list(self._table.categories) or None,
            monotonic_cst=signs if signs.any() else None,
            early_stopping=False,
            random_state=self.random_state,
        )
        return trees.fit(X, self._labels(y), sample_weight), signs

    def _choose_tree_weight(self, X, for_linear, y, sample_weight, rows, fit_linear, fit_trees):
        """Find the weight of the trees beside the linear model.

        Parameters
        ----------
        X, for_linear : ndarray of shape (n_samples, n_features) and (n_samples, n_linear_columns)
        y, sample_weight : ndarray of shape (n_samples,)
        rows : ndarray of int
            Rows to learn from.
        fit_linear, fit_trees : callable
            Fit a part to the rows with these numbers.

        Returns
        -------
        float
        """
        classes = getattr(self, "classes_", None)
        codes = None if classes is None else y[rows]
        n_rows = rows_that_count(codes, sample_weight[rows])
        usual = tree_weight(n_rows, X.shape[1])
        n_classes = 0 if classes is None else len(classes)
        parts = folds(X[rows], y[rows], n_rows, n_classes) if usual else []
        if not parts:
            return usual
        outputs, measured = [], []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the fit to all rows they are the user's
            for train, test in parts:
                train, test = rows[train], rows[test]
                linear, (trees, _) = fit_linear(train), fit_trees(train)
                outputs.append((self._part(linear, for_linear[test]), self._part(trees, X[test])))
                measured.append(test)
        linear, trees = (np.concatenate(part) for part in zip(*outputs, strict=True))
        test = np.concatenate(measured)
        if classes is None:
            Y, loss = y[test, None], HALF_SQUARED_ERROR
        else:
            Y, loss = encode_labels(y[test], len(classes)), LOG_LOSS
        return choose_tree_weight(linear, trees, Y, sample_weight[test], loss, n_rows, usual)

    def _get_attributions(self, classes):
        """Attributions as given, or asked for; None without either."""
        self.elicited_attributions_ = None
        if self.attributions is not None or self.llm is None:
            return self.attributions
        categories = {self._table.names[j]: c for j, c in self._table.categories.items()}
        self.elicited_attributions_ = elicit_attributions(
            self.llm,
            task=self.task,
            feature_names=self._table.names,
            feature_descriptions=self.feature_descriptions,
            classes=classes,
            class_descriptions=getattr(self, "class_descriptions", None),
            n_estimates=self.n_estimates,
            # An effect of each category; a table of numbers is asked about as by the linear model.
            shapes=categories or False,
        )
        return self.elicited_attributions_

    def _estimates(self, attributions, classes, for_linear):
        """Estimates for the columns of the linear model; None without attributions."""
        if attributions is None:
            return None
        table = self._table
        if not is_named(attributions):  # by position: a score for each column of X
            estimates = parse_attributions(attributions, table.names, len(table.names), classes)
            if not table.categories:
                return estimates
            outputs = [
                [dict(zip(table.names, row, strict=True)) for row in output]
                for output in estimates.swapaxes(0, 1)
            ]
            labels = [None] if classes is None else classes if len(classes) > 2 else classes[1:]
            attributions = dict(zip(labels, outputs, strict=True))
            attributions = outputs[0] if classes is None else attributions
        return parse_attributions(
            attributions, table.linear_names, len(table.linear_names), classes, for_linear
        )

    def _constrainable(self, attributions, mean_scores):
        """Mean score of each column of X that may be constrained, 0 for all others."""
        bent = set()
        if hasattr(attributions, "mean_shapes"):
            shapes = attributions.mean_shapes(attributions.labels[-1])
            bent = {name for name, shape in shapes.items() if bends(shape)}
        means = dict(zip(self.linear_names_, mean_scores, strict=True))
        return np.array(
            [
                0.0 if j in self._table.categories or name in bent else means[name]
                for j, name in enumerate(self._table.names)
            ]
        )

    def _part(self, model, X):
        """Outputs of one part, (n_samples, n_outputs)."""
        outputs = getattr(model, self._output)(X)
        if outputs.ndim == 1:
            return outputs[:, None]
        return outputs - outputs.mean(axis=1, keepdims=True)  # softmax does not see the mean

    def _blend(self, X):
        """Outputs of both parts, blended, (n_samples, n_outputs)."""
        check_is_fitted(self)
        codes = self._table.for_trees(self, X)
        linear = self._part(self.linear_, self._table.for_linear(codes))
        if self.trees_ is None:
            return linear
        trees = self._part(self.trees_, codes)
        return (1 - self.tree_weight_) * linear + self.tree_weight_ * trees

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags
