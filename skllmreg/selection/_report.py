"""Report what a teacher answered, row by row, and what it took."""

import time

import numpy as np
from sklearn.utils.validation import check_is_fitted


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
        "cached" answers, "tokens" and "dollars"; None where nobody counts them.
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


def answers_frame(asked, proba, classes, source, **columns):
    """Put what the teacher said about each row into a data frame.

    Parameters
    ----------
    asked : ndarray of bool of shape (n_samples,)
        Rows that the teacher was asked about; the others are left out.
    proba : ndarray of shape (n_samples, n_classes)
        Its probabilities; NaN for no answer.
    classes : ndarray of shape (n_classes,)
    source : ndarray of str of shape (n_samples,)
    **columns
        Further columns, each of shape (n_samples,).

    Returns
    -------
    DataFrame
        The index, "row", counts the rows of X.
    """
    import pandas as pd

    rows = np.flatnonzero(asked)
    answered = np.isfinite(proba[rows, 0])
    label = np.full(len(rows), None, dtype=object)
    label[answered] = classes[proba[rows[answered]].argmax(axis=1)]
    frame = {"label": label}
    frame |= {f"proba_{name}": proba[rows, k] for k, name in enumerate(classes.tolist())}
    frame |= {name: np.asarray(values)[rows] for name, values in columns.items()}
    frame["source"] = source[rows]
    return pd.DataFrame(frame, index=pd.Index(rows, name="row"))


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
        return answers_frame(
            self.answer_source_ != "",
            self.teacher_proba_,
            self.classes_,
            self.answer_source_,
            **self._use_of_rows(),
        )

    def summary(self):
        """Sum up the last fit.

        Returns
        -------
        dict
            "rows" of X, "calls" of the teacher (of these "recorded" ones, and "cached" ones where
            the LLM counts them), "tokens" and "dollars" of its LLM (None where nobody counts them),
            "seconds", and "failures": rows without an answer.
        """
        check_is_fitted(self)
        return dict(self._summary)
