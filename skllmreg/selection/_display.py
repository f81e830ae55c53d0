"""Picture of what was selected, and why."""

import numpy as np
from sklearn.utils.validation import check_is_fitted


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

    Attributes
    ----------
    ax_ : matplotlib Axes
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
    '60 calls, 57 rows selected'
    """

    def __init__(self, *, confidence, uncertainty, round_):
        self.confidence = confidence
        self.uncertainty = uncertainty
        self.round_ = round_

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw a fitted selector.

        Parameters
        ----------
        estimator : LLKDSelector
            Fitted with a teacher.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        SelectionDisplay

        Raises
        ------
        ValueError
            If the teacher was asked about no unlabelled row.
        """
        check_is_fitted(estimator, "labeled_iter_")
        rows = np.flatnonzero(
            np.isfinite(estimator.teacher_proba_).all(axis=1) & (estimator.labeled_iter_ != 0)
        )
        if not len(rows):
            raise ValueError("There is nothing to draw: the teacher was asked about no row.")
        display = cls(
            confidence=estimator.teacher_proba_[rows].max(axis=1),
            uncertainty=estimator.student_uncertainty_[rows],
            round_=estimator.labeled_iter_[rows],
        )
        display.plot(ax=ax)
        display.ax_.set_title(
            f"{estimator.n_teacher_calls_} calls, {np.sum(display.round_ > 0)} rows selected",
            loc="left",
        )
        return display

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        SelectionDisplay
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(5.5, 4), layout="constrained")
        never = self.round_ < 0
        ax.plot(
            self.confidence[never],
            self.uncertainty[never],
            "x",
            color="0.7",
            ms=4,
            label="left out",
        )
        rounds = np.unique(self.round_[~never])
        colors = plt.colormaps["viridis"](np.linspace(0, 0.9, max(len(rounds), 1)))
        for number, color in zip(rounds, colors, strict=False):
            rows = self.round_ == number
            ax.plot(
                self.confidence[rows],
                self.uncertainty[rows],
                "o",
                color=color,
                ms=3.5,
                alpha=0.7,
                label=f"round {number}",
            )
        ax.set(xlabel="teacher's confidence", ylabel="student's uncertainty at the end")
        ax.legend(frameon=False, fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self
