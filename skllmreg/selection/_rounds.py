"""The rounds of a fit: ask the teacher, select among its answers, train the student."""

from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import cohen_kappa_score

from skllmreg.selection._strategies import PaperRule, mean_one, rows_to_ask
from skllmreg.selection._thresholds import uncertainty
from skllmreg.students._calibration import Calibration, fit_calibration


@dataclass(frozen=True)
class Plan:
    """How calls are spent and answers are used.

    Parameters
    ----------
    strategy : str
    soft : bool
        Whether probabilities are learned, or classes.
    schedule : list of int
        How many unlabeled rows are asked about in each round.
    choosy : bool
        Whether the student says which, round by round.
    rule : PaperRule or None
        Selects among the answers.
    by_batch : bool
        Whether it does so inside a net's training.
    n_folds : int
        Of the second opinion.
    tol : float
        Students that agree up to this end the asking.
    """

    strategy: str
    soft: bool
    schedule: list[int]
    choosy: bool
    rule: PaperRule | None
    by_batch: bool
    n_folds: int
    tol: float

    @property
    def n_students(self):
        """How many are fitted, at most."""
        opinions = self.n_folds if self.strategy == "distill" else 0
        return self.needs_student + len(self.schedule) + opinions

    @property
    def needs_student(self):
        """Whether a student is needed before the first round."""
        return self.choosy or (self.rule is not None and not self.by_batch)


@dataclass
class Taught:
    """A student, and what it was taught.

    Parameters
    ----------
    student : fitted classifier
    training : tuple of ndarray
        Rows of X, targets and weights that it was fitted to.
    condition : str
        Why no more rows were asked about.
    first_round : ndarray of int of shape (n_pool,)
        Round in which a row of the pool was selected first; -1 for never.
    uncertainty : ndarray of shape (n_pool,)
    calibration : Calibration or None
    history : list of dict
    """

    student: object
    training: tuple
    condition: str
    first_round: np.ndarray
    uncertainty: np.ndarray
    calibration: Calibration | None = None
    history: list = field(default_factory=list)


def teach_labels(lesson):
    """Fit a student to the labeled rows; there is no one to ask, or nothing to ask about.

    Parameters
    ----------
    lesson : Lesson

    Returns
    -------
    Taught
    """
    none = np.empty(0, int)
    training = lesson.training_rows(none, np.empty((0, len(lesson.classes))), none)
    return Taught(lesson.fit(*training), training, "all_labeled", none, none)


def calibrate(lesson, reveal, method, most, rng):
    """Ask about labeled rows how far the teacher can be believed.

    Parameters
    ----------
    lesson : Lesson
    reveal : Reveal
    method : {"temperature", "bias"} or None
    most : int
        Rows to ask about.
    rng : RandomState

    Returns
    -------
    Calibration or None
    """
    rows = reveal.teacher.honest_answers(lesson.labeled)
    if method is None or not min(most, len(rows)):
        return None
    if len(rows) > most:
        rows = np.sort(rng.choice(rows, most, replace=False))
    reveal.ask(rows)
    rows = rows[reveal.has_answer(rows)]
    if not len(rows):
        return None
    codes = lesson.codes[np.searchsorted(lesson.labeled, rows)]
    return fit_calibration(reveal.proba[rows], codes, bias=method == "bias")


def teach(lesson, reveal, plan, calibration, rng):
    """Ask, select and train until the budget is spent or more would change nothing.

    Parameters
    ----------
    lesson : Lesson
    reveal : Reveal
    plan : Plan
    calibration : Calibration or None
    rng : RandomState

    Returns
    -------
    Taught
    """
    first_round = np.full(len(lesson.pool), -1)
    q = lesson.pool_proba(lesson.first_student() if plan.needs_student else None)
    class_share = np.full(len(lesson.classes), 1 / len(lesson.classes))
    selection, history, stable = Selection(lesson, plan), [], False
    for number, n_rows in enumerate(plan.schedule, start=1):
        if not stable:
            rest = np.flatnonzero(reveal.may_ask(lesson.pool))
            new = rest[rows_to_ask(plan.strategy, q[rest], n_rows, class_share, rng)]
            reveal.ask(lesson.pool[new])
        answered = reveal.has_answer(lesson.pool)
        if not answered.any():
            continue
        rows = lesson.pool[answered]
        p = reveal.proba[rows] if calibration is None else calibration(reveal.proba[rows])
        if plan.strategy == "distill" and (stable or number == len(plan.schedule)):
            p = lesson.reconsidered(rows, p, plan.n_folds, rng)
        student, training, n_selected = selection.train(rows, p, uncertainty(q[answered]))
        used = np.isin(lesson.pool, training[0])
        first_round[used & (first_round == -1)] = number
        class_share = training[1].mean(axis=0)
        before, q = q, lesson.pool_proba(student)
        agreement = kappa(before, q) if number > 1 else np.nan
        history.append(
            {"calls": reveal.n_calls, "selected": n_selected, "agreement": agreement}
            | {"thresholds": {} if plan.rule is None else dict(plan.rule.limits)}
            | {"predicted": lesson.classes[q.argmax(axis=1)]}
        )
        if stable:
            break
        stable = plan.choosy and student is not None and agreement >= 1 - plan.tol
    asked = reveal.asked[lesson.pool]
    if not answered.any():
        raise ValueError(f"The teacher answered none of the {asked.sum()} rows that it was asked.")
    if student is None:
        raise ValueError(
            "All rows to learn from are of one class: ask about more of them, or label some of "
            "another class."
        )
    if not reveal.may_ask(lesson.pool).any():
        condition = "all_labeled"
    else:
        condition = "budget" if asked.sum() == sum(plan.schedule) else "stable"
    return Taught(student, training, condition, first_round, uncertainty(q), calibration, history)


class Selection:
    """What a plan selects among the answers, over the rounds.

    A student that is trained in batches keeps what it learned from a row when the row is no longer
    selected. One that is fitted anew would forget it, so under a rule it is fitted to the rows of
    all rounds so far, each with the sum of its weights.

    Parameters
    ----------
    lesson : Lesson
    plan : Plan
    """

    def __init__(self, lesson, plan):
        self.lesson = lesson
        self.plan = plan
        self.weight = np.zeros(0)

    def train(self, rows, proba, need):
        """Fit a student to what is selected among rows that were asked about.

        Parameters
        ----------
        rows : ndarray of int of shape (n_rows,)
        proba : ndarray of shape (n_rows, n_classes)
            The teacher's.
        need : ndarray of shape (n_rows,)
            The last student's uncertainty.

        Returns
        -------
        student : fitted classifier
        training : tuple of ndarray
            Rows, targets and weights it was fitted to.
        n_selected : int or float
            Rows of this round; of a net, on average over its epochs.
        """
        lesson, rule = self.lesson, self.plan.rule
        target = proba if self.plan.soft else np.eye(proba.shape[1])[proba.argmax(axis=1)]
        if rule is None:
            training = lesson.training_rows(rows, target, np.ones(len(rows)))
            return lesson.fit(*training), training, len(rows)
        codes, weight = rule.meet_teacher(proba)
        if self.plan.by_batch:
            student, share = lesson.fit_by_batch(rows, target, weight, rule, codes)
            used = share > 0
            training = lesson.training_rows(rows[used], target[used], share[used])
            return student, training, float(share.sum())
        weight = rule(codes, weight, need)
        # Under a rule all answers come in the first round.
        self.weight = weight + (self.weight if len(self.weight) else 0)
        used = self.weight > 0
        training = lesson.training_rows(rows[used], target[used], mean_one(self.weight[used]))
        return lesson.fit(*training), training, int(np.count_nonzero(weight))


def kappa(before, after):
    """Agreement of two students on the pool beyond chance: 1 is complete, NaN is for one class."""
    before, after = before.argmax(axis=1), after.argmax(axis=1)
    if np.array_equal(before, after):
        return 1.0 if np.ptp(before) else np.nan
    return float(cohen_kappa_score(before, after))
