"""Few labels and what an LLM knows: no key, no network.

Learning curves on the breast-cancer data with recorded scores
(:func:`skllmreg.datasets.load_attributions`), help-desk messages with a recorded teacher
(:func:`skllmreg.datasets.load_helpdesk`), and messages that a language model wrote from a few of
them (:func:`skllmreg.datasets.load_helpdesk_generation`).
"""

import argparse
import textwrap
import warnings

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skllmreg.attribution import LLMAttributionRegularizedClassifier
from skllmreg.datasets import load_attributions, load_helpdesk, load_helpdesk_generation
from skllmreg.demo import _distill, _generate
from skllmreg.exceptions import FewRowsForScaleWarning, OverconfidentWarning
from skllmreg.utils._progress import progress_bar

ROWS_PER_CLASS = (1, 5, 10, 30, 100)
SCORES_ALONE = "LLM's scores alone"

REAL_LLM = """\
With a real LLM in place of the recorded scores:

    from skllmreg import ChatModel, LLMAttributionRegularizedClassifier
    LLMAttributionRegularizedClassifier(
        llm=ChatModel("gpt-..."),  # or any OpenAI-compatible server: base_url="http://..."
        task="Predict whether a breast mass is malignant",
        feature_descriptions=descriptions,  # {"worst radius": "...", ...}
        class_descriptions={0: "malignant", 1: "benign"},
    )
"""


def few_shot_split(y, rows_per_class, rng):
    """Draw ``rows_per_class`` rows of each class for training; the rest is for testing."""
    train = np.concatenate(
        [rng.choice(np.flatnonzero(y == k), rows_per_class, replace=False) for k in np.unique(y)]
    )
    return train, np.setdiff1d(np.arange(len(y)), train)


def learning_curves(n_splits, tick):
    """Return {method: AUC of shape (len(ROWS_PER_CLASS), n_splits)}; tell `tick` of each split."""
    data = load_breast_cancer()
    X, y = data.data, data.target
    # Arrays, so that the demo needs no pandas. The recorded scores speak for malignant, target 0;
    # an array speaks for target 1, hence the sign.
    recorded = load_attributions("breast_cancer").to_estimates()[0]
    attributions = -np.array(
        [[estimate[name] for name in data.feature_names] for estimate in recorded]
    )
    models = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
        "paper's setting": make_pipeline(
            MinMaxScaler(),
            LLMAttributionRegularizedClassifier(
                attributions=attributions,
                gamma=200 / X.shape[1],
                score_transform="exp",
                standardize=False,
            ),
        ),
        "skllmreg (auto)": LLMAttributionRegularizedClassifier(attributions=attributions),
    }
    shape = (len(ROWS_PER_CLASS), n_splits)
    aucs = {name: np.empty(shape) for name in (SCORES_ALONE, *models)}
    for split in range(n_splits):
        rng = np.random.default_rng(split)
        for i, rows_per_class in enumerate(ROWS_PER_CLASS):
            train, test = few_shot_split(y, rows_per_class, rng)
            scaled = StandardScaler().fit(X[train]).transform(X[test])
            aucs[SCORES_ALONE][i, split] = roc_auc_score(
                y[test], scaled @ attributions.mean(axis=0)
            )
            for name, model in models.items():
                with warnings.catch_warnings():
                    # Two rows are few, and the paper's setting is too sure: that is shown here.
                    for category in (FewRowsForScaleWarning, OverconfidentWarning):
                        warnings.simplefilter("ignore", category)
                    model.fit(X[train], y[train])
                proba = model.predict_proba(X[test])
                aucs[name][i, split] = roc_auc_score(y[test], proba[:, 1])
        tick(1)
    return aucs


def table(aucs):
    """Lay out the mean and standard deviation over the splits as text."""
    lines = [f"{'rows per class':20}" + "".join(f"{k:>14}" for k in ROWS_PER_CLASS)]
    for name, auc in aucs.items():
        cells = (f"{row.mean():.3f} ± {row.std():.3f}" for row in auc)
        lines.append(f"{name:20}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def plot(aucs, path):
    """Draw the learning curves into a file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    styles = ("0.6", "--"), ("tab:blue", "-"), ("tab:orange", "-"), ("tab:red", "-")
    for (name, auc), (color, line) in zip(aucs.items(), styles, strict=True):
        axes.plot(ROWS_PER_CLASS, auc.mean(axis=1), line, color=color, marker="o", label=name)
    axes.set(
        xscale="log",
        xticks=ROWS_PER_CLASS,
        xticklabels=ROWS_PER_CLASS,
        xlabel="labeled rows per class",
        ylabel="ROC AUC on the other rows",
        title=f"Breast-cancer data, mean over {auc.shape[1]} splits",
    )
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(argv=None):
    """Print the table, write the figure, say how to use a real LLM."""
    parser = argparse.ArgumentParser(prog="skllmreg demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--splits", type=int, default=20, help="random splits (default: 20)")
    parser.add_argument("--output", default="skllmreg-demo.png", help="the figure's file")
    args = parser.parse_args(argv)

    with progress_bar(args.splits, None, "learning curves", unit="split") as tick:
        aucs = learning_curves(args.splits, tick)
    print(f"ROC AUC on the rows not used for training, mean ± sd over {args.splits} splits\n")
    print(table(aucs))
    print("\n" + textwrap.fill(load_attributions("breast_cancer").note, 88) + "\n")
    try:
        plot(aucs, args.output)
        print(f"Figure: {args.output}\n")
    except ImportError:
        print("No figure: matplotlib is not installed (pip install 'skllmreg[plot]').\n")
    n_splits = min(args.splits, 3)
    for part, load in (
        (_distill, load_helpdesk),
        (_generate, load_helpdesk_generation),
    ):
        with progress_bar(n_splits, None, "help desk", unit="split") as tick:
            found = part.accuracies(n_splits, tick)
        print(f"{part.HEAD}, mean over {n_splits} splits\n")
        print("\n".join(f"  {name:28} {value:.3f}" for name, value in found.items()))
        print("\n" + textwrap.fill(part.NOTE + load().DESCR, 88) + "\n")
    print(REAL_LLM)
    return 0
