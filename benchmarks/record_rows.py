"""Record what real small models write when they are asked for training rows, raw.

The requests are those of `GOLDAugmenter`: its prompts, seed examples and attributes, one request of
each class in a round. `recorded/rows-SET-MODEL.jsonl` has a line for each reply: the class, the
numbers of the labeled texts, shown and in all, the attributes, and the rows as
they came. A row of public data that is not ours is named by its number there, not copied. Marks
("is_row") are set by hand afterwards; see generation_curation.py.

    python benchmarks/record_rows.py helpdesk ~/.cache/local-models/qwen-0.5b.gguf [--rounds 2]
        [--data ../shared/data] [--seed 0] [--threads 2] [--cache FILE]
"""

import argparse
import json
from pathlib import Path

import numpy as np
from _generation_live_data import CLASSES, TASKS, rows_of

from skllmreg import ChatModel
from skllmreg.augmentation._kinds import Texts
from skllmreg.augmentation._requests import AttributeGrid, GenerationPlan, RequestPlanner
from skllmreg.augmentation._student import TrainingRows
from skllmreg.augmentation._writers import LLMGenerator
from skllmreg.llm import LocalServer
from skllmreg.utils._text import words

N_LABELED, N_ROWS, N_SHOWN = 6, 8, 3
ATTRIBUTES = {
    "helpdesk": {
        "topic": {
            "account": ["a forgotten password", "a new address", "closing it", "two accounts"],
            "billing": ["a double charge", "a missing invoice", "a card refused", "a coupon"],
            "delivery": ["a late parcel", "a wrong address", "a lost parcel", "a neighbor"],
            "presale": ["sizes", "what is in stock", "a gift", "two models compared"],
            "refund": ["a damaged item", "a wrong color", "money not yet back", "an exchange"],
            "technical": ["a lamp", "the app crashes", "a printer", "a page that does not load"],
        },
        "style": ["polite", "annoyed", "in a hurry", "chatty"],
        "length": ["one short sentence", "two sentences", "a few words"],
    },
    "trec": {
        "topic": ["history", "science", "sports", "films", "animals", "geography", "food", "money"],
        "style": ["plain", "formal", "as in a quiz"],
        "length": ["four to six words", "some ten words", "up to fifteen words"],
    },
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("set", choices=["trec", "helpdesk"])
    parser.add_argument("model")
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", default="record_rows.sqlite3")
    args = parser.parse_args()
    (X, y), _ = rows_of(args.data, args.set)
    rng = np.random.RandomState(args.seed)
    order = rng.permutation(len(y))
    classes = np.unique(y)
    at = np.concatenate([order[y[order] == k][:N_LABELED] for k in classes])
    kind = Texts(X[at])
    data = TrainingRows(X[at], np.searchsorted(classes, y[at]), classes, kind)
    number = {tuple(words(text)): i for i, text in reversed([*enumerate(X)])}
    path = Path(__file__).parent / "recorded" / f"rows-{args.set}-{Path(args.model).stem}.jsonl"
    asked = {"task": TASKS[args.set], "class_descriptions": CLASSES[args.set], "kind": kind}
    with LocalServer(args.model, n_threads=args.threads, context=3000) as server:
        chat = ChatModel(
            server.model,
            base_url=server.url,
            cache=args.cache,
            timeout=600,
            max_concurrency=4,
            request_options={"max_tokens": 500},
        )
        plan = GenerationPlan(
            n_batches=len(classes),
            n_novel_batches=0,
            batch_size=N_ROWS,
            quotas=np.full(len(classes), np.inf),
            n_seed_examples=N_SHOWN,
            n_feedback=0,
            feedback_every=2,
            n_rounds=args.rounds,
            max_requests=np.inf,
        )
        planner = RequestPlanner(plan, data, AttributeGrid(ATTRIBUTES[args.set], rng), rng)
        generator = LLMGenerator(chat, classes=data.labels, **asked)
        lines = []
        for i in range(args.rounds):
            requests = planner.next_round(i, np.zeros(len(classes), int))
            for request, answer in zip(requests, generator.generate(requests), strict=True):
                shown = [number[tuple(words(text))] for text in request.seed_examples]
                rows = [
                    number.get(tuple(words(row)), row) if isinstance(row, str) else row
                    for row in answer.rows
                ]
                lines.append(
                    {"model": Path(args.model).stem, "set": args.set, "label": str(request.label)}
                    | {"n_rows": request.n_rows, "labeled": at.tolist(), "seeds": shown}
                    | {"attributes": request.attributes, "problem": answer.problem, "rows": rows}
                )
                print(request.label, len(answer.rows), answer.problem, flush=True)
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


if __name__ == "__main__":
    main()
