"""Few labeled rows and an LLM's scores: ours against its parents and against its peers.

Seven data sets, k in {1, 5, 10, 30, 100, 300} labeled rows per class, 20 paired splits: every
model sees the same training rows, and the same test rows (at most 3,000). Each k averages over the
data sets that keep at least 10 test rows of each class. The output ends with checks of the claims.

    python benchmarks/attribution_fewshot.py [--data ../shared/data] [--quick] [--jobs 2]
        [--datasets NAME ...] [--models NAME ...] [--splits 20] [--resume] [--again MODEL ...]
        [--output benchmarks/results] [--figure FILE]

Any folder in the layout of `_data.py` will do. What is measured goes into
`attribution_fewshot.jsonl` as soon as one model is through with one data set and size, so that an
interrupted run can be resumed (`--resume`, or `--again` to measure some models afresh). `--quick`
is for continuous integration: two data sets, three splits, few models, no files unless `--output`
is given.
"""

import json
import os
import sys
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per fit, so that times compare

from _competitors import MODELS, NOT_RUN, QUICK, Cell, why_not
from _data import load_all
from _fewshot_report import METRICS, Results, checks, csv, figure, markdown
from _results import made_by, options, output_folder, save
from joblib import Parallel, delayed
from sklearn.metrics import log_loss, roc_auc_score

NAME = "attribution_fewshot"
N_SPLITS = 20  # seeds 0 to 19
QUICK_ROWS_PER_CLASS = (1, 10, 100)


def measure(dataset, k, name, n_splits):
    """One model on one data set with k rows per class: a value per split."""
    warnings.simplefilter("ignore")  # a wrong LLM warns, a perfect separation does not converge
    record = {"dataset": dataset.name, "k": k, "model": name}
    record |= {"auc": [], "log_loss": [], "fit_seconds": []}
    for seed in range(n_splits):
        train, test = dataset.split(k, seed)
        X_train, X_test = dataset.imputed(train, test)
        model = MODELS[name].make(Cell(dataset.estimates, k, seed))
        start = time.process_time()  # other work on the machine does not count
        model.fit(X_train, dataset.y[train])
        seconds = time.process_time() - start
        proba = model.predict_proba(X_test)[:, 1] if hasattr(model, "predict_proba") else None
        # Logits where there are any: probabilities that round to 1 are tied.
        score = model.decision_function(X_test) if hasattr(model, "decision_function") else proba
        record["auc"].append(round(roc_auc_score(dataset.y[test], score), 5))
        if proba is not None:
            record["log_loss"].append(round(log_loss(dataset.y[test], proba), 5))
        record["fit_seconds"].append(round(seconds, 5))
    return record


def read_store(store, n_splits, again):
    """Records of an earlier run, but for the models that are to be measured again."""
    lines = store.read_text().splitlines() if store is not None and store.exists() else []
    records = [json.loads(line) for line in lines]
    return [r for r in records if r["model"] not in again and len(r["auc"]) == n_splits]


def run(wanted, n_splits, jobs, store, earlier):
    """Measure (model, data set, k) that are wanted and not there; store each when it is done."""
    done = {(r["model"], r["dataset"], r["k"]): r for r in earlier}
    if store is not None:
        store.write_text("".join(json.dumps(record) + "\n" for record in earlier))
    start, last = time.perf_counter(), None
    results = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(measure)(dataset, k, name, n_splits)
        for name, dataset, k in wanted
        if (name, dataset.name, k) not in done
    )
    for record in results:
        done[record["model"], record["dataset"], record["k"]] = record
        if store is not None:
            with store.open("a") as file:
                file.write(json.dumps(record) + "\n")
        if last not in (None, record["model"]):
            print(f"{time.perf_counter() - start:6.0f} s  {last}", file=sys.stderr, flush=True)
        last = record["model"]
    return [done[name, dataset.name, k] for name, dataset, k in wanted]


def main():
    parser = options(__doc__, "two data sets, few models")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--datasets", nargs="+", metavar="NAME")
    parser.add_argument("--models", nargs="+", choices=MODELS, metavar="MODEL")
    parser.add_argument("--resume", action="store_true", help="keep what is stored already")
    parser.add_argument(
        "--again", nargs="+", choices=MODELS, metavar="MODEL", help="resume, but not for these"
    )
    parser.add_argument("--splits", type=int)
    parser.add_argument("--figure", metavar="FILE", help="draw the mean over data sets alone")
    args = parser.parse_args()
    n_splits = args.splits or (3 if args.quick else N_SPLITS)
    datasets = load_all(args.data, args.datasets, smallest=2 if args.quick else None)
    names = list(args.models or (QUICK if args.quick else MODELS))
    not_run = {} if args.quick else dict(NOT_RUN)
    for name in list(names):
        if reason := why_not(MODELS[name]):
            not_run[MODELS[name].label] = reason
            names.remove(name)

    folder = output_folder(args)
    store = None if folder is None else folder / f"{NAME}.jsonl"
    resume = args.resume or args.again
    earlier = read_store(store, n_splits, args.again or ()) if resume else []
    wanted = [
        (name, dataset, k)
        for name in names
        for dataset in datasets
        for k in dataset.rows_per_class()
        if k >= MODELS[name].from_rows_per_class and (not args.quick or k in QUICK_ROWS_PER_CLASS)
    ]
    results = Results(run(wanted, n_splits, args.jobs, store, earlier), names)

    made = made_by("torch", "xgboost-cpu", "lightgbm", "catboost")
    text = markdown(results, datasets, not_run, made) + "\n" + checks(results)
    print(text)
    averaged = {str(k): results.datasets(k) for k in results.sizes}
    numbers = {"not_run": not_run, "averaged_over": averaged, "models": results.summary()}
    save(folder, NAME, text, made, numbers)
    if folder is not None:
        figure(results, folder / f"{NAME}.png")
        for metric in METRICS:
            (folder / f"{NAME}_{metric}.csv").write_text(csv(results, metric))
    if args.figure:
        figure(results, args.figure, panels=False)


if __name__ == "__main__":
    main()
