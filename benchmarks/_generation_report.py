"""Tables, claims and figure of the generation benchmark."""

import json
from collections import defaultdict

import numpy as np
from scipy.stats import t as student_t

CAUTION = (
    "Everything but the recorded rows is simulated: the LLM hands out rows of a hidden part of the "
    "data. What a real model gains from feedback is only seen in the recorded rows, of one data "
    "set and two replicates; it knows that set, as the matches show."
)
OTHERS = ("no-feedback", "random-feedback")


def interval(values):
    """Mean and half the width of its 95 % interval."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return values.mean(), np.inf
    half = student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean(), half


def points(values):
    """Hundredths: mean ± half of the 95 % interval; marked where gold loses."""
    mean, half = interval(100 * np.asarray(values))
    mark = " ▽" if mean + half < 0 else " ▿" if mean < -0.05 else ""
    return f"{mean:+.1f} ± {half:.1f}{mark}"


def of(records, part, **where):
    return [r for r in records if r["part"] == part and all(r[k] == v for k, v in where.items())]


def value(arms, arm, what, rows):
    return (arms[arm] if rows == "requests" else arms[arm]["equal rows"])[what]


def by_unit(records, measure):
    """Mean of a measure over the settings, for each set and seed."""
    units = defaultdict(list)
    for r in records:
        units[r["set"], r["seed"]].append(measure(r["arms"]))
    return [np.mean(values) for values in units.values()]


def gain(other, what="accuracy", rows="requests"):
    """Return what measures gold less another strategy."""
    return lambda arms: value(arms, "gold", what, rows) - value(arms, other, what, rows)


def saved(strategy, what):
    """Return what measures a strategy less the same rows without curation."""
    return lambda arms: arms[strategy][what] - arms[strategy]["not curated"][what]


def levels(records, name):
    return sorted({r[name] for r in of(records, "arms")})


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows), ""]


def report(records, real, verdicts, made):
    rest = ", ".join(f"{key} {text}" for key, text in made.items() if key != "command")
    lines = ["# Rows that an LLM writes", "", CAUTION, "", f"Made by `{made['command']}` ({rest})."]
    for name, found in real.items():
        lines += recorded_section(name, found)
    if records:
        lines += feedback_section(records) + curation_section(records)
        lines += duplicates_section(records) + labels_section(records) + floor_section(records)
    lines += ["", "## Claims", ""]
    lines += [f"- {'pass' if ok else 'FAIL'}: {text}: {found}" for text, found, ok in verdicts]
    return "\n".join(lines) + "\n"


def recorded_section(name, real):
    lines = ["", f"## Recorded rows of a real model: {name}", ""]
    lines += [
        f"{real['rows']} rows, of which {real['in train or test']} are questions of the data set "
        f"({real['in test']} of its test part), {real['labels wrong of these']} of these with "
        "another label there. Mean of the replicates; accuracy on the training questions after "
        "each round (published after rounds 2 to 4 in brackets), on the test questions at the end.",
        "",
    ]
    rows = []
    rounds = [f"round {n}" for n in range(1, len(real["simulator"]["accuracy"]) + 1)]
    for arm, found in real["arms"].items():
        published = (None, None, *real["published"].get(arm, [None] * len(rounds)))
        cells = [
            f"{a:.3f}" + (f" ({p:.3f})" if p else "")
            for a, p in zip(found["accuracy"], published, strict=False)
        ]
        repeats = ", ".join(f"{share:.0%}" for share in found["repeats by round"])
        rows.append(
            [arm, *cells, f"{found['accuracy on test']:.3f}", repeats, f"{found['repeats']:.1%}"]
        )
    header = ["feedback", "seeds", *rounds, "test part", "repeats by round", "in all"]
    lines += table(header, rows)
    as_many = ", ".join(f"{n} {m:.3f} (sd {s:.3f})" for n, (m, s) in real["real rows"].items())
    lines += [f"As many real rows instead: {as_many}.", ""]
    simulated = real["simulator"]
    lines += ["The simulated LLM at its defaults, without feedback, 12 rows of each class a round:"]
    rows = [
        [name, *(f"{a:.3f}" for a in simulated[key]), *extra]
        for name, key, extra in (
            ("simulated", "accuracy", [f"{simulated['repeats']:.1%}"]),
            ("recorded, on the same held-out rows", "recorded, on the same rows", [""]),
            ("standard error of the first", "standard error", [""]),
        )
    ]
    lines += ["", *table(["rows", *rounds, "repeats"], rows)]
    lines += ["Curated by `GOLDAugmenter`, all rows of a class in one request:", ""]
    rows = [
        [c["arm"], c["replicate"], c["written"], c["repeats"], c["kept"], c["repeats kept"]]
        + [f"{c['all']:.4f}", f"{c['curated']:.4f}", f"{c['curated'] - c['all']:+.4f}"]
        + [f"{c['curated, on rows not written'] - c['all, on rows not written']:+.4f}"]
        + [c["match test"]]
        for c in real["curated"]
    ]
    header = ["feedback", "replicate", "written", "repeats", "kept", "repeats kept", "all rows"]
    header += ["curated", "difference", "on rows not written", "match test"]
    return lines + table(header, rows) + energy_lines(real)


def energy_lines(real):
    lines = [
        "`energy_score` of each round's rows by the student of the rounds before; the band is "
        "50–75 % of a class. Likeness: mean cosine of the next round's rows to the rows in the "
        "band, less that to the others of the class (± standard error). The recording does not "
        "say which rows were shown; only a likeness in the gold arm that the others lack would.",
        "",
    ]
    for e in real["energy"]:
        bands = "; ".join(
            f"round {n} {low:.2f} to {high:.2f}"
            for n, (low, high) in e["mean band by round"].items()
        )
        likeness = ", ".join(
            f"{arm} {m:+.4f} ± {s:.4f}"
            for arm, (m, s) in e["likeness of the next round, band less rest"].items()
        )
        lines += [
            f"- replicate {e['replicate']}: band {bands} ({e['rows in the band']} rows); "
            f"likeness {likeness}; error of the scores at most "
            f"{e['difference to the formula']:.0e}"
        ]
    return lines


def feedback_section(records):
    arms = of(records, "arms")
    sets = [*dict.fromkeys(r["set"] for r in arms)]
    n_seeds = len({r["seed"] for r in arms})
    lines = ["", "## Does feedback pay? (simulated)", ""]
    lines += [
        "Gold less another strategy, in hundredths, with 95 % intervals of the paired differences: "
        "over sets and seeds after averaging over settings, in the last table over "
        f"{n_seeds} seeds. ▽: loses, and the interval says so; ▿: loses. Feedback comes from all "
        "rows of the round before, as in the recording; with *novel requests*, half of the "
        "requests, from their rows alone. These, and *clear*, an LLM that writes clear rows near "
        "feedback too (added when the other results were known), only at repeats .15 and "
        "mislabeled .05.",
        "",
    ]
    groups = [("all", arms)] + [(name, of(arms, "arms", set=name)) for name in sets]
    for factor in ("repeat", "mislabel", "follow"):
        for level in levels(records, factor):
            groups.append((f"{factor} {level}", of(arms, "arms", **{factor: level})))
    for part in ("novel requests", "clear", "clear, novel requests"):
        group = of(records, part)
        groups += [(part, group)] + [(f"{part}, {s}", of(group, part, set=s)) for s in sets]
    columns = [(o, w, r) for o in OTHERS for w in ("accuracy", "f1") for r in ("requests", "rows")]
    header = ["settings", *(f"− {o}, {w}, equal {r}" for o, w, r in columns)]
    rows = [
        [name, *(points(by_unit(group, gain(o, w, r))) for o, w, r in columns)]
        for name, group in groups
        if group
    ]
    lines += table(header, rows)
    for other in OTHERS:
        lines += [f"Accuracy of gold less {other} at equal requests, each setting:", ""]
        rows = []
        for repeat in levels(records, "repeat"):
            for mislabel in levels(records, "mislabel"):
                for follow in levels(records, "follow"):
                    where = {"repeat": repeat, "mislabel": mislabel, "follow": follow}
                    cells = [of(arms, "arms", set=name, **where) for name in sets]
                    if any(cells):
                        values = (
                            points([gain(other)(r["arms"]) for r in cell]) if cell else ""
                            for cell in cells
                        )
                        rows.append([repeat, mislabel, follow, *values])
        lines += table(["repeats", "mislabeled", "follows", *sets], rows)
    return lines


def curation_section(records):
    lines = ["## What curation does (simulated, duplicates only)", ""]
    rows = []
    for repeat in levels(records, "repeat"):
        for strategy in ("gold", *OTHERS):
            group = of(records, "arms", repeat=repeat)

            def mean(what, group=group, strategy=strategy):
                return np.mean(by_unit(group, lambda arms: arms[strategy][what]))

            gained = [points(by_unit(group, saved(strategy, w))) for w in ("accuracy", "f1")]
            rows.append(
                [repeat, strategy, f"{mean('accuracy'):.3f}", f"{mean('f1'):.3f}", *gained]
                + [f"{mean('repeats written'):.1%}", f"{mean('repeats accepted'):.2%}"]
                + [f"{mean('written'):.0f}", f"{mean('accepted'):.0f}", f"{mean('removed'):.1f}"]
                + [f"{mean('invalid'):.1f}", f"{mean('written') / mean('accepted'):.2f}"]
                + [f"{mean('requests') / mean('accepted'):.3f}"]
            )
    header = ["repeats set", "strategy", "accuracy", "macro-F1", "accuracy less not curated"]
    header += ["F1 less not curated", "repeats written", "repeats accepted", "written", "accepted"]
    header += [
        "matched a test row, removed",
        "invalid",
        "written per accepted",
        "requests per accepted",
    ]
    return lines + table(header, rows)


def duplicates_section(records):
    """Tabulate what thresholds let through, by a measure that none of them is made for."""
    lines = ["## The threshold of near-duplicates (simulated, no feedback)", ""]
    group = of(records, "duplicates")
    sets = [*dict.fromkeys(r["set"] for r in group)]
    rows = []
    for repeat in sorted({r["repeat"] for r in group}):
        for threshold in group[0]["arms"]:
            row = [repeat, threshold]
            for name in sets:
                where = {"set": name, "repeat": repeat}
                found = [r["arms"][threshold] for r in of(group, "duplicates", **where)]
                near = np.mean([f["repeats accepted"] for f in found])
                kept = np.mean([f["accepted"] / f["written"] for f in found])
                accuracy = np.mean([f["accuracy"] for f in found])
                row.append(f"{near:.2%}, {kept:.0%}, {accuracy:.3f}")
            rows.append(row)
    header = ["repeats", "threshold", *sets]
    note = "Near-duplicates among the accepted, accepted of the written, accuracy."
    return [*lines, note, "", *table(header, rows)]


def labels_section(records):
    lines = ["## Label checks (simulated, no feedback, repeats .15)", ""]
    lines += [
        "The teacher is a second reading that is right for 85 % of the rows. Less none: accuracy, "
        "in hundredths, over sets and seeds.",
        "",
    ]
    rows = []
    for kind in ("texts", "tables"):
        for mislabel in sorted({r["mislabel"] for r in of(records, "labels")}):
            where = {"mislabel": mislabel, "is text": kind == "texts"}
            group = of(records, "labels", **where)
            for check in group[0]["arms"] if group else []:
                found = [r["arms"][check] for r in group]
                written, accepted = (
                    np.mean([f[f"wrong {what}"] for f in found]) for what in ("written", "accepted")
                )
                differences = by_unit(
                    group, lambda a, c=check: a[c]["accuracy"] - a["none"]["accuracy"]
                )
                rows.append(
                    [kind, mislabel, check, f"{written:.1%}", f"{accepted:.1%}"]
                    + [f"{accepted / max(written, 1e-9):.2f}"]
                    + [f"{np.mean([f['accepted'] / f['written'] for f in found]):.0%}"]
                    + ["" if check == "none" else points(differences)]
                )
    header = ["data", "mislabeled", "check", "wrong of written", "wrong of accepted", "ratio"]
    return lines + table([*header, "accepted of written", "accuracy less none"], rows)


def floor_section(records):
    lines = ["## Without an LLM, and with real rows", "", "Accuracy (macro-F1), mean of seeds.", ""]
    sets = [*dict.fromkeys(r["set"] for r in records)]
    central = levels(records, "repeat")[len(levels(records, "repeat")) // 2]
    rows = {}
    for name in sets:
        for r in of(records, "without", set=name):
            for arm, found in r["arms"].items():
                rows.setdefault(arm, {}).setdefault(name, []).append(found)
        for r in of(records, "arms", set=name, repeat=central):
            for arm in ("gold", *OTHERS):
                label = f"{arm} (repeats {central})"
                rows.setdefault(label, {}).setdefault(name, []).append(r["arms"][arm])
    body = []
    for arm, found in rows.items():
        cells = [
            f"{np.mean([f['accuracy'] for f in found[s]]):.3f} "
            f"({np.mean([f['f1'] for f in found[s]]):.3f})"
            if s in found
            else ""
            for s in sets
        ]
        body.append([arm, *cells])
    natural = [
        f"{s} {np.mean([r['repeats among real rows'] for r in of(records, 'without', set=s)]):.2%}"
        for s in sets
    ]
    note = "Near-duplicates among as many real rows, by the same measure: " + ", ".join(natural)
    return lines + table(["rows", *sets], body) + [note + "."]


def claims(records, real):
    """List (claim, what was found, whether it holds)."""
    verdicts = []
    for name, found in real.items():
        left = sum(c["repeats kept"] for c in found["curated"])
        verdicts.append((f"1. repeats left in the recorded rows of {name}", left, left == 0))
        means = [
            np.mean([c["curated"] - c["all"] for c in found["curated"] if c["arm"] == arm])
            for arm in found["arms"]
        ]
        text = f"1. curation of recorded rows of {name} loses at most .005, mean of each arm"
        verdicts.append((text, ", ".join(f"{m:+.4f}" for m in means), min(means) >= -0.005))
    if "trec" in real:  # what the simulated LLM was set on
        simulated = real["trec"]["simulator"]
        off = np.subtract(simulated["accuracy"], simulated["recorded, on the same rows"])
        text = "the simulated LLM reproduces the recorded curve within .02"
        verdicts.append((text, ", ".join(f"{d:+.3f}" for d in off), np.abs(off).max() <= 0.02))
    most = max(levels(records, "repeat"), default=None)
    for name in dict.fromkeys(r["set"] for r in of(records, "arms", repeat=most)):
        group = of(records, "arms", repeat=most, set=name)
        shares = {
            strategy: [
                np.mean([r["arms"][strategy][f"repeats {what}"] for r in group])
                for what in ("accepted", "written")
            ]
            for strategy in ("gold", *OTHERS)
        }
        accepted, written = max(shares.values())
        text = f"2. near-duplicates accepted at a repeat rate of {most}, {name}, are at most 2 %"
        found = f"{accepted:.2%} of the worst strategy, of {written:.1%} written"
        verdicts.append((text, found, accepted <= 0.02))
    checks = dict.fromkeys(c for r in of(records, "labels") for c in r["arms"] if c != "none")
    for check in checks:
        found = [r["arms"][check] for r in of(records, "labels")]
        ratio = np.mean([f["wrong accepted"] for f in found]) / np.mean(
            [f["wrong written"] for f in found]
        )
        text = f"3. wrong labels accepted / written, check {check}, is at most .5"
        verdicts.append((text, f"{ratio:.2f}", ratio <= 0.5))
    return verdicts


def save(folder, text, real, verdicts, made):
    (folder / "generation.md").write_text(text, encoding="utf-8")
    content = {
        "caution": CAUTION,
        "made_by": made,
        "recorded": real,
        "claims": [
            {"claim": claim, "found": str(found), "holds": bool(ok)}
            for claim, found, ok in verdicts
        ],
    }
    (folder / "generation.json").write_text(json.dumps(content, indent=1, default=float) + "\n")


def figure(records, real, path):
    """Draw the recorded arms, and what gold gains in the simulation."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 4.8), layout="constrained")
    if "trec" in real:
        left, right = fig.subplots(1, 2, width_ratios=[1, 1.3])
        draw_recorded(left, real["trec"])
    else:
        right = fig.subplots()
    draw_gains(right, records)
    fig.legend(
        *right.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
    )
    for axes in fig.axes:
        axes.grid(alpha=0.3)
    fig.savefig(path, dpi=120)


def draw_recorded(axes, real):
    colors = {"gold": "tab:red", "random": "tab:blue", "none": "0.45"}
    names = {"gold": "gold", "random": "random feedback", "none": "no feedback"}
    rounds = range(1, len(real["simulator"]["accuracy"]) + 1)
    for arm, found in real["arms"].items():
        accuracy = found["accuracy"][1:]
        axes.plot(rounds, accuracy, "o-", ms=4, color=colors.get(arm), label=names.get(arm, arm))
    simulated = real["simulator"]["accuracy"]
    axes.plot(rounds, simulated, ":", color="0.45", label="simulated, no feedback")
    low, high = axes.get_ylim()
    axes.set(xlabel="round of 72 rows", ylabel="accuracy", xticks=rounds)
    axes.set_ylim(low - 0.4 * (high - low), high)  # room for the legend
    axes.set_title("A real model's rows (trec, two runs)", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def draw_gains(axes, records):
    sets = [*dict.fromkeys(r["set"] for r in of(records, "arms"))]
    kinds = [  # part, settings, marker, filled, name
        ("arms", {"follow": "strong"}, "o", True, "heeds the wishes in 80 % of rows"),
        ("arms", {"follow": "weak"}, "o", False, "heeds them in 20 %"),
        ("novel requests", {}, "s", True, "novel requests"),
    ]
    height = 0.3
    for other, color in zip(OTHERS, ("tab:red", "tab:blue"), strict=True):
        for part, where, marker, filled, name in kinds:
            values = [
                100 * np.array(by_unit(of(records, part, set=s, **where), gain(other)))
                for s in sets
            ]
            means, halves = np.transpose([interval(v) for v in values])
            axes.errorbar(
                means,
                np.arange(len(sets)) + height,
                xerr=halves,
                fmt=marker,
                ms=4,
                lw=1,
                color=color,
                mfc=color if filled else "white",
                label=f"less {other.replace('-', ' ')}; {name}",
            )
            height -= 0.12
    axes.axvline(0, color="k", lw=0.8)
    axes.set(yticks=range(len(sets)), yticklabels=sets, ylim=(-0.5, len(sets) - 0.5))
    axes.set_xlabel("accuracy of gold less another strategy, in hundredths")
    axes.set_title("Simulated LLM (mean of settings, 95 % intervals)", fontsize=10)
