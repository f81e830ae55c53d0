"""`LLMShapeTransformer`: add a column with the effect of each column that has a shape."""

from collections.abc import Mapping
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from skllmreg.attribution._elicit import elicit_attributions
from skllmreg.attribution._features import few, own_name
from skllmreg.attribution._shapes import SUFFIX, bends, check_shape, interpolate, mean_shape
from skllmreg.exceptions import NoLLMWarning
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._labels import is_missing, label_array
from skllmreg.utils._warn import warn

MOST_OUTSIDE = 0.5  # share of the values that may lie outside by more than a quarter of the range
MOST_CATEGORIES = 50  # of a column that an LLM is asked about


class LLMShapeTransformer(DocLinkMixin, TransformerMixin, BaseEstimator):
    """Add the effect that a language model expects of each value, as a further column.

    A score has one sign per column. A *shape* says more: how the effect runs over the column's
    values, such as a risk at both ends, or a threshold. This transformer keeps the columns of X
    and adds ``<name>_shape`` for each that has a shape. A model with attributions then gives the
    size of the column's score to the shaped column, and 0 to the raw one, which it can still learn
    from.

    Put it before any scaler, since shapes are in the columns' own units.

    Parameters
    ----------
    llm : ChatModel, default=None
        Asked for scores and shapes in ``fit``; what it answers is kept in
        ``elicited_attributions_``. To use the same answers in the model that follows, call
        :func:`elicit_attributions` with ``shapes=True`` and give the result to both.
    shapes : Attributions, or dict, default=None
        Shapes in place of an `llm`: :class:`Attributions` that have some, ``{column: shape}``,
        or ``{column: [shape, ...]}``, which are averaged. A shape is a list of [value, effect] with
        increasing values, or ``{category: effect}``; effects go from -1 to 1. Columns that X
        does not have are left out.
    task : str, default=None
        What is predicted, in a sentence. Needed with `llm`.
    feature_descriptions : dict of str to str, or list of str, default=None
        As in :func:`elicit_attributions`. Say the units here.
    class_descriptions : dict of label to str, default=None
        As in :func:`elicit_attributions`.
    n_estimates : int, default=5
        Number of independent LLM responses per question; their shapes are averaged.
    monotone : "auto" or bool, default="auto"
        Whether shapes that only rise or only fall are applied, too. "auto" applies those of a dict,
        and leaves out those of an LLM: its score says the same of them, and errs less where effects
        level off at other values than the LLM thinks.
    target_type : {"auto", "classes", "continuous"}, default="auto"
        Whether the `llm` is asked about classes or about a number. "auto" takes a `y` of strings,
        booleans or integers for classes.

    Attributes
    ----------
    shapes_ : dict of str to (str, shape)
        For each added column, the name of the raw column and its mean shape.
    elicited_attributions_ : Attributions or None
        What `llm` answered; None if it was not asked.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Warns
    -----
    NoLLMWarning
        If there is neither an `llm` nor `shapes`: X is passed on as it is.

    See Also
    --------
    elicit_attributions : Asks for the shapes.

    Notes
    -----
    Between two values the effect is linear, outside of them constant. Several estimates are
    averaged over the union of their values. A missing value stays missing, a category without an
    effect has the effect 0. With several classes, a column ``<name>_shape_<class>`` is added for
    each.

    Examples
    --------
    >>> import pandas as pd
    >>> from skllmreg import LLMShapeTransformer
    >>> X = pd.DataFrame({"age": [18, 31, 70], "heating": ["gas", "none", "gas"]})
    >>> shapes = {
    ...     "age": [[18, -1.0], [44, 1.0], [70, -0.5]],
    ...     "heating": {"gas": -0.2, "none": 1.0},
    ... }
    >>> LLMShapeTransformer(shapes=shapes).fit_transform(X)
       age heating  age_shape  heating_shape
    0   18     gas       -1.0           -0.2
    1   31    none        0.0            1.0
    2   70     gas       -0.5           -0.2
    """

    _parameter_constraints: dict = {
        "task": [str, None],
        "feature_descriptions": [dict, list, None],
        "class_descriptions": [dict, None],
        "n_estimates": [Interval(Integral, 1, None, closed="left")],
        "monotone": [StrOptions({"auto"}), "boolean"],
        "target_type": [StrOptions({"auto", "classes", "continuous"})],
    }

    def __init__(
        self,
        llm=None,
        *,
        shapes=None,
        task=None,
        feature_descriptions=None,
        class_descriptions=None,
        n_estimates=5,
        monotone="auto",
        target_type="auto",
    ):
        self.llm = llm
        self.shapes = shapes
        self.task = task
        self.feature_descriptions = feature_descriptions
        self.class_descriptions = class_descriptions
        self.n_estimates = n_estimates
        self.monotone = monotone
        self.target_type = target_type

    def fit(self, X, y=None):
        """Find the shapes of the columns; ask for them, if there is an `llm`.

        Parameters
        ----------
        X : {array-like, data frame} of shape (n_samples, n_features)
            Its columns need names. The LLM is shown these, and the categories of columns that hold
            some, but no rows.
        y : array-like of shape (n_samples,), default=None
            Its classes are what an `llm` is asked about.

        Returns
        -------
        self
        """
        self._validate_params()
        checked = self._checked(X, reset=True)
        self.elicited_attributions_ = None
        given = self.shapes
        if given is None and self.llm is None:
            warn("Neither `llm` nor `shapes` is given: X is passed on as it is.", NoLLMWarning)
            given = {}
        if given is None:
            given = self.elicited_attributions_ = self._ask(checked, y)
        names = list(getattr(self, "feature_names_in_", []))
        if given and not names:
            raise ValueError(
                "Shapes belong to columns by their names, but X has none. Give X as a data frame "
                "whose column names are all strings."
            )
        monotone = isinstance(given, Mapping) if self.monotone == "auto" else self.monotone
        self.shapes_, self._columns = {}, {}
        for ending, shapes in _by_ending(given).items():
            for j, column in enumerate(names):
                name = own_name(column, shapes)
                if name is not None and (monotone or bends(shapes[name])):
                    _check_fits(shapes[name], checked[:, j], column)
                    self.shapes_[f"{column}{ending}"] = (str(column), shapes[name])
                    self._columns[f"{column}{ending}"] = j
        known = {name for shapes in _by_ending(given).values() for name in shapes}
        if known and not any(own_name(column, known) for column in names):
            raise ValueError(
                f"No column of X has a shape: X has {few(names)}, the shapes are for {few(known)}."
            )
        return self

    def _ask(self, X, y):
        """Ask for scores and shapes; y only says which classes there are."""
        if not hasattr(self, "feature_names_in_"):
            raise ValueError("An LLM can only judge columns with names: give X as a data frame.")
        classes = None
        if y is None and self.target_type != "continuous":
            raise ValueError(
                'With an llm, y says what the classes are (or target_type="continuous").'
            )
        if self.target_type != "continuous":
            labels = label_array(y)
            labels = labels[[not is_missing(label) for label in labels]]
            if self.target_type == "classes" or type_of_target(labels) in ("binary", "multiclass"):
                classes = np.unique(labels)
        categories = {}
        for name, column in zip(self.feature_names_in_, X.T, strict=True):
            if found := _categories(column):
                categories[name] = found
                if len(found) > MOST_CATEGORIES:
                    raise ValueError(
                        f"Column {name!r} has {len(found)} categories; an LLM is asked about at "
                        f"most {MOST_CATEGORIES}. Group them, or leave the column out."
                    )
        return elicit_attributions(
            self.llm,
            task=self.task,
            feature_names=self.feature_names_in_,
            feature_descriptions=self.feature_descriptions,
            classes=classes,
            class_descriptions=self.class_descriptions,
            n_estimates=self.n_estimates,
            shapes=categories or True,
        )

    def transform(self, X):
        """Add the effects.

        Parameters
        ----------
        X : {array-like, data frame} of shape (n_samples, n_features)

        Returns
        -------
        {ndarray, data frame} of shape (n_samples, n_features + n_shapes)
            A data frame where X is one.
        """
        check_is_fitted(self)
        checked = self._checked(X, reset=False)
        added = {
            name: _effects(shape, checked[:, self._columns[name]], column)
            for name, (column, shape) in self.shapes_.items()
        }
        if hasattr(X, "assign"):  # pandas
            return X.assign(**added)
        if hasattr(X, "hstack"):  # polars
            return X.hstack(type(X)(added)) if added else X
        return np.column_stack([checked, *added.values()]) if added else checked

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of X, then those of the shapes.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Must be the names seen in ``fit``, if given.

        Returns
        -------
        ndarray of str objects
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        return np.array([*names, *self.shapes_], dtype=object)

    def _checked(self, X, reset):
        """X as an array, of objects where it is a frame of several types."""
        return validate_data(
            self, X, reset=reset, dtype=None, ensure_all_finite=False, ensure_min_samples=int(reset)
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _by_ending(given):
    """Mean shapes by column, for each ending of the columns to be added."""
    if hasattr(given, "mean_shapes"):
        labels = given.labels
        endings = [SUFFIX] if len(labels) == 1 else [f"{SUFFIX}_{label}" for label in labels]
        return {
            ending: given.mean_shapes(label) for ending, label in zip(endings, labels, strict=True)
        }
    if not isinstance(given, Mapping):
        raise TypeError(f"shapes is {{column: shape}} or Attributions, got {given!r:.100}.")
    shapes = {}
    for name, each in given.items():
        several = isinstance(each, (list, tuple)) and each and _is_shape(each[0])
        checked = [check_shape(shape, name) for shape in (each if several else [each])]
        shapes[name] = mean_shape(checked)
    return {SUFFIX: shapes}


def _is_shape(item):
    """Whether an item of a list is a shape by itself, and not a point of one."""
    return isinstance(item, Mapping) or (np.ndim(item) == 2 and np.shape(item)[1] == 2)


def _check_fits(shape, values, column):
    """Raise if most values lie outside of the shape's knots: then its units are others."""
    if isinstance(shape, Mapping):
        known = _categories(values)
        if known and not set(known) & set(shape):
            raise ValueError(
                f"No category of column {column!r} is in its shape: the column holds {few(known)}, "
                f"the shape {few(shape)}."
            )
        return
    numbers = _numbers(values, column)
    numbers = numbers[np.isfinite(numbers)]
    low, high = shape[0][0], shape[-1][0]
    margin = (high - low) / 4
    outside = np.mean((numbers < low - margin) | (numbers > high + margin)) if numbers.size else 0
    if outside > MOST_OUTSIDE:
        raise ValueError(
            f"The shape of column {column!r} is for values from {low:g} to {high:g}, but most "
            f"values are far outside (from {numbers.min():g} to {numbers.max():g}). Shapes are in "
            "the column's own units: put LLMShapeTransformer before any scaler, and give the units "
            "in the description."
        )


def _effects(shape, values, column):
    if isinstance(shape, Mapping):
        effects = [np.nan if is_missing(v) else shape.get(str(v), 0.0) for v in values.tolist()]
        return np.array(effects, dtype=float)
    return interpolate(shape, _numbers(values, column))


def _numbers(values, column):
    try:
        # pandas.NA and None are missing numbers.
        return np.array([np.nan if is_missing(v) else float(v) for v in values.tolist()])
    except (TypeError, ValueError):
        text = next(v for v in values.tolist() if isinstance(v, str))
        raise ValueError(
            f"Column {column!r} holds {text!r:.50}, but its shape is one of numbers."
        ) from None


def _categories(column):
    """Sorted categories of a column of strings or booleans; [] for a column of numbers."""
    values = [value for value in column.tolist() if not is_missing(value)]
    if values and all(isinstance(value, (str, bool)) for value in values):
        return sorted({str(value) for value in values})
    return []
