"""Classifier that blends a linear model which knows an LLM's scores with boosted trees."""

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_sample_weight, _check_y, check_consistent_length

from skllmreg.attribution._boosting_base import BoostingModel
from skllmreg.attribution._classifier import LLMAttributionRegularizedClassifier
from skllmreg.attribution._loss import encode_classes, encode_labels, prior_shift
from skllmreg.attribution._mixed_table import MixedTable
from skllmreg.utils._labels import known_target


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
    label_holes : "auto", list of column names or None, default="auto"
        As in :class:`LLMAttributionRegularizedClassifier`; a list names columns of
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
        out. With more than two classes they never are.
    tree_weight : "auto" or float, default="auto"
        Weight of the trees beside the linear model, from 0 to 1. "auto" is 0 below 40 rows, and
        else the one whose blend has the smallest loss on training rows that neither part was
        fitted to (five folds, from 3,000 rows on a single one), drawn to a weight that grows with
        the rows: with ten columns .35 at 100, .5 at 150, .89 at 600; less with more columns.
        Classes of unequal size count as the number of rows of equal ones that tell as much.
    class_weight : dict or "balanced", default=None
        Weights of the classes, as in :class:`~sklearn.linear_model.LogisticRegression`.
    class_prior : array-like of shape (n_classes,) or dict of class to float, default=None
        Shares of the classes where the model will be used, as in
        :class:`LLMAttributionRegularizedClassifier`.
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
    label_holes_ : list of dict
        As in :class:`LLMAttributionRegularizedClassifier`.
    n_iter_ : int
        Number of boosting iterations; without trees, of the linear model's solver.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Warns
    -----
    NoLLMWarning
        If there is neither an `llm` nor `attributions`.
    PriorConflictWarning, LabelHoleWarning, FewRowsForScaleWarning, UnscoredColumnsWarning
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
    >>> 0 < model.tree_weight_ < 0.5
    True
    """

    _trees = HistGradientBoostingClassifier
    _output = "decision_function"
    _parameter_constraints: dict = {
        **BoostingModel._parameter_constraints,
        "class_descriptions": [dict, None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "class_prior": [dict, "array-like", None],
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
        label_holes="auto",
        learning_rate=0.05,
        max_iter="auto",
        max_leaf_nodes="auto",
        min_samples_leaf=10,
        monotone=True,
        tree_weight="auto",
        class_weight=None,
        class_prior=None,
        random_state=None,
    ):
        super().__init__(
            llm,
            task=task,
            feature_descriptions=feature_descriptions,
            attributions=attributions,
            n_estimates=n_estimates,
            label_holes=label_holes,
            learning_rate=learning_rate,
            max_iter=max_iter,
            max_leaf_nodes=max_leaf_nodes,
            min_samples_leaf=min_samples_leaf,
            monotone=monotone,
            tree_weight=tree_weight,
            random_state=random_state,
        )
        self.class_descriptions = class_descriptions
        self.class_weight = class_weight
        self.class_prior = class_prior

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
            Rows without labels, from which the linear part finds the scale of the features.

        Returns
        -------
        self
        """
        self._validate_params()
        self._table, encoded = MixedTable.fit(self, X)
        y = _check_y(known_target(y), estimator=self)
        check_consistent_length(encoded, y)
        weight = _check_sample_weight(sample_weight, encoded, ensure_non_negative=True)
        encoded, y, weight = encoded[weight > 0], y[weight > 0], weight[weight > 0]
        self.classes_, codes, weight = encode_classes(
            y, weight, self.class_weight, self.class_prior
        )
        believed = self._fit_parts(encoded, codes, weight, X_unlabeled, self.classes_)
        Y = encode_labels(codes, len(self.classes_))
        self._offset = prior_shift(self.class_prior, self.classes_, Y[believed], weight[believed])
        return self

    def _labels(self, codes):
        return self.classes_[codes]

    def _make_linear(self, estimates, classes):
        if estimates is None:
            return LLMAttributionRegularizedClassifier(label_holes=self.label_holes)
        outputs = classes if len(classes) > 2 else classes[1:]
        by_class = {label: estimates[:, k] for k, label in enumerate(outputs.tolist())}
        return LLMAttributionRegularizedClassifier(
            attributions=by_class, label_holes=self.label_holes
        )

    def decision_function(self, X):
        """Compute the logit of ``classes_[1]``, or the softmax's input for several classes.

        Parameters
        ----------
        X : {array-like, data frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        eta = self._blend(X) + self._offset
        return eta.ravel() if eta.shape[1] == 1 else eta

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
