"""Recorded rows, text/<name>/generated.jsonl: what they bring, curated or not."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from _generation_data import read_texts, text_path, text_student
from _simulated_llm import Pool, SimulatedLLM, key_of
from sklearn.model_selection import train_test_split

from skllmreg import GOLDAugmenter
from skllmreg.augmentation import GenerationRequest, energy_score

BAND = (0.5, 0.75)
# Of trec, after rounds 2, 3 and 4, by those who made the recording.
PUBLISHED = {
    "none": (0.613, 0.629, 0.639),
    "random": (0.609, 0.630, 0.644),
    "gold": (0.638, 0.652, 0.654),
}


class Recorded:
    """Rows that a real model wrote: of a (replicate, arm) [(text, label, round)], in order."""

    def __init__(self, folder, name):
        path = text_path(folder, name).parent
        lines = (path / "generated.jsonl").read_text(encoding="utf-8").splitlines()
        seeds = json.loads((path / "generated_seeds.json").read_text(encoding="utf-8"))
        self.seeds = {int(r): [(t, k) for k in s for t in s[k]] for r, s in seeds.items()}
        rows = [json.loads(line) for line in lines if line]
        self.texts = [row["text"] for row in rows]
        self.arms = list(dict.fromkeys(row["arm"] for row in rows if row["arm"] != "shared"))
        self.n_rounds = max(row["round"] for row in rows)
        self.runs = defaultdict(list)
        for row in rows:
            for arm in self.arms if row["arm"] == "shared" else [row["arm"]]:
                entry = row["text"], row["label"], row["round"]
                self.runs[int(row["replicate"]), arm].append(entry)
        for run in self.runs.values():
            run.sort(key=lambda entry: entry[2])
        self.train = read_texts(text_path(folder, name))
        self.test = read_texts(text_path(folder, name, "test"))


def names_of(folder):
    """Text sets with recorded rows."""
    return sorted(path.parent.name for path in Path(folder).glob("text/*/generated.jsonl"))


def measure(folder, name):
    """Everything that the report says about recorded rows, and the simulator beside them."""
    data = Recorded(folder, name)
    train, test = ({key_of(t) for t, _ in rows} for rows in (data.train, data.test))
    keys = [key_of(t) for t in data.texts]
    return {
        "published": PUBLISHED if name == "trec" else {},
        "rows": len(keys),
        "in train or test": sum(key in train | test for key in keys),
        "in test": sum(key in test for key in keys),
        "labels wrong of these": wrong_labels(data),
        "arms": {arm: mean([arm_of(data, r, arm) for r in data.seeds]) for arm in data.arms},
        "curated": [curate(data, r, arm) for arm in data.arms for r in sorted(data.seeds)],
        "energy": [energies(data, r) for r in sorted(data.seeds)],
        "real rows": real_rows(data),
        "simulator": simulate(data),
    }


def mean(entries):
    return {key: np.mean([e[key] for e in entries], axis=0).tolist() for key in entries[0]}


def fitted(rows):
    return text_student().fit(*zip(*rows, strict=True))


def score(rows, on):
    return fitted(rows).score(*zip(*on, strict=True))


def arm_of(data, replicate, arm):
    """Accuracy and repeats after each round; seeds alone come first."""
    run, seen, repeats = data.runs[replicate, arm], set(), []
    models = []
    for number in range(data.n_rounds + 1):
        rows = data.seeds[replicate] + [(t, k) for t, k, n in run if n <= number]
        models.append(fitted(rows))
        keys = [key_of(t) for t, _, n in run if n == number]
        repeats += [key in seen or seen.add(key) is not None for key in keys]
    at = np.array([n for _, _, n in run])
    pool, test = (list(zip(*rows, strict=True)) for rows in (data.train, data.test))
    return {
        "accuracy": [model.score(*pool) for model in models],
        "accuracy on test": models[-1].score(*test),
        "repeats by round": [np.mean(np.array(repeats)[at == n]) for n in np.unique(at)],
        "repeats": np.mean(repeats),
    }


def wrong_labels(data):
    """Of the rows that are in the data set word for word, how many have another label there."""
    truth = {key_of(t): k for t, k in data.train + data.test}
    shared = {(key_of(t), k) for run in data.runs.values() for t, k, _ in run}
    return sum(truth.get(key, k) != k for key, k in shared)


def curate(data, replicate, arm):
    """Have the recorded rows curated by GOLDAugmenter, all of a class in one request."""
    run = data.runs[replicate, arm]
    X, y = zip(*data.seeds[replicate], strict=True)
    by_label = defaultdict(list)
    for text, label, _ in run:
        by_label[label].append(text)
    model = GOLDAugmenter(
        text_student(),
        generator=lambda request: by_label[request.label],
        strategy="no-feedback",
        n_rounds=1,
        n_batches=len(by_label),
        n_novel_batches=0,
        batch_size=max(map(len, by_label.values())),
        random_state=0,
    ).fit(list(X), list(y))
    written = [(t, k) for t, k, _ in run]
    kept = list(zip(model.X_generated_, model.y_generated_, strict=True))
    test = {key_of(t) for t, _ in data.test}
    train = {key_of(t) for t, _ in data.train}
    clean = [(t, k) for t, k in data.train if key_of(t) not in {key_of(r) for r, _ in written}]
    seeds = data.seeds[replicate]
    reasons = Counter(one.reason for one in model.rejected_)
    return {
        "arm": arm,
        "replicate": replicate,
        "written": len(written),
        "repeats": len(written) - len({key_of(t) for t, _ in written}),
        "kept": len(kept),
        "repeats kept": len(kept) - len({key_of(t) for t, _ in kept}),
        "refused": dict(reasons),
        "all": score(seeds + written, data.train),
        "curated": score(seeds + kept, data.train),
        "all, on rows not written": score(seeds + written, clean),
        "curated, on rows not written": score(seeds + kept, clean),
        "match test": sum(key_of(t) in test for t, _ in written),
        "match train": sum(key_of(t) in train for t, _ in written),
    }


def energies(data, replicate):
    """The band of each round of the gold arm, and whether its rows drew the next round to them.

    The recording does not say which rows were shown. If they had an effect, rows of the next round
    are more alike (cosine of TF-IDF) to those inside the band than to the others of the class,
    and more so than in the arms whose feedback was random or none.
    """
    words = text_student()[0].fit([t for t, _ in data.train] + data.texts)
    excess, limits, inside, error = {}, {}, 0, 0.0
    for arm in data.arms:
        run, values = data.runs[replicate, arm], []
        for number in range(1, data.n_rounds):
            known = data.seeds[replicate] + [(t, k) for t, k, n in run if n < number]
            model = fitted(known)
            now = [(t, k) for t, k, n in run if n == number]
            after = [(t, k) for t, k, n in run if n == number + 1]
            logits = model.decision_function([t for t, _ in now])
            energy = energy_score(logits)
            error = max(error, np.abs(energy + np.log(np.exp(logits).sum(axis=1))).max())
            alike = words.transform(t for t, _ in after) @ words.transform(t for t, _ in now).T
            alike = alike.toarray()
            alike[alike > 0.999] = 0  # repeats say nothing of feedback
            label, next_label = (np.array([k for _, k in rows]) for rows in (now, after))
            for k in np.unique(label):
                own = label == k
                low, high = np.quantile(energy[own], BAND)
                near = alike[np.ix_(next_label == k, own)].mean(axis=0)
                band = (energy[own] >= low) & (energy[own] <= high)
                values.append(near[band].mean() - near[~band].mean())
                if arm == "gold":
                    limits.setdefault(number, []).append((low, high))
                    inside += band.sum()
        excess[arm] = (np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values)))
    return {
        "replicate": replicate,
        "difference to the formula": error,
        "mean band by round": {n: np.mean(pairs, axis=0).tolist() for n, pairs in limits.items()},
        "rows in the band": int(inside),
        "likeness of the next round, band less rest": excess,
    }


def real_rows(data, n_draws=8):
    """Accuracy of as many real rows: the same number of each class, and as they come."""
    X, y = (np.array(values, dtype=object) for values in zip(*data.train, strict=True))
    run = data.runs[min(data.seeds), "none"]
    each = Counter(k for _, k, _ in run)
    found = {"balanced": [], "as they come": []}
    for seed in range(n_draws):
        order = np.random.default_rng(seed).permutation(len(y))
        balanced = np.concatenate([order[y[order] == k][:n] for k, n in each.items()])
        for name, chosen in (("balanced", balanced), ("as they come", order[: len(run)])):
            rest = np.setdiff1d(order, chosen)
            found[name].append(text_student().fit(X[chosen], y[chosen]).score(X[rest], y[rest]))
    return {name: (np.mean(v), np.std(v, ddof=1)) for name, v in found.items()}


def simulate(data, n_seeds=8):
    """The protocol of the recording without feedback, written by the simulated LLM.

    Its pool is 70 % of the questions; the rest tests it, and the recorded rows too.
    """
    unique = list({key_of(t): (t, k) for t, k in data.train}.values())
    accuracy, repeats, recorded = [], [], []
    for seed in range(n_seeds):
        hidden, rest = train_test_split(
            unique, train_size=0.7, stratify=[k for _, k in unique], random_state=seed % 4
        )
        texts, labels = zip(*rest, strict=True)
        llm = SimulatedLLM(Pool(*zip(*hidden, strict=True)), public=texts, public_labels=labels)
        replicate = sorted(data.seeds)[seed % len(data.seeds)]
        rows, seen = list(data.seeds[replicate]), set()
        rng = np.random.default_rng(seed)
        for number in range(data.n_rounds):
            new = []
            for label in dict.fromkeys(k for _, k in data.seeds[replicate]):
                request = GenerationRequest(
                    label=label, n_rows=12, round=number, random_state=int(rng.integers(2**31))
                )
                new += [(text, label) for text in llm(request)]
            repeats.append(np.mean([key_of(t) in seen for t, _ in new]))
            seen |= {key_of(t) for t, _ in new}
            rows += new
            accuracy.append(score(rows, rest))
            run = data.runs[replicate, "none"]
            known = data.seeds[replicate] + [(t, k) for t, k, n in run if n <= number + 1]
            recorded.append(score(known, rest))
    accuracy, recorded, repeats = (
        np.reshape(values, (n_seeds, data.n_rounds)) for values in (accuracy, recorded, repeats)
    )
    return {
        "accuracy": accuracy.mean(axis=0).tolist(),
        "standard error": (accuracy.std(axis=0, ddof=1) / np.sqrt(n_seeds)).tolist(),
        "recorded, on the same rows": recorded.mean(axis=0).tolist(),
        "repeats by round": repeats.mean(axis=0).tolist(),
        "repeats": repeats.mean(),
    }
