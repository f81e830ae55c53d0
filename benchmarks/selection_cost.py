"""What selection costs at 100,000 rows of 300 features: inside a training loop, and per round.

Claims (checked at the end): in a net, the paper's rule adds at most 10 % to the training time per
epoch; so does, per round, what "distill" and "llkd" do besides fitting and asking a student of
scikit-learn; memory is linear in the pool.

A skorch net is trained by itself, with labels weighted by the teacher's confidence, and with the
rule in every batch besides, in turns; the cost is the median of the ratios of neighbors, as other
work on the machine slows all. Times are one core's (CPU
time).

    python benchmarks/selection_cost.py [--quick] [--output benchmarks/results]
"""

import os
import statistics
import time
from functools import partial
from itertools import product

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from _results import made_by, options, output_folder
from skorch import NeuralNetClassifier

from skllmreg.selection._strategies import STRATEGIES, PaperRule, rows_to_ask, uncertainty
from skllmreg.students._fitting import fit_student
from skllmreg.students._net import BatchLesson, fit_net

N_FEATURES, N_CLASSES, EPOCHS = 300, 6, 2
RULE = {
    "class_thresholds": True,
    "weighting": "product",
    "confidence_threshold": "auto",
    "uncertainty_threshold": "auto",
}
BATCHES = (128, 256, 512)  # 128 is skorch's own; a larger one suits so many rows


def net(n_hidden, batch_size):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(N_FEATURES, n_hidden), torch.nn.ReLU(), torch.nn.Linear(n_hidden, N_CLASSES)
    )
    return NeuralNetClassifier(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        max_epochs=EPOCHS,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )


def seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def cost_in_a_net(X, proba, size, repeats):
    """Seconds of a plain epoch, and the ratios to it with the teacher's weights and its selection.

    The larger ratios of hard and soft labels.
    """
    codes = proba.argmax(axis=1)
    rule = PaperRule({"teacher", "student"}, momentum=0.9, **RULE)
    said, weight = rule.fit(proba)
    arms = {"weighted": {}, "selected": {"rule": rule, "codes": said}}
    plain, ratios = [], {}
    for _ in range(repeats):
        for labels, target in (("hard", np.eye(N_CLASSES)[codes]), ("soft", proba)):
            own = seconds(lambda: net(*size).fit(X, codes))
            plain.append(own / EPOCHS)
            for arm, params in arms.items():
                work = partial(fit_net, net(*size), X, target, weight, **params)
                ratios.setdefault((arm, labels), []).append(seconds(work) / own)
    medians = {key: statistics.median(found) for key, found in ratios.items()}
    return statistics.median(plain), *(
        max(medians[arm, of] for of in ("hard", "soft")) for arm in arms
    )


def cost_of_a_round(X, proba):
    """Seconds to fit a student, to have it predict the pool, and of a round's choices."""
    from sklearn.linear_model import SGDClassifier

    classes, rng = np.arange(N_CLASSES), np.random.RandomState(0)
    student = SGDClassifier(loss="log_loss", max_iter=5, tol=None, random_state=0)
    fitted = []
    training = seconds(lambda: fitted.append(fit_student(student, X, proba, classes)))
    q = fitted[0].predict_proba(X)
    predicting = seconds(lambda: fitted[0].predict_proba(X))
    asking = seconds(lambda: rows_to_ask(STRATEGIES["distill"], q, len(X) // 10, rng))
    rule = PaperRule({"teacher", "student"}, momentum=0.0, **RULE)
    choosing = seconds(lambda: rule(*rule.fit(proba), uncertainty(q)))
    return {"fit": training, "predict": predicting, "distill": asking, "llkd": choosing}


def main():
    parser = options(__doc__, "a tenth of the rows")
    args = parser.parse_args()
    n, repeats = (10_000, 2) if args.quick else (100_000, 5)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    proba = rng.dirichlet(np.full(N_CLASSES, 0.3), size=n)
    torch.set_num_threads(1)
    lesson = BatchLesson(proba, np.ones(n))
    memory = sum(a.nbytes for a in vars(lesson).values() if isinstance(a, np.ndarray))
    made = made_by("torch", "skorch")
    lines = [
        "# What selection costs",
        "",
        f"Made by `{made['command']}` (cores {made['cores']}, torch {made['torch']}, skorch "
        f"{made['skorch']}). {n:,} rows of {N_FEATURES} features, {N_CLASSES} classes.",
        "",
        f"In a skorch net of one hidden layer, {EPOCHS} epochs; medians of {repeats}. Plain is "
        "skorch alone on the teacher's labels; what comes on top, as a part of it, where labels "
        "count as much as the teacher is sure, and where llkd selects in every batch besides:",
        "",
        "| hidden units | batch | seconds of a plain epoch | weighted | weighted and selected |",
        "|---|---|---|---|---|",
    ]
    claims = []
    for size in product((100, 512), BATCHES):
        plain, weighted, selected = cost_in_a_net(X, proba, size, repeats)
        lines.append(
            f"| {size[0]} | {size[1]} | {plain:.2f} | {weighted - 1:+.1%} | {selected - 1:+.1%} |"
        )
        of_what = f"epoch of a net with {size[0]} units in batches of {size[1]}"
        claims.append((f"a weighted {of_what}", selected / weighted - 1))
        claims.append((f"a plain {of_what}", selected - 1))
    round_ = cost_of_a_round(X, proba)
    lines += [
        "",
        "A round of a linear student (SGD, 5 passes over soft labels), in seconds: fit "
        f"{round_['fit']:.2f}, predict the pool {round_['predict']:.2f}; besides, distill chooses "
        f"in {round_['distill']:.3f}, llkd in {round_['llkd']:.3f}.",
        "",
        f"Memory: {memory / n:.0f} bytes a row in a net.",
        "",
    ]
    for strategy in ("distill", "llkd"):
        claims.append((f"fitting in a round of {strategy}", round_[strategy] / round_["fit"]))
    for of_what, cost in claims:
        verdict = "pass" if cost <= 0.1 else "FAIL"
        lines.append(f"- {verdict}: selecting adds at most 10 % to {of_what}: {cost:.1%}")
    print("\n".join(lines))
    folder = output_folder(args)
    if folder is not None:
        (folder / "selection_cost.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
