"""Tables, claims and figure of the selection benchmark."""

import json

import numpy as np

CAUTION = (
    "Teachers are simulated but for emotion-llm; emotion, trec and banking77 are public, and the "
    "real teacher may have read them."
)


def scores(records, arm, budget, **where):
    """Macro-F1 by set: {set: array over students and seeds, in a fixed order}."""
    found = {}
    for r in records:
        if r["arm"] == arm and r["budget"] == budget and all(r[k] == v for k, v in where.items()):
            found.setdefault(r["set"], []).append(r["f1"])
    return {name: np.array(values) for name, values in found.items()}


def mean_over_sets(by_set):
    return float(np.mean([values.mean() for values in by_set.values()]))


def claims(records, sizes):
    """List (claim, what was found, whether it holds), for each student and in the mean."""
    verdicts = []
    for student in [*dict.fromkeys(r["student"] for r in records)]:
        verdicts += [
            (f"{student}: {text}", found, holds)
            for text, found, holds in claims_of(records, sizes, student)
        ]
    return verdicts


def claims_of(records, sizes, student):
    def f1(arm, budget):
        return scores(records, arm, budget, student=student)

    ours, verdicts = f1("distill", 0.3), []
    large = [name for name in ours if sizes[name] > 5000]
    for labels in ("hard", "soft"):
        some, every = f1(f"random, {labels}", 0.3), f1(f"all, {labels}", 1.0)
        gap = np.mean([every[s].mean() - some[s].mean() for s in large])
        closed = np.mean([ours[s].mean() - some[s].mean() for s in large]) / gap
        text = f"1. share of the gap closed at 30 %, {labels} labels, is at least .5"
        verdicts.append((text, f"{closed:.2f}", closed >= 0.5))
    for arm in ("random, hard", "random, soft", "student, soft", "teacher, hard", "llkd, hard"):
        difference = mean_over_sets(ours) - mean_over_sets(f1(arm, 0.3))
        text = f"2. at 30 %, not below {arm} by more than .003"
        verdicts.append((text, f"{difference:+.3f}", difference >= -0.003))
    for labels in ("hard", "soft"):
        some = f1(f"random, {labels}", 0.3)
        worst = min((ours[s].mean() - some[s].mean(), s) for s in ours)
        text = f"3. on no set below random, {labels}, by more than .005"
        verdicts.append((text, f"{worst[0]:+.3f} ({worst[1]})", worst[0] >= -0.005))
    hard, soft, full = f1("all, hard", 1.0), f1("all, soft", 1.0), f1("distill", 1.0)
    difference = np.mean([full[s].mean() - max(hard[s].mean(), soft[s].mean()) for s in full])
    text = "4. with all calls, not below the better of hard and soft by more than .003"
    verdicts.append((text, f"{difference:+.3f}", difference >= -0.003))
    chosen = [r for r in records if r["arm"] == "llkd, hard" and r["budget"] == 1.0]
    share = np.mean([r["share_of_presentations"] for r in chosen if r["student"] == student])
    text = "5. llkd trains on 5 to 40 % of the presentations"
    verdicts.append((text, f"{share:.0%}", 0.05 <= share <= 0.4))
    difference = mean_over_sets(f1("llkd, hard", 1.0)) - mean_over_sets(
        f1("random, size of llkd", 1.0)
    )
    text = "5. llkd beats random rows of the same number"
    verdicts.append((text, f"{difference:+.3f}", difference > 0))
    return verdicts


def report(records, sizes, verdicts, made):
    rest = ", ".join(f"{key} {value}" for key, value in made.items() if key != "command")
    lines = ["# Learning from a teacher", "", CAUTION, "", f"Made by `{made['command']}` ({rest})."]
    for student in [*dict.fromkeys(r["student"] for r in records)]:
        lines += ["", f"## Student: {student}", ""]
        own = {r["set"] for r in records if r["student"] == student}
        lines += table(records, {name: n for name, n in sizes.items() if name in own}, student)
        lines += ["", "Share of the calls from which on the curve is at 99 % of all soft labels:"]
        lines += ["", *reached(records, student)]
        lines += ["", "Where llkd, hard, with all calls loses:", "", *losses(records, student)]
    lines += ["", "## Claims", ""]
    lines += [f"- {'pass' if ok else 'FAIL'}: {text}: {found}" for text, found, ok in verdicts]
    return "\n".join(lines) + "\n"


def table(records, sizes, student):
    """Macro-F1 by set, and the means of what else was measured; losers against distill marked."""
    own = [r for r in records if r["student"] == student]
    n_seeds = {name: len({r["seed"] for r in own if r["set"] == name}) for name in sizes}
    header = [f"{name} ({n} rows, {n_seeds[name]} seeds)" for name, n in sizes.items()]
    columns = ["calls", "arm", *header, "mean", "± paired", "accuracy", "rows used", "labels right"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    arms = [*dict.fromkeys((r["budget"], r["arm"]) for r in records if r["student"] == student)]
    for budget, arm in sorted(arms, key=lambda pair: pair[0]):
        by_set = scores(records, arm, budget, student=student)
        ours = scores(records, "distill", budget, student=student)
        cells = []
        for name in sizes:
            lost = by_set[name].mean() < ours[name].mean() - 0.0005
            won = by_set[name].mean() > ours[name].mean() + 0.0005
            cells.append(f"{by_set[name].mean():.3f}" + (" ▲" if won else " ▽" if lost else ""))
        paired = np.concatenate([by_set[name] - ours[name] for name in sizes])
        error = paired.std(ddof=1) / np.sqrt(len(paired))
        of_arm = [
            r for r in records if (r["arm"], r["budget"], r["student"]) == (arm, budget, student)
        ]
        mean = {k: np.mean([r[k] for r in of_arm]) for k in ("accuracy", "label_accuracy")}
        used = np.mean([r["rows_used"] / sizes[r["set"]] for r in of_arm])
        lines.append(
            f"| {budget:.0%} | {arm} | "
            + " | ".join(cells)
            + f" | {mean_over_sets(by_set):.3f} | {paired.mean():+.3f} ± {error:.3f} "
            + f"| {mean['accuracy']:.3f} | {used:.0%} | {mean['label_accuracy']:.3f} |"
        )
    note = "Macro-F1; ▽ below and ▲ above distill at equal calls, ± the paired difference to it."
    return [*lines, "", note]


def reached(records, student):
    goal = scores(records, "all, soft", 1.0, student=student)
    lines = []
    for arm in ("distill", "student, soft", "random, soft"):
        budgets = sorted({r["budget"] for r in records if r["arm"] == arm})
        cells = []
        for name, all_soft in goal.items():
            enough = [
                b
                for b in budgets
                if scores(records, arm, b, student=student)[name].mean() >= 0.99 * all_soft.mean()
            ]
            cells.append(f"{name} {min(enough):.0%}" if enough else f"{name} not below 100%")
        lines.append(f"- {arm}: " + ", ".join(cells))
    return lines


def losses(records, student):
    """What the paper's rule loses against other uses of all answers."""
    llkd, lines = scores(records, "llkd, hard", 1.0, student=student), []
    for arm in ("all, soft", "teacher filter", "all, hard", "random, size of llkd"):
        other = scores(records, arm, 1.0, student=student)
        lost = {name: other[name].mean() - llkd[name].mean() for name in llkd}
        cells = [f"{name} {-by:+.3f}" for name, by in lost.items() if by > 0.0005]
        lines.append(f"- against {arm}: " + (", ".join(cells) or "nowhere"))
    return lines


def save(folder, text, verdicts, made):
    (folder / "selection.md").write_text(text, encoding="utf-8")
    content = {
        "caution": CAUTION,
        "made_by": made,
        "claims": [
            {"claim": claim, "found": found, "holds": bool(ok)} for claim, found, ok in verdicts
        ],
    }
    (folder / "selection.json").write_text(json.dumps(content, default=float) + "\n")


def figure(records, path):
    """Draw macro-F1 against calls, a panel for each set, of the first student."""
    from matplotlib.figure import Figure

    student = records[0]["student"]
    names = [*dict.fromkeys(r["set"] for r in records)]
    # Two columns: readable where a page gives it 500 pixels.
    n_columns = min(2, len(names))
    n_rows = -(-len(names) // n_columns)
    fig = Figure(figsize=(4 * n_columns, 2.6 * n_rows), layout="constrained")
    panels = fig.subplots(n_rows, n_columns, squeeze=False, sharex=True).ravel()
    colors = {"distill": "tab:red", "student, soft": "tab:blue", "random, soft": "0.5"}
    for axes, name in zip(panels, names, strict=False):
        for arm, color in colors.items():
            budgets = sorted({r["budget"] for r in records if r["arm"] == arm})
            means = [scores(records, arm, b, student=student)[name].mean() for b in budgets]
            axes.plot([100 * b for b in budgets], means, "o-", color=color, label=arm, ms=4, lw=2)
        for labels, line in (("soft", "--"), ("hard", ":")):
            every = scores(records, f"all, {labels}", 1.0, student=student)[name].mean()
            axes.axhline(every, color="k", ls=line, lw=1, label=f"all rows, {labels}")
        axes.set_title(name, fontsize=13)
        axes.tick_params(labelsize=12)
        axes.grid(alpha=0.3)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    fig.supxlabel("calls of the teacher, % of the unlabeled rows", fontsize=13)
    fig.supylabel("macro-F1", fontsize=13)
    handles, labels = panels[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=12)
    fig.savefig(path, dpi=120)
