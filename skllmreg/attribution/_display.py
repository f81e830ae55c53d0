"""Draw what the LLM said beside what a model has learned."""

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from skllmreg.attribution._features import own_name
from skllmreg.attribution._shapes import SUFFIX
from skllmreg.utils._drawing import split_steps

SCORE_COLOR, COEF_COLOR, CLASH_COLOR = "#1f3a5f", "#7fb0de", "#e8837a"
LONGEST_NAME = 40


class AttributionDisplay:
    """The scores beside the learned coefficients, feature by feature.

    A point is the mean score, its bar the standard deviation over the estimates; a column is the
    learned coefficient, hatched where it has the other sign. A feature with a shape has it drawn as
    a small curve at the right. Use :meth:`from_estimator`; all parameters are stored as attributes.

    Parameters
    ----------
    feature_names : list of str
    scores, spread, coef : ndarray of shape (n_outputs, n_features)
        Mean of the LLM's scores, their standard deviation over the estimates, and what was learned.
    labels : list
        What each output speaks for: classes, or [None] in a regression.
    coef_name : str, default="learned coefficient"
        For the axis.
    shapes : list of dict of str to shape, default=None
        For each output, the mean shapes of some features, drawn as small curves at the right.
    score_name : str, default="score"
        For the axis; whose score it is.

    Attributes
    ----------
    ax_ : matplotlib Axes or ndarray of Axes
        Several for several outputs.
    figure_ : matplotlib Figure

    See Also
    --------
    AttributionDisplay.from_estimator : Draw a fitted model.
    Attributions : The scores alone, as a table.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from skllmreg import AttributionDisplay, LLMAttributionRegularizedClassifier
    >>> from skllmreg.datasets import load_attributions
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> scores = load_attributions("breast_cancer")
    >>> model = LLMAttributionRegularizedClassifier(attributions=scores).fit(X, y)
    >>> display = AttributionDisplay.from_estimator(model, class_=0, max_features=5)
    >>> display.ax_.get_title(loc="left").splitlines()[0]
    'What speaks for class 0'
    """

    def __init__(
        self,
        *,
        feature_names,
        scores,
        spread,
        coef,
        labels,
        coef_name="learned coefficient",
        shapes=None,
        score_name="score",
    ):
        self.feature_names = feature_names
        self.scores = scores
        self.spread = spread
        self.coef = coef
        self.labels = labels
        self.coef_name = coef_name
        self.shapes = shapes
        self.score_name = score_name

    @classmethod
    def from_estimator(cls, estimator, *, class_=None, max_features=20, ax=None):
        """Draw a fitted linear model, or the linear part of a network.

        Parameters
        ----------
        estimator : LLMAttributionRegularizedClassifier or LLMAttributionRegularizedRegressor
            Fitted, with scores; or a pipeline or search that ends with one.
        class_ : class label, default=None
            Draw what speaks for this class. None: ``classes_[1]`` of two, and all of several.
        max_features : int, default=20
            Features to show, those with the largest scores.
        ax : matplotlib Axes or array of Axes, default=None
            Where to draw, one for each output; None makes a figure.

        Returns
        -------
        AttributionDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the model has no scores or no linear part, or if there is no such class.
        """
        _, estimator = split_steps(estimator)
        _check_drawable(estimator)
        scores = estimator.attributions_
        spread = estimator.attribution_estimates_.std(axis=0)
        # A column without a scale is out of the model.
        scale = np.where(np.isfinite(estimator.scale_), estimator.scale_, 0.0)
        coef = np.reshape(estimator.coef_, scores.shape) * scale
        labels = [None]
        if hasattr(estimator, "classes_"):
            classes = estimator.classes_.tolist()
            labels = classes[1:] if len(scores) == 1 else classes
        elif class_ is not None:
            raise ValueError(f"class_={class_!r} is given, but {estimator} is a regressor.")
        if class_ is not None:
            if class_ not in classes:
                raise ValueError(f"There is no class {class_!r}; the classes are {classes}.")
            if len(scores) == 1 and class_ == classes[0]:  # the other side of the same question
                scores, coef, labels = -scores, -coef, classes[:1]
            rows = [labels.index(class_)]
            scores, spread, coef, labels = scores[rows], spread[rows], coef[rows], [class_]
        part = "linear" if estimator.network_ is not None else "learned"
        unit = " per standard deviation" if estimator.standardize else ""
        return cls(
            feature_names=list(
                getattr(estimator, "feature_names_in_", [f"x{i}" for i in range(scores.shape[1])])
            ),
            scores=scores,
            spread=spread,
            coef=coef,
            labels=labels,
            coef_name=f"{part} coefficient{unit}",
            shapes=_mean_shapes(estimator, labels),
            score_name=_score_name(estimator),
        ).plot(ax, max_features=max_features)

    def plot(self, ax=None, *, max_features=20):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            Where to draw, one for each output; None makes a figure.
        max_features : int, default=20
            Features to show, those with the largest scores.

        Returns
        -------
        self
        """
        check_matplotlib_support("AttributionDisplay")
        import matplotlib.pyplot as plt

        n_outputs, n_features = np.shape(self.scores)
        # Largest score first; of equal ones, the one that counts for more.
        strength = np.abs(self.scores).max(axis=0), np.abs(self.coef).max(axis=0)
        shown = np.lexsort(strength[::-1])[::-1][:max_features]
        if ax is None:
            size = (2.2 + 4.6 * n_outputs, 1.6 + 0.27 * (len(shown) + 1))
            _, ax = plt.subplots(
                1, n_outputs, figsize=size, sharey=True, squeeze=False, layout="constrained"
            )
        axes = np.ravel(np.asarray(ax, dtype=object))
        if len(axes) != n_outputs:
            raise ValueError(
                f"{n_outputs} outputs need as many axes, got {len(axes)}; class_ draws one class."
            )
        names = _shortened([str(name) for name in self.feature_names])
        names = [names[i] for i in shown]
        if len(shown) < n_features:
            names.append(f"… {n_features - len(shown)} more")
        limit = 1.15 * np.abs(self.coef).max() or 1.0  # the same for all outputs
        for output, output_ax in enumerate(axes):
            self._plot_output(output_ax, output, shown, limit)
            self._plot_shapes(output_ax, output, shown)
            output_ax.set(yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6))
            for text in output_ax.set_yticklabels(names):
                text.set_parse_math(False)
        self.ax_ = axes[0] if n_outputs == 1 else axes
        self.figure_ = axes[0].figure
        return self

    def _plot_output(self, ax, output, shown, limit):
        scores, coef = self.scores[output], self.coef[output]
        clash = scores * coef < 0
        rows = np.arange(len(shown))
        columns = ax.twiny()  # zero in the middle of both scales
        columns.barh(
            rows,
            coef[shown],
            height=0.62,
            color=np.where(clash[shown], CLASH_COLOR, COEF_COLOR),
            hatch=np.where(clash[shown], "////", "").tolist(),
            edgecolor="white",
        )
        ax.errorbar(
            scores[shown],
            rows,
            xerr=self.spread[output, shown],
            fmt="o",
            ms=4.5,
            lw=1.4,
            capsize=2.5,
            color=SCORE_COLOR,
        )
        ax.set_zorder(columns.get_zorder() + 1)  # points in front of the columns
        ax.patch.set_visible(False)
        ax.axvline(0, color="0.6", lw=0.8)
        ax.set(xlim=(-11, 11), xticks=(-10, -5, 0, 5, 10))
        columns.set(xlim=(-limit, limit))
        ax.set_xlabel(f"● {self.score_name}", color=SCORE_COLOR)
        columns.set_xlabel(f"■ {self.coef_name}", color="#3a7ab8")
        ax.tick_params(axis="y", length=0)
        for each in (ax, columns):
            each.spines[["left", "right"]].set_visible(False)
        label = self.labels[output]
        title = "What raises the target" if label is None else f"What speaks for class {label}"
        if n_clashes := np.count_nonzero(clash):
            title += f"\n{n_clashes} of {len(scores)} signs disagree (hatched)"
        ax.set_title(title, loc="left", fontsize="medium").set_parse_math(False)

    def _plot_shapes(self, ax, output, shown):
        """Draw how the effect runs over a feature's values beside its row, upward for the class."""
        shapes = (self.shapes or [{}] * len(self.scores))[output]
        rows = {row: _shape_of(str(self.feature_names[i]), shapes) for row, i in enumerate(shown)}
        if not any(rows.values()):
            return
        curves = ax.inset_axes([1.02, 0, 0.16, 1], sharey=ax)
        for row, shape in rows.items():
            if shape is None:
                continue
            if isinstance(shape, dict):
                at, effects = np.arange(len(shape)), np.array([*shape.values()])
            else:
                at, effects = np.transpose(shape)
            at = (at - at[0]) / max(at[-1] - at[0], 1e-300)
            curves.axhline(row, color="0.85", lw=0.8)
            style = {"marker": "o", "ms": 2, "ls": ""} if isinstance(shape, dict) else {}
            curves.plot(at, row - 0.38 * effects, color=SCORE_COLOR, lw=1.2, **style)
        curves.set(xlim=(-0.1, 1.1), xticks=())
        curves.set_xlabel("shape", color=SCORE_COLOR)
        curves.tick_params(axis="y", left=False, labelleft=False)
        curves.spines[:].set_visible(False)


def _shape_of(name, shapes):
    """Mean shape of a feature, or of the raw column that its shaped column was made from."""
    for own in (own_name(name, shapes), own_name(name.rpartition(SUFFIX)[0] or name, shapes)):
        if own is not None:
            return shapes[own]
    return None


def _given(estimator):
    """Attributions that the estimator was given, or has asked for; None for plain scores."""
    given = estimator.elicited_attributions_ or estimator.attributions
    return given if hasattr(given, "mean_shapes") else None


def _mean_shapes(estimator, labels):
    given = _given(estimator)
    if given is None:
        return None
    return [given.mean_shapes(label) if label in given.labels else {} for label in labels]


def _score_name(estimator):
    """Whose score it is: an LLM's only where it is known to be."""
    given = _given(estimator)
    if given is None or given.model is None:
        return "score"
    return "the LLM's score, or set by hand" if given.edited else "the LLM's score"


def _check_drawable(estimator):
    check_is_fitted(estimator)
    name = type(estimator).__name__
    if not hasattr(estimator, "attribution_estimates_"):
        raise ValueError(
            f"{name} is not drawn to an LLM's scores; AttributionDisplay draws "
            "LLMAttributionRegularizedClassifier and LLMAttributionRegularizedRegressor, and "
            "pipelines that end with one."
        )
    if estimator.attributions_ is None:
        raise ValueError(
            f"This {name} was fitted without scores; there is nothing to draw. Give it "
            "`attributions` or an `llm`."
        )
    if estimator.coef_ is None:
        raise ValueError(
            f"This {name} is a network without a linear part, and what it has learned of a feature "
            'differs from row to row. Draw a linear model, or a network with gamma="auto", which '
            "has a linear part."
        )


def _shortened(names):
    """Names without what a ColumnTransformer puts in front, where they still differ; not too long.

    Parameters
    ----------
    names : list of str
    """
    bare = [name.partition("__")[2] or name for name in names]
    if len(set(bare)) == len(set(names)):
        names = bare
    names = [name.encode(errors="replace").decode() for name in names]  # no halves of surrogates
    return [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in names]
