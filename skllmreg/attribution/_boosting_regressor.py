"""`LLMAttributionBoostingRegressor`."""

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils.validation import _check_sample_weight, _check_y, check_consistent_length

from skllmreg.attribution._boosting_base import BoostingModel
from skllmreg.attribution._mixed_table import MixedTable
from skllmreg.attribution._regressor import LLMAttributionRegularizedRegressor
from skllmreg.utils._labels import known_target


class LLMAttributionBoostingRegressor(RegressorMixin, BoostingModel):
    """Gradient boosting of a number that starts from what an LLM knows.

    The linear model :class:`LLMAttributionRegularizedRegressor` and a
    :class:`~sklearn.ensemble.HistGradientBoostingRegressor`, blended by the number of rows; see
    :class:`LLMAttributionBoostingClassifier`.

    Parameters
    ----------
    llm : ChatModel, default=None
        The model to ask. Asked once per set of features; `attributions` take its place. Where X
        has columns of categories, it is asked for an effect of each category, too.
    task : str, default=None
        What is predicted, in a sentence; part of the question.
    feature_descriptions : dict of str to str, or list of str, default=None
        Descriptions of the columns; part of the question.
    attributions : Attributions, dict, list of dict or array-like, default=None
        Scores from -10 to 10 in place of an LLM, as in
        :class:`LLMAttributionRegularizedRegressor`.
    n_estimates : int, default=5
        Number of independent LLM responses per question; their mean is used.
    label_holes : "auto", list of column names or None, default="auto"
        As in :class:`LLMAttributionRegularizedRegressor`; a list names columns of
        ``linear_names_``. Neither part learns from the labels in a hole.
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
        out.
    tree_weight : "auto" or float, default="auto"
        Weight of the trees beside the linear model, from 0 to 1. "auto" is 0 below 40 rows, and
        else the one whose blend has the smallest error on training rows that neither part was
        fitted to (five folds, from 3,000 rows on a single one), drawn to a weight that grows with
        the rows: with ten columns .35 at 100, .5 at 150, .89 at 600; less with more columns.
    random_state : int, RandomState instance or None, default=None
        Of the trees' binning, which subsamples tables of more than 200,000 rows.

    Attributes
    ----------
    linear_ : LLMAttributionRegularizedRegressor
        The linear part, fitted to the columns ``linear_names_``.
    linear_names_ : list of str
        Columns of the linear part: those of X, with an indicator for each category.
    trees_ : HistGradientBoostingRegressor or None
        None if the trees have no weight.
    tree_weight_ : float
        Weight of the trees.
    monotonic_cst_ : ndarray of int of shape (`n_features_in_`,)
        Sign of the constraint on each column, 0 for none.
    attributions_ : ndarray of shape (1, n_linear_columns)
        Mean scores of the linear part's columns; None without scores.
    elicited_attributions_ : Attributions or None
        What `llm` answered; None if it was not asked.
    prior_weight_ : float
        As in :class:`LLMAttributionRegularizedRegressor`.
    label_holes_ : list of dict
        As in :class:`LLMAttributionRegularizedRegressor`.
    n_iter_ : int
        Number of boosting iterations; without trees, of the linear model's solver.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Warns
    -----
    NoLLMWarning
        If there is neither an `llm` nor `attributions`.
    PriorConflictWarning, LabelHoleWarning, FewRowsForScaleWarning, UnscoredColumnsWarning
        As in :class:`LLMAttributionRegularizedRegressor`.

    See Also
    --------
    LLMAttributionRegularizedRegressor : The linear part alone.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skllmreg import LLMAttributionBoostingRegressor
    >>> from skllmreg.datasets import load_attributions
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = LLMAttributionBoostingRegressor(attributions=load_attributions("diabetes"))
    >>> model.fit(X[:100], y[:100]).score(X[100:], y[100:]) > 0.4
    True
    """

    _trees = HistGradientBoostingRegressor
    _output = "predict"

    def fit(self, X, y, sample_weight=None, *, X_unlabeled=None):
        """Fit both parts.

        Parameters
        ----------
        X : {array-like, data frame} of shape (n_samples, n_features)
            Numbers, categories (strings, pandas' and polars' categories) and missing values.
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight 2 counts as two rows.
        X_unlabeled : like X of shape (n_unlabeled, n_features), default=None
            Rows without a target, from which the linear part finds the scale of the features.

        Returns
        -------
        self
        """
        self._validate_params()
        self._table, encoded = MixedTable.fit(self, X)
        y = _check_y(known_target(y), y_numeric=True, estimator=self).astype(np.float64)
        check_consistent_length(encoded, y)
        weight = _check_sample_weight(sample_weight, encoded, ensure_non_negative=True)
        encoded, y, weight = encoded[weight > 0], y[weight > 0], weight[weight > 0]
        self._fit_parts(encoded, y, weight, X_unlabeled)
        return self

    def _labels(self, y):
        return y

    def _make_linear(self, estimates, classes):
        attributions = None if estimates is None else estimates[:, 0]
        return LLMAttributionRegularizedRegressor(
            attributions=attributions, label_holes=self.label_holes
        )

    def predict(self, X):
        """Predict the target.

        Parameters
        ----------
        X : {array-like, data frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._blend(X)[:, 0]
