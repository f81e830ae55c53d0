"""Draw what was generated: where, how unfamiliar, and at what cost."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import _num_samples, check_is_fitted

from skllmreg.augmentation._schema import free_text_columns
from skllmreg.augmentation._student import table_features
from skllmreg.utils._drawing import legend_beside, split_steps
from skllmreg.utils._frames import is_frame, joined
from skllmreg.utils._validation import check_texts, is_text

ACCEPTED, SHOWN = "#2a78b5", "#e07b39"
REFUSED = {
    "duplicate": "#8c4a2f",
    "near-duplicate": "#c98a5e",
    "invalid": "#a8325a",
    "prompt": "#b5651d",
    "form": "#7a7f3a",
    "label": "#d97fa0",
    "reply": "#6d4f9e",
}
OTHER = "#9a9a9a"
# Rounds by marker; of more rounds than markers, the later ones share the last.
MARKERS = "os^Dv"
MOST_COLORS = 10


class GenerationDisplay:
    """Generated rows by class and round; how unfamiliar they were; rows and cost by round.

    Use :meth:`from_estimator`; all parameters are stored as attributes.

    Parameters
    ----------
    seeds, generated : ndarray of shape (n_labeled, 2) and (n_generated, 2)
        Where these rows are.
    round_ : ndarray of int of shape (n_generated,)
    real : ndarray of shape (n_real, 2), default=None
    scores : ndarray of shape (n_generated,)
        How unfamiliar rows were to the student; NaN for rows that were no candidates for feedback.
    side : ndarray of int of shape (n_generated,)
        -1 below the band of scores that feedback comes from, 0 in it, 1 above.
    history : list of dict
        As `GOLDAugmenter` has it.
    score_name : str, default="energy"
    labels : ndarray of shape (n_generated,), default=None
        Classes of the generated rows, which give them their colors.

    Attributes
    ----------
    ax_ : ndarray of two or three matplotlib Axes
        The second shows the scores, where there are any.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skllmreg import GenerationDisplay, GOLDAugmenter
    >>> X, y = load_iris(return_X_y=True)
    >>> def generator(request):
    ...     rng = np.random.RandomState(request.random_state)
    ...     center = np.mean([list(row.values()) for row in request.seed_examples], axis=0)
    ...     return [dict(zip(["x0", "x1", "x2", "x3"], center + rng.normal(0, 0.2, 4)))
    ...             for _ in range(request.n_rows)]
    >>> model = GOLDAugmenter(generator=generator, n_rounds=3, random_state=0).fit(X[::10], y[::10])
    >>> display = GenerationDisplay.from_estimator(model, X[::10], X_real=X)
    >>> [ax.get_title(loc="left") for ax in display.ax_][1]
    'Accepted and refused'
    """

    def __init__(
        self,
        *,
        seeds,
        generated,
        round_,
        scores,
        side,
        history,
        real=None,
        score_name="energy",
        labels=None,
    ):
        self.seeds = seeds
        self.generated = generated
        self.round_ = round_
        self.scores = scores
        self.side = side
        self.history = history
        self.real = real
        self.score_name = score_name
        self.labels = labels

    @classmethod
    def from_estimator(cls, estimator, X, *, X_real=None, embedding=None, ax=None):
        """Draw a fitted augmenter.

        Parameters
        ----------
        estimator : GOLDAugmenter or GOLDSeq2SeqAugmenter
            Fitted with an LLM or a generator; or a pipeline that ends with one.
        X : texts or table
            The labeled rows it was fitted on.
        X_real : like X, default=None
            Real rows to compare with, where there are some.
        embedding : transformer, default=None
            Gives rows two coordinates by `fit_transform`. None: the first two principal components
            of TF-IDF for texts; for tables of standardized numbers and one-hot categories.
        ax : array of matplotlib Axes, default=None
            Where to draw: three, or two where no row has a score. None makes a figure.

        Returns
        -------
        GenerationDisplay

        Raises
        ------
        ValueError
            If nothing was generated.
        """
        before, estimator = split_steps(estimator)
        for steps in before:
            X, X_real = (None if rows is None else steps.transform(rows) for rows in (X, X_real))
        # There is no `estimator_` where an error or an interrupt has ended the fit.
        check_is_fitted(estimator, "X_generated_")
        if not estimator.history_:
            raise ValueError(
                "There is nothing to draw: it was fitted without an LLM or a generator."
            )
        rows = joined(like(estimator.X_generated_, X, "X"), estimator.X_generated_)
        if X_real is not None:
            rows = joined(rows, like(estimator.X_generated_, X_real, "X_real"))
        places = place(rows, embedding)
        n, n_generated = _num_samples(X), len(estimator.y_generated_)
        return cls(
            seeds=places[:n],
            generated=places[n : n + n_generated],
            real=None if X_real is None else places[n + n_generated :],
            round_=estimator.generation_round_,
            scores=estimator.ood_scores_,
            side=side_of_band(estimator),
            history=estimator.history_,
            score_name="energy"
            if isinstance(getattr(estimator, "ood_score", ""), str)
            else "outlier score",
            labels=None if list(estimator._labels) == [None] else estimator.y_generated_,
        ).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : array of matplotlib Axes, default=None

        Returns
        -------
        GenerationDisplay
        """
        check_matplotlib_support("GenerationDisplay")
        import matplotlib.pyplot as plt

        n_axes = 3 if np.isfinite(self.scores).any() else 2
        if ax is None:
            _, ax = plt.subplots(1, n_axes, figsize=(1 + 5 * n_axes, 4.2), layout="constrained")
        axes = np.ravel(ax)
        if len(axes) != n_axes:
            raise ValueError(f"There are {len(axes)} axes to draw in, {n_axes} are wanted.")
        self._plot_rows(axes[0], plt.rcParams["text.color"])
        if n_axes == 3:
            self._plot_scores(axes[1])
        self._plot_rounds(axes[-1], plt.rcParams["text.color"])
        for each in axes:
            each.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = axes, axes[0].figure
        return self

    def _plot_rows(self, ax, ink):
        """Draw rows in two dimensions: classes by color, rounds by marker."""
        if self.real is not None:
            ax.scatter(*self.real.T, s=7, color="0.6", alpha=0.6, lw=0, label="real")
        ax.scatter(*self.seeds.T, s=70, marker="*", color=ink, lw=0, label="labeled", zorder=3)
        names, codes, colors = self._colors()
        markers = np.minimum(self.round_, len(MARKERS) - 1)
        for marker in np.unique(markers):
            of_round = markers == marker
            ax.scatter(
                *self.generated[of_round].T,
                c=[colors[k] for k in codes[of_round]],
                s=18,
                marker=MARKERS[marker],
                alpha=0.85,
                lw=0,
            )
        for name, color in zip(names, colors, strict=True):
            ax.scatter([], [], s=30, marker="s", color=color, label=name)
        for marker in np.unique(markers) if len(np.unique(markers)) > 1 else ():
            later = marker == len(MARKERS) - 1 < self.round_.max()
            name = f"round {marker}" + (" and later" if later else "")
            ax.scatter([], [], s=18, marker=MARKERS[marker], color=OTHER, label=name)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{len(self.generated)} generated rows", loc="left")
        legend_beside(ax, markerscale=1.2)

    def _colors(self):
        """Return the names of the classes, the class of each generated row, and their colors."""
        import matplotlib.pyplot as plt

        if self.labels is None:
            return ["generated"], np.zeros(len(self.generated), int), [ACCEPTED]
        labels = np.array([str(label) for label in np.asarray(self.labels).tolist()], dtype=object)
        names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        colors = [plt.colormaps["tab10"](k) for k in range(MOST_COLORS)]
        if len(names) <= MOST_COLORS:
            return names.tolist(), codes, colors[: len(names)]
        largest = np.sort(np.argsort(-counts, kind="stable")[: MOST_COLORS - 1])
        codes = np.where(np.isin(codes, largest), np.searchsorted(largest, codes), len(largest))
        shown = [*names[largest], f"{len(names) - len(largest)} others"]
        return shown, codes, [*colors[: len(largest)], OTHER]

    def _plot_scores(self, ax):
        ax.set_title("How unfamiliar the rows were", loc="left")
        scored = np.isfinite(self.scores)
        sides = [side for side in (-1, 0, 1) if (scored & (self.side == side)).any()]
        parts = [self.scores[scored & (self.side == side)] for side in sides]
        names = {-1: "nearer", 0: "in the band: feedback", 1: "farther: treated as noise"}
        colors = {-1: ACCEPTED, 0: SHOWN, 1: OTHER}
        bins = np.histogram_bin_edges(self.scores[scored], bins=24)
        ax.hist(
            parts,
            bins,
            stacked=True,
            color=[colors[side] for side in sides],
            label=[names[side] for side in sides],
            rwidth=0.92,
        )
        ax.set(xlabel=f"{self.score_name} (higher: less familiar)", ylabel="rows")
        ax.yaxis.get_major_locator().set_params(integer=True)
        legend_above(ax)

    def _plot_rounds(self, ax, ink):
        rounds = np.arange(len(self.history))
        parts = {"accepted": np.array([entry["accepted"] for entry in self.history])}
        for reason in sorted({reason for entry in self.history for reason in entry["rejected"]}):
            parts[reason] = np.array([entry["rejected"].get(reason, 0) for entry in self.history])
        bottom = np.zeros(len(rounds))
        for name, height in parts.items():
            color = ACCEPTED if name == "accepted" else REFUSED.get(name, OTHER)
            ax.bar(rounds, height, 0.75, bottom, color=color, label=f"{name} ({height.sum()})")
            bottom += height
        ax.set(xlabel="round", ylabel="rows", xlim=(-0.6, max(len(rounds), 3) - 0.4))
        ax.xaxis.get_major_locator().set_params(integer=True)
        title = "Accepted and refused"
        costs = [entry["cost"] for entry in self.history]
        if None not in costs and sum(costs) > 0:
            right = ax.twinx()
            right.plot(rounds, np.cumsum(costs), ".--", color=ink, lw=1)
            right.set(ylabel="dollars so far (dashed)", ylim=(0, None))
            right.spines["top"].set_visible(False)
            title += f", ${sum(costs):.3g}"
        ax.set_title(title, loc="left")
        legend_above(ax)


def legend_above(ax):
    """Leave room for the legend above what is drawn."""
    n_lines = -(-len(ax.get_legend_handles_labels()[0]) // 2)
    ax.set_ylim(0, (1.08 + 0.1 * n_lines) * ax.get_ylim()[1])
    ax.legend(frameon=False, fontsize="small", ncols=2, loc="upper left", columnspacing=1.0)


def like(generated, X, name):
    """X, with the generated rows' columns; an error where it is something else."""
    X = check_texts(X) if is_text(X) else X
    if is_frame(generated) and is_frame(X):
        if missing := [column for column in generated.columns if column not in X.columns]:
            raise ValueError(f"{name} has no column {missing[0]!r}.")
        return X[list(generated.columns)]
    if is_frame(generated) or np.shape(X)[1:] != generated.shape[1:]:
        raise ValueError(f"{name} is of another kind than what the augmenter was fitted on.")
    return X


def place(rows, embedding=None):
    """Give rows two coordinates.

    Parameters
    ----------
    rows : array of texts, or table
    embedding : transformer, default=None

    Returns
    -------
    ndarray of shape (n_rows, 2)
    """
    if embedding is None:
        words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
        features = words if is_text(rows) else table_features(rows, free_text_columns(rows))
        pca = PCA(2, random_state=0)
        embedding = make_pipeline(features, FunctionTransformer(two_at_least), pca)
    if not hasattr(embedding, "fit_transform"):
        raise ValueError(f"embedding={embedding!r:.80} has no fit_transform, as TSNE() has.")
    places = np.asarray(embedding.fit_transform(rows), dtype=float)
    if places.shape != (_num_samples(rows), 2):
        raise ValueError(
            f"The embedding turned {_num_samples(rows)} rows into shape {places.shape}; it has to "
            "give each two coordinates."
        )
    return places


def two_at_least(features):
    """Two columns of a single one, the other of zeros."""
    if features.shape[1] > 1:
        return features
    return np.column_stack([features, np.zeros(len(features))])


def side_of_band(estimator):
    """Tell where the scores of generated rows are: -1 below the band of their round, 0, 1."""
    limits = np.array(
        [
            estimator.history_[one.request.round]["band"].get(one.request.label, (np.nan, np.nan))
            for one in estimator._outcome.accepted
        ]
    ).reshape(-1, 2)
    scores = estimator.ood_scores_
    return (scores > limits[:, 1]).astype(int) - (scores < limits[:, 0]).astype(int)
