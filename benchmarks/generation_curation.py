"""What curation keeps of the rows that real small models wrote, against marks set by hand.

`recorded/rows-SET-MODEL.jsonl` (record_rows.py) holds raw rows of models that were not looked at
while the rules were made. "is_row" says of each row whether a reader would take it for a text of
the set (1), whatever its class, or for something else in its place (0): an instruction, a remark, a
text about texts, a fragment, a placeholder. Of what repeats a labeled text or an earlier row,
neither is counted as lost. Claims, over all files: at least .9 of the rows are kept, at most .05 of
what is kept is none, and no labeled text is among it.

    python benchmarks/generation_curation.py [--data ../shared/data] [--output benchmarks/results]
        [--list kept|lost]
"""

import json
import sys
from collections import Counter
from pathlib import Path

from _generation_live_data import CLASSES, TASKS, rows_of
from _results import made_by, options, output_folder, save

from skllmreg.augmentation import GenerationRequest
from skllmreg.augmentation._curation import Curator
from skllmreg.augmentation._kinds import Texts
from skllmreg.augmentation._writers import rows_question
from skllmreg.utils._text import words

LEAST_KEPT, MOST_WRONG = 0.9, 0.05


def judge(path, data):
    """Rows of a recording, their marks, and what curation says: (row, is_row, reason, detail)."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    name = lines[0]["set"]
    (X, _), _ = rows_of(data, name)
    kind = Texts(X[lines[0]["labeled"]])
    curator, found = Curator(kind), []
    for line in lines:
        request = GenerationRequest(
            line["label"],
            line["n_rows"],
            seed_examples=X[line["seeds"]].tolist(),
            attributes=line["attributes"],
        )
        prompt = rows_question(TASKS[name], request, list(CLASSES[name]), CLASSES[name], kind)
        rows = [kind.from_json(X[row] if isinstance(row, int) else row) for row in line["rows"]]
        reasons = curator.admit(rows, [line["label"]] * len(rows), prompt=prompt, request=request)
        marks = line.get("is_row", [None] * len(rows))
        found += [
            (row, mark, *reason) for row, mark, reason in zip(rows, marks, reasons, strict=True)
        ]
    labeled = {tuple(words(text)) for text in kind.rows}
    copies = sum(tuple(words(row)) in labeled for row, _, reason, _ in found if not reason)
    return found, copies


def repeats(reason, detail):
    """Whether a row was refused as the repetition of another one."""
    return "duplicate" in reason or detail == "it repeats an example"


def count(found, copies):
    """Count the rows of a recording."""
    kept = [mark for _, mark, reason, _ in found if not reason]
    new = [not r for _, mark, r, detail in found if mark and not repeats(r, detail)]
    return {
        "written": len(found),
        "rows": sum(bool(mark) for _, mark, _, _ in found),
        "repeats": sum(repeats(r, detail) for _, _, r, detail in found),
        "new rows": len(new),
        "of them kept": sum(new),
        "kept in all": len(kept),
        "of them no rows": sum(not mark for mark in kept),
        "of them labeled texts": copies,
    }


def main():
    parser = options(__doc__, "as it is")
    parser.add_argument("--list", choices=["kept", "lost"], help="show what is wrong")
    args = parser.parse_args()
    counts, reasons = {}, Counter()
    for path in sorted((Path(__file__).parent / "recorded").glob("rows-*.jsonl")):
        found, copies = judge(path, args.data)
        counts[path.stem.removeprefix("rows-")] = count(found, copies)
        reasons.update(reason for _, _, reason, _ in found if reason)
        for row, mark, reason, detail in found:
            if args.list == "kept" and not reason and not mark:
                print("kept:", row)
            if args.list == "lost" and reason and mark and not repeats(reason, detail):
                print("lost:", reason, detail, row)
    total = {name: sum(c[name] for c in counts.values()) for name in next(iter(counts.values()))}
    counts["all"] = total
    share = total["of them kept"] / max(1, total["new rows"])
    wrong = total["of them no rows"] / max(1, total["kept in all"])
    held = share >= LEAST_KEPT and wrong <= MOST_WRONG and not total["of them labeled texts"]
    made = made_by()
    names = list(total)
    text = "\n".join(
        [
            "# Curation of what small models write",
            "",
            "| set and model | " + " | ".join(names) + " |",
            "|---|" + "---|" * len(names),
            *(
                f"| {file} | " + " | ".join(str(c[n]) for n in names) + " |"
                for file, c in counts.items()
            ),
            "",
            f"Refused: {', '.join(f'{name} {n}' for name, n in reasons.most_common())}.",
            "",
            f"Claims {'hold' if held else 'DO NOT HOLD'}: {share:.3f} of the new rows are kept, "
            f"{wrong:.3f} of what is kept is none.",
            "",
            f"Made by `{made['command']}`.",
            "",
        ]
    )
    print(text)
    save(output_folder(args), "generation_curation", text, made, {"counts": counts})
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
