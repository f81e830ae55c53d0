"""`LLMFeatureSelector`: keep the features that an LLM finds most useful."""

from collections.abc import Mapping
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from skllmreg.attribution._elicit import elicit_importances
from skllmreg.attribution._features import column_names, own_name, raw_column
from skllmreg.attribution._scores import is_by_class, parse_attributions
from skllmreg.exceptions import NoLLMWarning
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._frames import is_frame
from skllmreg.utils._warn import warn


class LLMFeatureSelector(DocLinkMixin, SelectorMixin, BaseEstimator):
    """Keep the `k` features that an LLM finds most useful for a task.

    Neither rows nor labels are used, so that nothing can leak from them and every fold of a search
    keeps the same features.

    Parameters
    ----------
    llm : ChatModel, default=None
        Is asked one question, `n_estimates` times: how useful each feature is, from 0 to 10,
        whatever the direction or shape of the relation.
    k : int, default=10
        Number of features to keep; all of them where there are not more. The columns that an
        encoder made of one raw column, such as ``city_Rome`` and ``city_Bonn``, count as one, and
        are kept or dropped together, where ``city`` has a description or a score.
    task : str, default=None
        What is predicted, in a sentence. Needed with `llm`.
    feature_descriptions : dict of str to str, or list of str, default=None
        As in :func:`elicit_attributions`.
    class_descriptions : dict of label to str, default=None
        Tells the LLM the classes of a classification.
    attributions : Attributions, dict, list of dict or array, default=None
        Scores in place of an `llm`, as in :class:`LLMAttributionRegularizedClassifier`. Their sign
        does not matter; of several classes the largest counts, as a feature that settles one of
        them is worth keeping.
    n_estimates : int, default=5
        Independent answers that are averaged.

    Attributes
    ----------
    scores_ : ndarray of shape (n_features,)
        Mean absolute score of each feature; NaN without `llm` and `attributions`.
    elicited_attributions_ : Attributions or None
        What the `llm` answered; None where it was not asked.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X has any.

    Warns
    -----
    NoLLMWarning
        If there is neither an `llm` nor `attributions`: all features are kept.

    See Also
    --------
    elicit_attributions : Scores with a direction.

    Notes
    -----
    This is LLM-Score of [1]_ with another wording and scale. Equal scores are kept in the order of
    the columns. A feature without a direction of its own, such as one with its risk at both ends,
    can be useful here and have the score 0 in :func:`elicit_attributions`.

    References
    ----------
    .. [1] Jeong, Lipton, Ravikumar, "LLM-Select: Feature Selection with Large Language Models",
       2024, section 3. arXiv:2407.02694

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skllmreg import LLMFeatureSelector
    >>> from skllmreg.datasets import load_attributions
    >>> X, y = load_wine(return_X_y=True, as_frame=True)
    >>> scores = load_attributions("wine")
    >>> selector = LLMFeatureSelector(attributions=scores, k=3).set_output(transform="pandas")
    >>> list(selector.fit_transform(X))
    ['flavanoids', 'color_intensity', 'proline']
    """

    _parameter_constraints: dict = {
        "k": [Interval(Integral, 1, None, closed="left")],
        "task": [str, None],
        "feature_descriptions": [dict, list, None],
        "class_descriptions": [dict, None],
        "n_estimates": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        llm=None,
        *,
        k=10,
        task=None,
        feature_descriptions=None,
        class_descriptions=None,
        attributions=None,
        n_estimates=5,
    ):
        self.llm = llm
        self.k = k
        self.task = task
        self.feature_descriptions = feature_descriptions
        self.class_descriptions = class_descriptions
        self.attributions = attributions
        self.n_estimates = n_estimates

    def fit(self, X, y=None):
        """Choose the features.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
            Only its names and their number are used.
        y : ignored

        Returns
        -------
        self
        """
        self._validate_params()
        frame = is_frame(X)  # may mix what no array holds, such as dates and numbers
        validate_data(
            self,
            X,
            dtype=None,
            accept_sparse=True,
            ensure_all_finite=False,
            skip_check_array=frame,
        )
        self.scores_ = self._scores()
        return self

    def _scores(self):
        names, attributions = getattr(self, "feature_names_in_", None), self.attributions
        self.elicited_attributions_ = None
        if attributions is None and self.llm is None:
            warn(
                "Neither `llm` nor `attributions` is given: all features are kept.",
                NoLLMWarning,
            )
            return np.full(self.n_features_in_, np.nan)
        if attributions is None:
            names = column_names(names, self.n_features_in_, self.feature_descriptions)
            self.elicited_attributions_ = attributions = elicit_importances(
                self.llm,
                task=self.task,
                feature_names=names,
                feature_descriptions=self.feature_descriptions,
                class_descriptions=self.class_descriptions,
                n_estimates=self.n_estimates,
            )
        if hasattr(attributions, "to_estimates"):
            attributions = attributions.to_estimates()
        outputs = attributions.values() if is_by_class(attributions) else [attributions]
        outputs = [self._for_columns(scores, names) for scores in outputs]
        estimates = [parse_attributions(scores, names, self.n_features_in_) for scores in outputs]
        return np.max([np.abs(output).mean(axis=(0, 1)) for output in estimates], axis=0)

    def _for_columns(self, scores, names):
        """Give the score of a raw column to all columns made from it; set their raw columns."""
        self._raw_columns = list(range(self.n_features_in_))
        estimates = [scores] if isinstance(scores, Mapping) else scores
        if names is None or not all(isinstance(estimate, Mapping) for estimate in estimates):
            return scores
        described = self.feature_descriptions
        described = described if isinstance(described, Mapping) else {}
        scored = estimates[0].keys()
        self._raw_columns = [raw_column(name, described, scored) for name in names]
        made = [
            (name, raw)
            for name, raw in zip(names, self._raw_columns, strict=True)
            if own_name(name, scored) is None and raw in scored
        ]
        return [dict(e) | {name: e[raw] for name, raw in made if raw in e} for e in estimates]

    def _get_support_mask(self):
        check_is_fitted(self)
        if np.isnan(self.scores_).all():
            return np.ones(self.n_features_in_, dtype=bool)
        best: dict = {}
        for raw, score in zip(self._raw_columns, self.scores_, strict=True):
            best[raw] = max(score, best.get(raw, 0.0))
        kept = set(sorted(best, key=best.__getitem__, reverse=True)[: self.k])  # stable
        return np.array([raw in kept for raw in self._raw_columns])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags
