"""Run the rounds of a fit: ask the teacher, select among its answers, train the student."""

from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import cohen_kappa_score
from sklearn.utils import check_random_state

from skllmreg.selection._answers import KnownRows, calibration_rows, delivery
from skllmreg.selection._problem import check_before_asking, one_hot
from skllmreg.selection._refine import MOST_TRIED, Weights, refine
from skllmreg.selection._strategies import (
    STRATEGIES,
    PaperRule,
    Strategy,
    mean_one,
    rows_to_ask,
    uncertainty,
)
from skllmreg.students._calibration import Calibration
from skllmreg.students._fitting import trains_in_batches
from skllmreg.utils._progress import progress_bar
from skllmreg.utils._validation import is_text

# Rounds of a teacher that answers at once.
N_ROUNDS = 5


@dataclass(frozen=True)
class Rounds:
    """How calls are spent over the rounds, and what the student learns.

    Parameters
    ----------
    strategy : Strategy
    schedule : tuple of int
        How many unlabeled rows are asked about in each round.
    rule : PaperRule or None
        Selects among the answers.
    by_batch : bool
        Whether it does so inside a net's training.
    soft : bool
        Whether probabilities are learned, or classes.
    n_folds : int
        Folds of whatever is tried out of fold.
    tol : float
        Students that agree up to this end the asking.
    """

    strategy: Strategy
    schedule: tuple[int, ...]
    rule: PaperRule | None
    by_batch: bool
    soft: bool
    n_folds: int
    tol: float

    @property
    def n_students(self):
        """Most students that are fitted."""
        tried = MOST_TRIED * self.n_folds if self.strategy.refine else 0
        return self.needs_student + len(self.schedule) + tried

    @property
    def needs_student(self):
        """Whether a student is needed before the first round."""
        return self.strategy.student_picks or (self.rule is not None and not self.by_batch)

    @classmethod
    def of(cls, selector, strategy, problem, answers, n_rounds, n_planned=0):
        """Spread the calls that are left over the rounds.

        Parameters
        ----------
        selector : LLKDSelector
        strategy : Strategy
        problem : TrainingProblem
        answers : Answers
        n_rounds : int
        n_planned : int
            Calls for labeled rows that come with the first round.
        """
        budget = n_pool = int(answers.may_ask(problem.pool).sum())
        if selector.max_teacher_calls is not None:
            budget = min(n_pool, selector.max_teacher_calls - answers.n_calls - n_planned)
        strategy = strategy.within(budget < n_pool)
        net, rule, schedule = trains_in_batches(problem.estimator), None, [budget]
        if strategy.conditions:
            rule = PaperRule(
                strategy.conditions,
                class_thresholds=selector.class_thresholds,
                momentum=selector.momentum if net else 0.0,
                weighting=selector.weighting,
                confidence_threshold=selector.confidence_threshold,
                uncertainty_threshold=selector.uncertainty_threshold,
            )
        if strategy.student_picks:
            edges = np.linspace(0, budget, min(n_rounds, budget) + 1).astype(int)
            schedule = np.diff(edges).tolist()
        elif "student" in strategy.conditions and not net:
            schedule += [0] * (n_rounds - 1)
        return cls(
            strategy,
            schedule=tuple(schedule),
            rule=rule,
            by_batch=net and rule is not None,
            soft=selector.labels == "soft",
            n_folds=selector.n_folds,
            # A quote expects no early end: agreement is never more than 1.
            tol=-1.0 if answers.is_rehearsal else selector.tol,
        )


@dataclass
class Trained:
    """A student, and what it was trained on.

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
    refinement : dict
        What earned its place, see `LLKDSelector`.
    """

    student: object
    training: tuple
    condition: str
    first_round: np.ndarray
    uncertainty: np.ndarray
    calibration: Calibration | None = None
    history: list = field(default_factory=list)
    refinement: dict = field(default_factory=dict)


def train_on_labels(problem):
    """Fit a student to the labeled rows; there is no one to ask, or nothing to ask about.

    Parameters
    ----------
    problem : TrainingProblem

    Returns
    -------
    Trained
    """
    none = np.empty(0, int)
    training = problem.training_rows(none, np.empty((0, len(problem.classes))), none)
    return Trained(problem.fit(*training), training, "all_labeled", none, none)


def train(problem, answers, rounds, known, rng):
    """Ask, select and train until the budget is spent or more would change nothing.

    Parameters
    ----------
    problem : TrainingProblem
    answers : Answers
    rounds : Rounds
    known : KnownRows
    rng : RandomState

    Returns
    -------
    Trained
    """
    strategy, schedule = rounds.strategy, rounds.schedule
    first_round = np.full(len(problem.pool), -1)
    student = problem.first_student() if rounds.needs_student else None
    q = problem.pool_proba(student)
    selection, history, stable = Selection(problem, rounds), [], False
    for number, n_rows in enumerate(schedule, start=1):
        if not stable:
            rest = np.flatnonzero(answers.may_ask(problem.pool))
            new = rows_to_ask(strategy, q[rest], n_rows, rng)
            known.ask_planned(problem.pool[rest[new]])
        answered = answers.has_answer(problem.pool)
        if not answered.any():
            continue
        rows = problem.pool[answered]
        calibration, is_last = known.calibration(rows), stable or number == len(schedule)
        said = [answers.proba[some] for some in (rows, known.rows)]
        p, p_known = said if calibration is None else map(calibration, said)
        weights, opinion = Weights(), 0.0
        if strategy.refine and is_last:
            p, weights, opinion = refine(
                problem, rows, p, (known.rows, p_known), rounds.n_folds, rounds.soft, rng
            )
        # Students of the rounds only pick rows: a transformer goes on from the one before.
        student, training, n_selected = selection.train(
            rows, p, uncertainty(q[answered]), weights, start=None if is_last else student
        )
        used = np.isin(problem.pool, training[0])
        first_round[used & (first_round == -1)] = number
        before, q = q, problem.pool_proba(student)
        agreement = kappa(before, q) if number > 1 else np.nan
        history.append(
            {"calls": answers.n_calls, "selected": n_selected, "agreement": agreement}
            | {"thresholds": {} if rounds.rule is None else dict(rounds.rule.limits)}
            | {"predicted": problem.classes[q.argmax(axis=1)]}
        )
        if stable:
            break
        stable = strategy.student_picks and student is not None and agreement >= 1 - rounds.tol
    check_outcome(student, answered.any(), int(answers.asked[problem.pool].sum()))
    reason = why_no_more(problem, answers, schedule)
    learned = {"opinion": opinion} | weights.as_dict()
    return Trained(
        student, training, reason, first_round, uncertainty(q), calibration, history, learned
    )


def check_outcome(student, any_answer, n_asked):
    """Raise where the rounds have not led to a student."""
    if not any_answer:
        raise ValueError(f"The teacher answered none of the {n_asked} rows that it was asked.")
    if student is None:
        raise ValueError(
            "All rows to learn from are of one class: ask about more of them, or label some of "
            "another class."
        )


def why_no_more(problem, answers, schedule):
    """Name the reason why no more rows were asked about."""
    if not answers.may_ask(problem.pool).any():
        return "all_labeled"
    return "budget" if answers.asked[problem.pool].sum() == sum(schedule) else "stable"


class Selection:
    """What is selected among the answers, over the rounds.

    A student that is trained in batches keeps what it learned from a row when the row is no longer
    selected. One that is fitted anew would forget it, so under a rule it is fitted to the rows of
    all rounds so far, each with the sum of its weights.

    Parameters
    ----------
    problem : TrainingProblem
    rounds : Rounds
    """

    def __init__(self, problem, rounds):
        self.problem = problem
        self.rounds = rounds
        self.weight = np.zeros(0)

    def train(self, rows, proba, need, weights, start=None):
        """Fit a student to what is selected among rows that were asked about.

        Parameters
        ----------
        rows : ndarray of int of shape (n_rows,)
        proba : ndarray of shape (n_rows, n_classes)
            The teacher's.
        need : ndarray of shape (n_rows,)
            The last student's uncertainty.
        weights : Weights
            Of all rows, where no rule weighs them.
        start : fitted classifier, default=None
            As in `fit_student`.

        Returns
        -------
        student : fitted classifier
        training : tuple of ndarray
            Rows, targets and weights it was fitted to.
        n_selected : int or float
            Rows of this round; of a net, on average over its epochs.
        """
        problem, rule = self.problem, self.rounds.rule
        target = proba if self.rounds.soft else one_hot(proba)
        if rule is None:
            everyone, target, _ = problem.training_rows(rows, target)
            is_labeled = np.isin(everyone, problem.labeled)
            training = everyone, target, weights(target, is_labeled)
            return problem.fit(*training, start=start), training, len(rows)
        codes, weight = rule.fit(proba)
        if self.rounds.by_batch:
            student, share = problem.fit_by_batch(rows, target, weight, rule, codes)
            used = share > 0
            training = problem.training_rows(rows[used], target[used], share[used])
            return student, training, float(share.sum())
        weight = rule(codes, weight, need)
        # Under a rule all answers come in the first round.
        self.weight = weight + (self.weight if len(self.weight) else 0)
        used = self.weight > 0
        training = problem.training_rows(rows[used], target[used], mean_one(self.weight[used]))
        return problem.fit(*training), training, int(np.count_nonzero(weight))


def kappa(before, after):
    """Agreement of two students on the pool beyond chance: 1 is complete, NaN is for one class."""
    before, after = before.argmax(axis=1), after.argmax(axis=1)
    if np.array_equal(before, after):
        return 1.0 if np.ptp(before) else np.nan
    return float(cohen_kappa_score(before, after))


def ask_and_train(selector, problem, answers):
    """Check what can be checked, calibrate the teacher, and run the rounds.

    Parameters
    ----------
    selector : LLKDSelector
    problem : TrainingProblem
    answers : Answers

    Returns
    -------
    Trained
    """
    n_pool, calls = int(answers.may_ask(problem.pool).sum()), selector.max_teacher_calls
    limited = n_pool > (calls or n_pool)
    strategy = STRATEGIES[selector.strategy].within(limited)
    if not n_pool:
        raise ValueError("teacher_proba holds no answer about a row without a label.")
    if strategy.everything and limited:
        raise ValueError(
            f'strategy="all" asks about all {n_pool} rows without a label: with '
            f'max_teacher_calls={calls}, use strategy="random".'
        )
    by_batch, waits = delivery(selector.teacher)
    if by_batch and limited and not waits and selector.random_state is None:
        raise ValueError(
            "random_state=None draws other rows in each fit, and with batch_wait=False a fit is "
            "repeated until its batch jobs are done: set random_state."
        )
    n_rounds = selector.n_rounds
    if n_rounds == "auto":
        n_rounds = 1 if by_batch else N_ROUNDS
    sums = "student" in strategy.conditions and n_rounds > 1
    ruled = strategy.conditions and (sums or selector.weighting is not None)
    default = selector.estimator is None
    check_before_asking(
        problem,
        weighted=bool(selector.labels == "soft" or strategy.refine or ruled),
        default=default,
        dry_run=selector.teacher is not None or (default and not is_text(problem.X)),
    )
    rng = check_random_state(selector.random_state)
    method = strategy.calibration if selector.calibration == "auto" else selector.calibration
    known = KnownRows(problem, answers, method)
    first, most = calibration_rows(method, calls, n_pool, strategy.everything)
    if by_batch:
        known.plan(first if strategy.everything else max(first, most), rng)
    else:
        known.ask(first, most, rng)
    strategy, n_planned = STRATEGIES[selector.strategy], len(known.planned)
    rounds = Rounds.of(selector, strategy, problem, answers, n_rounds, n_planned)
    with progress_bar(rounds.n_students, None, "Students", unit="fit") as problem.tick:
        return train(problem, answers, rounds, known, rng)
