"""Inputs with targets from a simulated writer: what do written pairs, checks and energies bring?

Dates in five formats are to be written as ISO dates. The student is a T5 of 0.2 million weights
from a configuration, on characters, trained from scratch. A writer that knows the task stands in
for an LLM: this measures the loop, the checks and the student, not what a language model knows.

Claims (checked at the end):

1. From 20 labeled pairs alone the student gets at most a tenth of the test dates right; with
   written pairs at least nine tenths, within three minutes of one core.
2. Where a fifth of the targets is wrong, `validate` refuses at least 95 % of those that it can
   check, and `answer_check` at least 95 % of all.
3. Energy tells unfamiliar inputs from others: AUC of at least .9.

    python benchmarks/generation_seq2seq.py [--seeds 3] [--quick] [--output benchmarks/results]
"""

import datetime
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _results import made_by, options, output_folder
from sklearn.metrics import roc_auc_score
from transformers import T5Config

from skllmreg import GOLDSeq2SeqAugmenter
from skllmreg.augmentation import matches
from skllmreg.students import Seq2SeqTransformer

FORMATS = ("%d %B %Y", "%B %d, %Y", "%d.%m.%Y", "%m/%d/%y", "%a %d %b %Y")
N_LABELED, N_WRITTEN, N_TEST = 20, 2000, 300
WRONG = 0.2
ISO = matches(r"\d{4}-\d{2}-\d{2}")


def pair(rng):
    day = datetime.date(1970, 1, 1) + datetime.timedelta(int(rng.integers(18_000)))
    return day.strftime(FORMATS[rng.integers(len(FORMATS))]), day.isoformat()


def truth(text):
    for form in FORMATS:
        try:
            day = datetime.datetime.strptime(text, form).date()
        except ValueError:
            continue
        return day.replace(year=day.year - 100 * (day.year > 2019)).isoformat()
    return ""


def spoiled(target, rng):
    """A wrong target: of another form, which can be checked, or another day, which cannot."""
    if rng.random() < 0.5:
        return target.replace("-", "/")
    return (datetime.date.fromisoformat(target) + datetime.timedelta(1)).isoformat()


class Writer:
    """Writes pairs, a share of them with wrong targets, and remembers those."""

    def __init__(self, wrong=0.0):
        self.wrong, self.spoiled = wrong, {}

    def __call__(self, request):
        rng = np.random.default_rng(request.random_state)
        rows = []
        for _ in range(request.n_rows):
            text, target = pair(rng)
            if rng.random() < self.wrong:
                target = self.spoiled[text] = spoiled(target, rng)
            rows.append({"input": text, "target": target})
        return rows


def student(quick):
    config = T5Config(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0)
    return Seq2SeqTransformer(
        config, max_target=12, max_epochs=2 if quick else 12, batch_size=8, lr=3e-3, device="cpu"
    )


def grow(seed, X, y, *, quick, n=N_WRITTEN, wrong=0.0, **params):
    writer = Writer(wrong)
    model = GOLDSeq2SeqAugmenter(
        params.pop("estimator", student(quick)),
        generator=writer,
        n_samples=n,
        n_batches=25,
        random_state=seed,
        **params,
    )
    return model.fit(X, y), writer


def run(seed, quick):
    rng = np.random.default_rng(seed)
    X, y = map(list, zip(*(pair(rng) for _ in range(N_LABELED)), strict=True))
    X_test, y_test = map(list, zip(*(pair(rng) for _ in range(N_TEST)), strict=True))
    alone = student(quick).set_params(max_epochs=60, random_state=seed).fit(X, y)
    start = time.process_time()
    model, _ = grow(seed, X, y, quick=quick, n=200 if quick else N_WRITTEN)
    seconds = time.process_time() - start
    record = {
        "seed": seed,
        "seeds alone": alone.score(X_test, y_test),
        "with written pairs": model.score(X_test, y_test),
        "seconds of one core": seconds,
    }
    strange = ["".join(rng.permutation(list(text))) for text in X_test]
    energy = np.append(model.energy(X_test, y_test), model.energy(strange, y_test))
    record["AUC of unfamiliar inputs"] = roc_auc_score(np.repeat([0, 1], N_TEST), energy)
    shifted = [spoiled(target, rng) for target in y_test]
    energy = np.append(model.energy(X_test, y_test), model.energy(X_test, shifted))
    record["AUC of wrong targets"] = roc_auc_score(np.repeat([0, 1], N_TEST), energy)
    # Checks cost no student: the nearest target stands in for it.
    for name, checks in (
        ("validate", {"validate": ISO}),
        ("answer_check", {"answer_check": lambda inputs: [truth(x) for x in inputs]}),
    ):
        checked, writer = grow(seed, X, y, quick=quick, wrong=WRONG, estimator=None, **checks)
        kept = dict(zip(checked.X_generated_, checked.y_generated_, strict=True))
        wrong = {
            text: target
            for text, target in writer.spoiled.items()
            if name != "validate" or "/" in target
        }
        passed = [kept.get(text) == target for text, target in wrong.items()]
        record[f"wrong refused by {name}"] = 1 - float(np.mean(passed))
        right = [kept[text] == truth(text) for text in kept]
        record[f"right among those kept by {name}"] = float(np.mean(right))
    return record


CLAIMS = (
    ("seeds alone", "at most 0.1", lambda values: max(values) <= 0.1),
    ("with written pairs", "at least 0.9", lambda values: min(values) >= 0.9),
    ("seconds of one core", "under 180", lambda values: max(values) < 180),
    ("wrong refused by validate", "at least 0.95", lambda values: min(values) >= 0.95),
    ("wrong refused by answer_check", "at least 0.95", lambda values: min(values) >= 0.95),
    ("AUC of unfamiliar inputs", "at least 0.9", lambda values: min(values) >= 0.9),
)


def table(records):
    claims = {name: (bound, holds) for name, bound, holds in CLAIMS}
    lines = ["| figure | mean | least to most | claim |", "|---|---|---|---|"]
    for name in (name for name in records[0] if name != "seed"):
        values = [record[name] for record in records]
        claim = ""
        if name in claims:
            bound, holds = claims[name]
            claim = f"{bound}: {'yes' if holds(values) else '**no**'}"
        span = f"{min(values):.3g} to {max(values):.3g}"
        lines.append(f"| {name} | {np.mean(values):.3g} | {span} | {claim} |")
    return "\n".join(lines)


def main():
    parser = options(__doc__, "one seed, few pairs, two epochs")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    folder = output_folder(args)
    records = [run(seed, args.quick) for seed in range(1 if args.quick else args.seeds)]
    made = made_by("transformers", "torch")
    text = (
        "# Sequence to sequence: dates to ISO dates, written by a simulation\n\n"
        f"{N_LABELED} labeled pairs, {N_WRITTEN} written ones, {N_TEST} test pairs, "
        f"{len(records)} seeds. Made by `{made['command']}` "
        f"({', '.join(f'{k} {v}' for k, v in made.items() if k != 'command')}).\n\n"
        f"{table(records)}\n"
    )
    print(text)
    if folder is not None:
        (folder / "generation_seq2seq.md").write_text(text)
        content = {"made_by": made, "records": records}
        (folder / "generation_seq2seq.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
