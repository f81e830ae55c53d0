"""`LLMAttributionBoostingClassifier`, and what it shares with the regressor."""

from numbers import Integral, Real

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    check_consistent_length,
    check_is_fitted,
)

from skllmreg.attribution._boosting import monotone_signs, rows_that_count, tree_sizes, tree_weight
from skllmreg.attribution._classifier import LLMAttributionRegularizedClassifier
from skllmreg.attribution._elicit import elicit_attributions
from skllmreg.attribution._mixed_table import MixedTable
from skllmreg.attribution._scores import is_named, parse_attributions
from skllmreg.attribution._shapes import bends
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._labels import label_array


class BoostingModel(DocLinkMixin, BaseEstimator):
    """Where the scores come from, and how the two parts are fitted and blended.

    A subclass has a constructor with the parameters below and the two kinds of parts.
    """

    _parameter_constraints: dict = {
        "task": [str, None],
        "feature_descriptions": [dict, list, None],
        "n_estimates": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_leaf_nodes": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
        "min_samples_leaf": [Interval(Integral, 1, None, closed="left")],
        "monotone": ["boolean"],
        "tree_weight": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
    }

    def _fit_parts(self, X, y, sample_weight, classes=None):
        """Fit the linear model and, with enough rows, the trees.

        X is encoded for trees; y is the target, or the index of each row's class.
        """
        for_linear = self._table.for_linear(X)
        self.linear_names_ = self._table.linear_names
        attributions = self._get_attributions(classes)
        estimates = self._estimates(attributions, classes, for_linear)
        self.attributions_ = None if estimates is None else estimates.mean(axis=0)
        self.linear_ = self._make_linear(estimates, classes)
        self.linear_.fit(for_linear, self._labels(y), sample_weight)
        self.prior_weight_ = self.linear_.prior_weight_
        n_rows = rows_that_count(y if classes is not None else None, sample_weight)
        self.tree_weight_ = tree_weight(n_rows) if self.tree_weight == "auto" else self.tree_weight
        self.trees_, self.monotonic_cst_ = None, np.zeros(self.n_features_in_, dtype=int)
        self.n_iter_ = self.linear_.n_iter_
        if self.tree_weight_ == 0:
            return
        if self.monotone and estimates is not None and (classes is None or len(classes) == 2):
            scores = self._constrainable(attributions, estimates.mean(axis=0)[0])
            self.monotonic_cst_ = monotone_signs(X, y, sample_weight, scores)
        n_trees, n_leaves = tree_sizes(n_rows)
        self.trees_ = self._trees(
            learning_rate=self.learning_rate,
            max_iter=n_trees if self.max_iter == "auto" else self.max_iter,
            max_leaf_nodes=n_leaves if self.max_leaf_nodes == "auto" else self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            categorical_features=list(self._table.categories) or None,
            monotonic_cst=self.monotonic_cst_ if self.monotonic_cst_.any() else None,
            early_stopping=False,
            random_state=self.random_state,
        ).fit(X, self._labels(y), sample_weight)
        self.n_iter_ = self.trees_.n_iter_

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

    def _blend(self, X, part):
        """Blend what a method of both parts computes, named `part`."""
        check_is_fitted(self)
        codes = self._table.for_trees(self, X)
        linear = getattr(self.linear_, part)(self._table.for_linear(codes))
        if self.trees_ is None:
            return linear
        trees = getattr(self.trees_, part)(codes)
        if linear.ndim == 2:  # softmax does not see what is common to all classes
            linear, trees = (z - z.mean(axis=1, keepdims=True) for z in (linear, trees))
        return (1 - self.tree_weight_) * linear + self.tree_weight_ * trees

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags


class LLMAttributionBoostingClassifier(ClassifierMixin, BoostingModel):
    """Gradient boosting that starts from what an LLM knows: from one row to many thousands.

    The linear model :class:`LLMAttributionRegularizedClassifier`, which is best with few labeled
    rows, and a :class:`~sklearn.ensemble.HistGradientBoostingClassifier`, which is best with many,
    blended by the number of rows. The trees are monotone in the columns whose scores are strong.
    Missing values and categories need no preprocessing.

    Parameters
    ----------
    llm : ChatModel, default=None
        The model to ask. Asked once per set of features; `attributions` take its place. Where X
        has columns of categories, it is asked for an effect of each category, too.
    task : str, default=None
        What is predicted, in a sentence; part of the question.
    feature_descriptions : dict of str to str, or list of str, default=None
        Descriptions of the columns; part of the question.
    class_descriptions : dict of class to str, default=None
        What the class labels mean; part of the question.
    attributions : Attributions, dict, list of dict or array-like, default=None
        Scores from -10 to 10 in place of an LLM, as in
        :class:`LLMAttributionRegularizedClassifier`. A column of categories takes scores of its
        categories, ``{"city_Rome": 3}``, or a shape of :class:`Attributions`.
    n_estimates : int, default=5
        Number of independent LLM responses per question; their mean is used.
    learning_rate : float, default=0.05
        Shrinkage of each tree's contribution.
    max_iter : "auto" or int, default="auto"
        Number of boosting iterations; "auto" is a third of the rows, from 75 to 200, and with more
        than 5,000 rows a 25th of them, up to 500.
    max_leaf_nodes : "auto" or int, default="auto"
        Maximum number of leaves of a tree; "auto" is 4, from 1,000 rows on 31.
    min_samples_leaf : int, default=10
        Minimum number of rows in a leaf.
    monotone : bool, default=True
        Whether the trees are constrained by the signs of strong scores that the training rows bear
        out. With more than two classes they never are.
    tree_weight : "auto" or float, default="auto"
        Weight of the trees beside the linear model, from 0 to 1. "auto" grows with the number of
        rows: 0 below 40, .35 at 100, .5 at 150, .89 at 600. Classes of unequal size count as the
        number of rows of equal ones that tell as much.
    class_weight : dict or "balanced", default=None
        Weights of the classes, as in :class:`~sklearn.linear_model.LogisticRegression`.
    random_state : int, RandomState instance or None, default=None
        Of the trees' binning, which subsamples tables of more than 200,000 rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    linear_ : LLMAttributionRegularizedClassifier
        The linear part, fitted to the columns ``linear_names_``.
    linear_names_ : list of str
        Columns of the linear part: those of X, with an indicator for each category.
    trees_ : HistGradientBoostingClassifier or None
        None if the trees have no weight.
    tree_weight_ : float
        Weight of the trees.
    monotonic_cst_ : ndarray of int of shape (`n_features_in_`,)
        Sign of the constraint on each column, 0 for none.
    attributions_ : ndarray of shape (1 or n_classes, n_linear_columns)
        Mean scores of the linear part's columns; None without scores.
    elicited_attributions_ : Attributions or None
        What `llm` answered; None if it was not asked.
    prior_weight_ : float
        As in :class:`LLMAttributionRegularizedClassifier`.
    n_iter_ : int
        Number of boosting iterations; without trees, of the linear model's solver.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Warns
    -----
    NoLLMWarning
        If there is neither an `llm` nor `attributions`.
    PriorConflictWarning, UnscoredColumnsWarning
        As in :class:`LLMAttributionRegularizedClassifier`.

    See Also
    --------
    LLMAttributionRegularizedClassifier : The linear part alone.

    Notes
    -----
    Both parts' logits are blended. A monotone constraint needs a mean score of at least 3 in size
    and a rank correlation with the labels of the same sign; a column whose shape bends has none.
    Trees of several classes are not constrained, since scikit-learn's are not.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from skllmreg import LLMAttributionBoostingClassifier
    >>> from skllmreg.datasets import load_attributions
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> model = LLMAttributionBoostingClassifier(attributions=load_attributions("breast_cancer"))
    >>> model.fit(X[::4], y[::4]).score(X[1::4], y[1::4]) > 0.9
    True
    >>> 0.4 < model.tree_weight_ < 0.6
    True
    """

    _trees = HistGradientBoostingClassifier
    _parameter_constraints: dict = {
        **BoostingModel._parameter_constraints,
        "class_descriptions": [dict, None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        llm=None,
        *,
        task=None,
        feature_descriptions=None,
        class_descriptions=None,
        attributions=None,
        n_estimates=5,
        learning_rate=0.05,
        max_iter="auto",
        max_leaf_nodes="auto",
        min_samples_leaf=10,
        monotone=True,
        tree_weight="auto",
        class_weight=None,
        random_state=None,
    ):
        self.llm = llm
        self.task = task
        self.feature_descriptions = feature_descriptions
        self.class_descriptions = class_descriptions
        self.attributions = attributions
        self.n_estimates = n_estimates
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.max_leaf_nodes = max_leaf_nodes
        self.min_samples_leaf = min_samples_leaf
        self.monotone = monotone
        self.tree_weight = tree_weight
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        """Fit both parts.

        Parameters
        ----------
        X : {array-like, data frame} of shape (n_samples, n_features)
            Numbers, categories (strings, pandas' and polars' categories) and missing values.
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight 2 counts as two rows.

        Returns
        -------
        self
        """
        self._validate_params()
        self._table, encoded = MixedTable.fit(self, X)
        y = _check_y(label_array(y) if hasattr(y, "to_list") else y, estimator=self)
        check_consistent_length(encoded, y)
        check_classification_targets(y)
        weight = _check_sample_weight(sample_weight, encoded, ensure_non_negative=True)
        encoded, y, weight = encoded[weight > 0], y[weight > 0], weight[weight > 0]
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "Rows of at least two classes are needed; y has one class: "
                f"{self.classes_.tolist()[0]!r}."
            )
        by_class = compute_class_weight(
            self.class_weight, classes=self.classes_, y=y, sample_weight=weight
        )
        self._fit_parts(encoded, codes, weight * by_class[codes], self.classes_)
        return self

    def _labels(self, codes):
        return self.classes_[codes]

    def _make_linear(self, estimates, classes):
        if estimates is None:
            return LLMAttributionRegularizedClassifier()
        outputs = classes if len(classes) > 2 else classes[1:]
        by_class = {label: estimates[:, k] for k, label in enumerate(outputs.tolist())}
        return LLMAttributionRegularizedClassifier(attributions=by_class)

    def decision_function(self, X):
        """Compute the logit of ``classes_[1]``, or the softmax's input for several classes.

        Parameters
        ----------
        X : {array-like, data frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        return self._blend(X, "decision_function")

    def predict_proba(self, X):
        """Compute the classes' probabilities.

        Parameters
        ----------
        X : {array-like, data frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        eta = self.decision_function(X)
        return softmax(eta, axis=1) if eta.ndim == 2 else np.column_stack([expit(-eta), expit(eta)])

    def predict(self, X):
        """Predict the most probable class.

        Parameters
        ----------
        X : {array-like, data frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        eta = self.decision_function(X)
        return self.classes_[eta.argmax(axis=1) if eta.ndim == 2 else (eta > 0).astype(int)]
