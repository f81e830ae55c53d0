"""List, sum up and draw what a teacher answered, and what became of it."""

import time

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import (
    _num_samples,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from skllmreg.exceptions import NoAnswerWarning
from skllmreg.selection._unlabeled import with_unlabeled
from skllmreg.utils._drawing import legend_beside, split_steps
from skllmreg.utils._warn import warn


class Meter:
    """Seconds of a `with` block, and what the teacher's LLM used in it.

    Parameters
    ----------
    teacher : classifier or None
        Its attribute `llm`, where there is one with a method `usage`, counts tokens and dollars.

    Attributes
    ----------
    seconds : float
    used : dict
        "cached" answers, "tokens" and "dollars"; None if they are not counted.
    """

    def __init__(self, teacher):
        llm = getattr(getattr(teacher, "estimator", teacher), "llm", None)
        self.usage = getattr(llm, "usage", None)

    def __enter__(self):
        self.start, self.before = time.perf_counter(), self._total()
        return self

    def __exit__(self, *exc_info):
        self.seconds = time.perf_counter() - self.start
        self.used = dict.fromkeys(("cached", "tokens", "dollars"))
        if self.before is not None:
            for name, after in self._total().items():
                # No price, no dollars; but zero dollars where all came from the cache.
                if after is not None:
                    self.used[name] = after - (self.before[name] or 0)

    def _total(self):
        if self.usage is None:
            return None
        entries = self.usage(this_run=True)
        costs = [entry.cost for entry in entries if entry.cost is not None]
        return {
            "cached": sum(entry.cached for entry in entries),
            "tokens": sum(entry.prompt_tokens + entry.completion_tokens for entry in entries),
            "dollars": sum(costs) if costs else None,
        }


def summarize(answers, meter):
    """Sum up a fit: rows, calls, cached, tokens, dollars, seconds, failures.

    Parameters
    ----------
    answers : Answers or None
    meter : Meter

    Returns
    -------
    dict
    """
    n_calls = failures = n_recorded = 0
    if answers is not None:
        n_calls = answers.n_calls
        failures = int((answers.asked & np.isnan(answers.proba[:, 0])).sum())
        n_recorded = int((answers.source == "recorded").sum())
    return {
        "rows": 0 if answers is None else len(answers.asked),
        "calls": n_calls,
        "recorded": n_recorded,
        **meter.used,
        "seconds": meter.seconds,
        "failures": failures,
    }


class AnswerReport:
    """Reports of an estimator that has asked a teacher."""

    classes_: np.ndarray
    teacher_proba_: np.ndarray
    answer_source_: np.ndarray
    _summary: dict

    def _use_of_rows(self):
        """Columns that say what became of each row of X."""
        return {}

    def to_frame(self):
        """List the rows that the teacher was asked about.

        Returns
        -------
        DataFrame
            For each such row of X, in the index: the teacher's "label" (None for no answer) and
            probabilities "proba_<class>"; the "round" in which the row was selected first (0 for
            labeled rows, -1 for never), whether it was "used" in the end and with what "weight";
            of a cascade, whether it was drawn for the "calibration" of the threshold; and the
            "source" of the answer: "live", "cached" or "recorded". Needs pandas.
        """
        check_is_fitted(self)
        import pandas as pd

        rows = np.flatnonzero(self.answer_source_ != "")
        proba = self.teacher_proba_[rows]
        answered = np.isfinite(proba[:, 0])
        label = np.full(len(rows), None, dtype=object)
        label[answered] = self.classes_[proba[answered].argmax(axis=1)]
        frame = {"label": label}
        frame |= {f"proba_{name}": proba[:, k] for k, name in enumerate(self.classes_.tolist())}
        frame |= {name: values[rows] for name, values in self._use_of_rows().items()}
        frame["source"] = self.answer_source_[rows]
        return pd.DataFrame(frame, index=pd.Index(rows, name="row"))

    def summary(self):
        """Sum up the last fit.

        Returns
        -------
        dict
            "rows" of X, "calls" of the teacher (of these "recorded" ones, and "cached" ones where
            the LLM counts them), "tokens" and "dollars" of its LLM (None if they are not counted),
            "seconds", and "failures": rows without an answer.
        """
        check_is_fitted(self)
        return dict(self._summary)


def explain(selector, problem, answers, trained):
    """Set the attributes of a selector that say what was asked, learned and left out.

    Parameters
    ----------
    selector : LLKDSelector
    problem : TrainingProblem
    answers : Answers or None
    trained : Trained
    """
    n_samples, n_classes = _num_samples(problem.X), len(selector.classes_)
    selector.sample_indices_, selector.soft_labels_, selector.sample_weight_ = trained.training
    selector.transduction_ = with_unlabeled(
        selector.classes_[selector.soft_labels_.argmax(axis=1)], selector.sample_indices_, n_samples
    )
    selector.labeled_iter_ = np.full(n_samples, -1)
    selector.labeled_iter_[problem.labeled] = 0
    selector.labeled_iter_[problem.pool] = trained.first_round
    selector.student_uncertainty_ = np.full(n_samples, np.nan)
    selector.student_uncertainty_[problem.pool] = trained.uncertainty
    selector.calibration_, selector.history_ = trained.calibration, trained.history
    selector.termination_condition_, selector.refinement_ = trained.condition, trained.refinement
    selector.teacher_proba_ = np.full((n_samples, n_classes), np.nan)
    selector.answer_source_ = np.full(n_samples, "", dtype="<U8")
    selector.n_teacher_calls_ = selector.n_calls_saved_ = 0
    if answers is None:
        return
    selector.teacher_proba_, selector.n_teacher_calls_ = answers.proba.copy(), answers.n_calls
    selector.answer_source_ = answers.source.copy()
    selector.n_calls_saved_ = int(answers.may_ask(problem.pool).sum())
    silent = np.flatnonzero(answers.asked & np.isnan(answers.proba[:, 0]))
    if len(silent):
        warn(
            f"The teacher gave no answer for {len(silent)} of {answers.n_calls} rows; the "
            f"first is row {silent[0]}. They are not learned from.",
            NoAnswerWarning,
        )


class SelectionDisplay:
    """Teacher confidence against student uncertainty, with the rows chosen in each round.

    Use :meth:`from_estimator`; all parameters are stored as attributes.

    Parameters
    ----------
    confidence : ndarray of shape (n_rows,)
        The teacher's largest probability of rows that it was asked about.
    uncertainty : ndarray of shape (n_rows,)
        Entropy of the fitted student as a share of its maximum.
    round_ : ndarray of int of shape (n_rows,)
        The round in which a row was selected first; -1 for never.
    calls : ndarray of int of shape (n_rounds,), default=None
        Calls spent by the end of each round.
    accuracy : ndarray of shape (n_rounds,), default=None
        Of the students of the rounds.

    Attributes
    ----------
    ax_ : matplotlib Axes or ndarray of two
        The second shows accuracy against calls.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skllmreg import LLKDSelector, SelectionDisplay
    >>> X, truth = load_iris(return_X_y=True)
    >>> y = np.where(np.arange(150) % 10 == 0, truth, -1)
    >>> proba = 0.8 * np.eye(3)[truth] + 0.2 / 3
    >>> model = LLKDSelector(max_teacher_calls=60, random_state=0).fit(X, y, teacher_proba=proba)
    >>> display = SelectionDisplay.from_estimator(model)
    >>> display.ax_.get_title(loc="left")
    '60 calls, 50 rows selected'
    """

    def __init__(self, *, confidence, uncertainty, round_, calls=None, accuracy=None):
        self.confidence = confidence
        self.uncertainty = uncertainty
        self.round_ = round_
        self.calls = calls
        self.accuracy = accuracy

    @classmethod
    def from_estimator(cls, estimator, *, y_true=None, ax=None):
        """Draw a fitted selector.

        Parameters
        ----------
        estimator : LLKDSelector
            Fitted with a teacher; or a pipeline or search that ends with one.
        y_true : array-like of shape (n_samples,), default=None
            True labels of the rows it was fitted on, where these are known after all: adds the
            accuracy of each round's student on the unlabeled rows, against the calls spent.
        ax : matplotlib Axes, or two of them with `y_true`, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        SelectionDisplay

        Raises
        ------
        ValueError
            If the teacher was asked about no unlabeled row.
        """
        _, estimator = split_steps(estimator)
        check_is_fitted(estimator, "labeled_iter_")
        rows = np.flatnonzero(
            np.isfinite(estimator.teacher_proba_).all(axis=1) & (estimator.labeled_iter_ != 0)
        )
        if not len(rows):
            raise ValueError("There is nothing to draw: the teacher was asked about no row.")
        calls = accuracy = None
        if y_true is not None:
            check_consistent_length(y_true, estimator.labeled_iter_)
            truth = column_or_1d(y_true)[estimator.labeled_iter_ != 0]
            unknown = sorted({str(k) for k in set(truth) - set(estimator.classes_)})
            if unknown:
                raise ValueError(f"y_true holds labels that are not classes: {unknown}.")
            calls = np.array([entry["calls"] for entry in estimator.history_])
            accuracy = np.array([np.mean(e["predicted"] == truth) for e in estimator.history_])
        display = cls(
            calls=calls,
            accuracy=accuracy,
            confidence=estimator.teacher_proba_[rows].max(axis=1),
            uncertainty=estimator.student_uncertainty_[rows],
            round_=estimator.labeled_iter_[rows],
        )
        display.plot(ax=ax)
        np.ravel(display.ax_)[0].set_title(
            f"{estimator.n_teacher_calls_} calls, {np.sum(display.round_ > 0)} rows selected",
            loc="left",
        )
        return display

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, or two of them with `accuracy`, default=None

        Returns
        -------
        SelectionDisplay
        """
        check_matplotlib_support("SelectionDisplay")
        import matplotlib.pyplot as plt

        n_axes = 1 if self.accuracy is None else 2
        if ax is None:
            _, ax = plt.subplots(1, n_axes, figsize=(1 + 5 * n_axes, 4), layout="constrained")
        axes = np.ravel(ax)
        if len(axes) != n_axes:
            raise ValueError(f"There are {len(axes)} axes to draw in, {n_axes} are wanted.")
        self._plot_rows(axes[0], plt.colormaps["viridis"])
        if self.accuracy is not None:
            axes[1].plot(self.calls, self.accuracy, "o-")
            axes[1].set(xlabel="calls of the teacher", ylabel="accuracy on the unlabeled rows")
        self.ax_, self.figure_ = ax, axes[0].figure
        return self

    def _plot_rows(self, ax, colormap):
        never = self.round_ < 0
        if never.any():
            gray = {"color": "0.7", "ms": 4, "label": "left out"}
            ax.plot(self.confidence[never], self.uncertainty[never], "x", **gray)
        rounds = np.unique(self.round_[~never])
        for number, color in zip(rounds, colormap(np.linspace(0, 0.9, len(rounds))), strict=True):
            rows = self.round_ == number
            style = {"color": color, "ms": 3.5, "alpha": 0.7, "label": f"round {number}"}
            ax.plot(self.confidence[rows], self.uncertainty[rows], "o", **style)
        ax.set(xlabel="teacher's confidence", ylabel="student's uncertainty at the end")
        if never.any() or len(rounds) > 1:
            legend_beside(ax)


class CascadeDisplay:
    """Disagreement of a cascade with its teacher, against the share of rows the student answers.

    Use :meth:`from_estimator`; all parameters are stored as attributes.

    Parameters
    ----------
    coverage : ndarray of shape (n_thresholds,)
        Share of the calibration rows that the student answers, for every threshold.
    disagreement : ndarray of shape (n_thresholds,)
        Share of all calibration rows that it answers otherwise than the teacher.
    bound : ndarray of shape (n_thresholds,)
        Upper bound of that share, for each threshold on its own.
    max_disagreement : float, default=None
        Largest share that is allowed.
    chosen : tuple of float, default=None
        Coverage and disagreement at the threshold in use.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skllmreg import CascadeDisplay, LLMCascadeClassifier
    >>> X, truth = load_iris(return_X_y=True)
    >>> proba = 0.8 * np.eye(3)[truth] + 0.2 / 3
    >>> cascade = LLMCascadeClassifier(max_disagreement=0.1, n_calibration=70, random_state=0)
    >>> cascade.fit(X, teacher_proba=proba, classes=[0, 1, 2]).threshold_ > 0
    True
    >>> display = CascadeDisplay.from_estimator(cascade)
    >>> display.ax_.get_xlabel()
    'share of rows that the student answers'
    """

    def __init__(self, *, coverage, disagreement, bound, max_disagreement=None, chosen=None):
        self.coverage = coverage
        self.disagreement = disagreement
        self.bound = bound
        self.max_disagreement = max_disagreement
        self.chosen = chosen

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw a fitted cascade.

        Parameters
        ----------
        estimator : LLMCascadeClassifier
            Fitted with a teacher; or a pipeline or search that ends with one.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        CascadeDisplay

        Raises
        ------
        ValueError
            If the cascade was fitted without a teacher.
        """
        _, estimator = split_steps(estimator)
        check_is_fitted(estimator)
        if not len(estimator.calibration_indices_):
            raise ValueError("There is nothing to draw: the cascade was fitted without a teacher.")
        coverage, disagreement, bound = estimator.curve()
        display = cls(
            coverage=coverage,
            disagreement=disagreement,
            bound=bound,
            max_disagreement=estimator.max_disagreement,
            chosen=(estimator.coverage_, estimator.disagreement_),
        )
        return display.plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        CascadeDisplay
        """
        check_matplotlib_support("CascadeDisplay")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(6.2, 4), layout="constrained")
        ax.step(self.coverage, self.disagreement, where="post", label="calibration rows")
        ax.step(self.coverage, self.bound, where="post", color="0.5", lw=1, label="upper bound")
        if self.max_disagreement is not None:
            ax.axhline(self.max_disagreement, ls=":", color="k", lw=1, label="allowed")
            # Far beyond what is allowed the curve is of no use, and hides the rest.
            ax.set_ylim(0, min(1.0, max(4 * self.max_disagreement, 1.2 * np.min(self.bound))))
        if self.chosen is not None and self.chosen[0] > 0:
            ax.plot(*self.chosen, "o", color="tab:red", label="in use")
        ax.set(
            xlabel="share of rows that the student answers",
            ylabel="answered otherwise than by the teacher,\nshare of all rows",
            xlim=(0, 1),
        )
        legend_beside(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self
