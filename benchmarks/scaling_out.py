"""Volume: batch jobs under kills, a Dask cluster with one budget, and Parquet to a student.

Claims:

1. 50,000 prompts by batch jobs, of a process that is killed (SIGKILL) at 20 random points: every
   answer is collected once, and the bill is that of one run.
2. A Dask data frame with 10,000 rows, of which 30 % repeat others, labeled by two worker processes
   through `map_partitions`: exactly the distinct texts are sent, and a budget of just so many
   requests allows it, while one less ends it.
3. The example of docs/how_to/scaling_out.rst at a tenth of its size: Parquet, an LLM by batch jobs,
   a student, and its labels of all rows, in a process that does not wait for the jobs.

    python benchmarks/scaling_out.py [--quick] [--sections kills dask parquet]

The LLM is a server on the loopback whose answers are made up: what is measured is what is sent,
kept and paid, not how well it labels. In the third part it is right on about three of four of the
Emotion texts, as a real one was. Dask's data frames need pyarrow (extra `benchmark`).
"""

import hashlib
import json
import math
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))

import numpy as np
from _results import made_by, options, output_folder

from skllmreg import LLKDSelector, LLMTeacherClassifier
from skllmreg.exceptions import BatchPendingError, BudgetExceededError
from skllmreg.llm import ChatModel, _batch
from skllmreg.students import TextClassifier
from tests.batches import Batches
from tests.faults.batch_killing import is_exact, survive
from tests.loopback import Loopback, completion, last

TITLE = "# Volume: batch jobs under kills, a Dask cluster, Parquet to a student\n"
EMOTIONS = {
    "anger": "is angry",
    "fear": "is afraid or anxious",
    "joy": "is happy",
    "love": "is fond of somebody, or longs",
    "sadness": "is sad",
    "surprise": "is surprised",
}


def measure_kills(folder, args):
    """50,000 prompts, killed at 20 random points."""
    sizes = (2_000, 8, 5) if args.quick else (50_000, 40, 20)
    for seed in range(1):
        row = survive(*sizes, seed, folder)
        yield f"seed {seed}", {"exact": is_exact(row)} | row


def by_logprobs(label, sure=0.9):
    token = {"token": label, "logprob": math.log(sure)}
    return completion(label, logprobs={"content": [{**token, "top_logprobs": [token]}]})


def message(body):
    """The text that a request is about: the last quoted part of its prompt."""
    return last(body).rpartition("<<<\n")[2].partition("\n>>>")[0]


def label_part(part, teacher):
    """What each worker does with a partition."""
    return part.assign(label=teacher.predict(part["text"]))


def measure_dask(folder, args):
    """10,000 rows with 30 % repeats, two workers."""
    import dask.dataframe as dd
    import pandas as pd
    from distributed import Client, LocalCluster

    n = 1_000 if args.quick else 10_000
    rng = np.random.default_rng(0)
    different = [f"{what} number {i}" for i in range(7 * n // 20) for what in ("Parcel", "Refund")]
    texts = np.array([*different, *rng.choice(different, n - len(different))])
    frame = pd.DataFrame({"text": rng.permutation(texts)})
    loopback = Loopback()
    loopback.reply = lambda body: by_logprobs("parcel" if "Parcel" in message(body) else "refund")
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster),
    ):
        for less in (0, 1):
            loopback.seen.clear()
            llm = ChatModel(
                "tiny",
                base_url=loopback.base_url,
                cache=folder / f"answers{less}.sqlite3",
                request_budget=len(different) - less,
                prices=(1.0, 2.0),
            )
            teacher = LLMTeacherClassifier(
                llm, task="Sort messages.", class_descriptions={"parcel": "p", "refund": "r"}
            )
            start = time.perf_counter()
            parts = dd.from_pandas(frame, npartitions=16).map_partitions(
                label_part, teacher, meta=frame.assign(label="")
            )
            try:
                labels = parts.compute()["label"]
            except BudgetExceededError:
                ended, right = "BudgetExceededError", "-"
            else:
                ended = "labeled"
                truth = frame["text"].str.split().str[0].str.lower()
                right = bool((labels.to_numpy() == truth.to_numpy()).all())
            sent = [message(body) for body in loopback.requests]
            yield (
                f"budget of {len(different) - less:,} requests",
                {
                    "rows": n,
                    "different": len(different),
                    "sent": len(sent),
                    "sent twice": len(sent) - len(set(sent)),
                    "ledger": sum(usage.requests for usage in llm.usage(this_run=True)),
                    "ended": ended,
                    "right": right,
                    "seconds": time.perf_counter() - start,
                },
            )
    loopback.close()


def read_emotion(folder, name):
    path = Path(folder) / "text" / "emotion" / f"{name}.txt"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: --data names the folder of text/emotion/.")
    lines = path.read_text("utf-8").splitlines()
    pairs = [line.rpartition(";") for line in lines if line.rpartition(";")[2] in EMOTIONS]
    return [text for text, _, _ in pairs], np.array([label for _, _, label in pairs])


def noisy(truth):
    """Answer with the label that a text has, or in a quarter of the texts with another."""

    def reply(body):
        text = " ".join(message(body).split())
        number = int(hashlib.sha256(text.encode()).hexdigest(), 16)
        labels = sorted(EMOTIONS)
        right = labels.index(truth[text])
        wrong = number % 4 == 0
        return by_logprobs(labels[(right + 1 + number // 4 % 5) % 6 if wrong else right], 0.75)

    return reply


def measure_parquet(folder, args):
    """18,000 texts in Parquet, 2,000 of them labeled by an LLM."""
    import dask.dataframe as dd
    import pandas as pd

    texts, labels = read_emotion(args.data, "train")
    more, more_labels = read_emotion(args.data, "val")
    texts, labels = [*texts, *more], np.concatenate([labels, more_labels])
    n_calls = 2_000
    if args.quick:
        texts, labels, n_calls = texts[:2_000], labels[:2_000], 300
    table = folder / "messages.parquet"
    dd.from_pandas(pd.DataFrame({"text": texts}), npartitions=8).to_parquet(
        table, write_index=False
    )

    loopback = Loopback()
    words = [" ".join(text.split()) for text in texts]
    loopback.reply = noisy(dict(zip(words, labels.tolist(), strict=True)))
    batches = Batches(loopback)
    batches.looks, _batch.FIRST_POLL = 1, 0.05
    # From here on it is the code of the guide.
    llm = ChatModel(
        "tiny",
        base_url=loopback.base_url,
        cache=folder / "answers.sqlite3",
        delivery="batch",
        batch_wait=False,
        prices=(0.4, 1.6),
        cost_budget=5.0,
    )
    task = "Tell which emotion a message is about."
    teacher = LLMTeacherClassifier(llm, task=task, class_descriptions=EMOTIONS)
    student = TextClassifier()
    start, n_runs, selector = time.perf_counter(), 0, None
    while selector is None:
        n_runs += 1  # of the same script
        pool = pd.read_parquet(table)["text"]
        try:
            selector = LLKDSelector(
                student, teacher=teacher, max_teacher_calls=n_calls, random_state=0
            ).fit(pool)
        except BatchPendingError:
            continue
    seconds = time.perf_counter() - start
    labeled = folder / "labeled.parquet"
    rows = dd.read_parquet(table)
    meta = pool.to_frame().assign(label="").iloc[:0]
    rows = rows.map_partitions(label_part, selector, meta=meta)
    rows.to_parquet(labeled, write_index=False)
    written = pd.read_parquet(labeled)
    test_texts, test_labels = read_emotion(args.data, "test")
    ((cost, requests),) = [(usage.cost, usage.requests) for usage in llm.usage(this_run=True)]
    asked = ~np.isnan(selector.teacher_proba_[:, 0])
    said = selector.classes_[np.nan_to_num(selector.teacher_proba_[asked]).argmax(axis=1)]
    truth = np.array([dict(zip(texts, labels.tolist(), strict=True))[text] for text in pool])
    full = TextClassifier().fit(list(pool), truth)
    yield (
        "Emotion",
        {
            "rows": len(pool),
            "rows labeled by the LLM": int(asked.sum()),
            "requests": requests,
            "jobs": batches.n_created,
            "runs of the script": n_runs,
            "dollars": cost,
            "accuracy of the LLM": float(np.mean(said == truth[asked])),
            "of the student, test": selector.score(test_texts, test_labels),
            "of a student of all true labels, test": full.score(test_texts, test_labels),
            "rows written": len(written),
            "without a label": int(written["label"].isna().sum()),
            "seconds to fit": seconds,
        },
    )
    loopback.close()


SECTIONS = {"kills": measure_kills, "dask": measure_dask, "parquet": measure_parquet}


def tables(results):
    text = ""
    for section, rows in results.items():
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        text += f"\n## {SECTIONS[section].__doc__.strip()}\n\n| | {' | '.join(rows)} |\n"
        text += "|---" * (len(rows) + 1) + "|\n"
        for name in names:
            text += f"| {name} | {' | '.join(shown(row.get(name)) for row in rows.values())} |\n"
    return text


def shown(value):
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def main():
    parser = options(__doc__, "small numbers")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    args = parser.parse_args()
    folder = output_folder(args)
    kept = folder / "scaling_out.json" if folder else None
    results = json.loads(kept.read_text())["results"] if kept and kept.exists() else {}
    for section in args.sections:
        try:
            with tempfile.TemporaryDirectory() as name:
                results[section] = dict(SECTIONS[section](Path(name), args))
        except (FileNotFoundError, ImportError) as error:
            if not args.quick:
                raise
            print(f"Not run. {error}")  # the quick benchmarks run wherever the code was cloned
            continue
        print(tables({section: results[section]}), flush=True)
        if folder:
            write(kept, results)


def write(path, results):
    made = made_by("openai", "dask", "pandas", "pyarrow")
    rest = ", ".join(f"{key} {value}" for key, value in made.items() if key != "command")
    path.write_text(json.dumps({"made_by": made, "results": results}, indent=1) + "\n")
    text = f"{TITLE}\nMade by `{made['command']}` ({rest}).\n{tables(results)}"
    path.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
