"""How an LLM is asked about rows, and batch calibration, by recorded and by local teachers.

Recorded: what a large language model stated, in two readings, about 1,500 texts of emotion,
and about the 600 help-desk messages; these need no model. Local, with --model: a GGUF file behind
llama.cpp's server answers about texts of emotion and trec, in one turn with the row in the middle
(as the first version did), by letters, and by names.
"""

import json
import time
from pathlib import Path

import numpy as np
from _results import heading, made_by, options, output_folder, save
from _texts import separated, trec
from sklearn.metrics import accuracy_score, f1_score, log_loss

from skllmreg import ChatModel, LLMTeacherClassifier
from skllmreg.llm import LocalServer
from skllmreg.llm._replies import read_record
from skllmreg.llm._transport import ChatCompletions, body_of
from skllmreg.students._calibration import batch_calibrated

EMOTIONS = {
    "anger": "the writer is angry, annoyed or hostile",
    "fear": "the writer is afraid, worried or nervous",
    "joy": "the writer is happy, content or proud",
    "love": "the writer feels affection, longing or tenderness",
    "sadness": "the writer is sad, hurt or lonely",
    "surprise": "the writer is astonished, amazed or curious",
}
KINDS = {
    "abbreviation": "asks for an abbreviation or what one means",
    "description": "asks for a definition, a manner or a reason",
    "entity": "asks for a thing, an animal, a product, a work or an event",
    "human": "asks for a person, a group or a title",
    "location": "asks for a place",
    "number": "asks for a number, a date, an amount or a measure",
}
CODES = dict(zip(("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"), KINDS, strict=True))
WAYS = {
    "one turn, letters": ("code", True),
    "row last, letters": ("code", False),
    "row last, names": ("name", False),
}


def scores(y, proba):
    """Accuracy, macro-F1 and log-loss of the probabilities, and after batch calibration."""
    row = {}
    for name, p in (("", proba), ("batch ", batch_calibrated(proba))):
        said = p.argmax(axis=1)
        p = np.clip(p, 1e-3, None)
        row |= {
            f"{name}accuracy": accuracy_score(y, said),
            f"{name}macro-F1": f1_score(y, said, average="macro", zero_division=0),
            f"{name}log-loss": log_loss(
                y, p / p.sum(axis=1, keepdims=True), labels=range(p.shape[1])
            ),
        }
    return row


def recorded(folder):
    """Rows of (what, y, probabilities) of teachers that are on file."""
    path = folder / "text" / "emotion" / "teacher.jsonl"
    if path.exists():
        train = separated(folder / "text" / "emotion" / "train.txt", ";")
        said = [json.loads(line) for line in path.read_text().splitlines()]
        y = np.array([list(EMOTIONS).index(train[one["row"]][1]) for one in said])
        for reading in "ab":
            p = np.array([[one[reading].get(label, 0.0) for label in EMOTIONS] for one in said])
            yield f"emotion, reading {reading}", y, p / p.sum(axis=1, keepdims=True)
    path = folder / "text" / "helpdesk" / "messages.jsonl"
    if path.exists():
        said = [json.loads(line) for line in path.read_text().splitlines()]
        labels = sorted({one["label"] for one in said})
        y = np.array([labels.index(one["label"]) for one in said])
        p = np.array([[one["teacher"].get(label, 0.0) for label in labels] for one in said])
        yield "help desk", y, p
        few = np.concatenate(
            [np.flatnonzero(y == k)[: 100 if k == 0 else 8] for k in range(len(labels))]
        )
        yield "help desk, five classes of 8 beside one of 100", y[few], p[few]


class Counting:
    """Sends requests, counts tokens of prompts, and may put everything into one turn."""

    def __init__(self, url, one_turn):
        self.chat, self.one_turn = ChatCompletions(url), one_turn
        self.prompt_tokens = self.cached_tokens = 0

    def send(self, request):
        body = body_of(request)
        if self.one_turn:
            first, row = (message["content"] for message in body["messages"][:2])
            said, _, answers = first.rpartition("\n\n")
            body["messages"] = [{"role": "user", "content": f"{said}\n\n{row}\n\n{answers}"}]
        payload = self.chat.post("/chat/completions", body, request.timeout)
        usage = payload["usage"]
        self.prompt_tokens += usage["prompt_tokens"]
        self.cached_tokens += (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        return read_record(payload, self.chat.url, str)


def texts_of(folder, name, n_rows):
    """Texts and labels of a data set, drawn at random."""
    if name == "emotion":
        rows = separated(folder / "text" / "emotion" / "test.txt", ";")
    else:
        rows = [(t, CODES[code]) for t, code in trec(folder / "text" / "trec" / "test.txt")]
    drawn = np.random.default_rng(0).permutation(len(rows))[:n_rows]
    return [rows[i][0] for i in drawn], [rows[i][1] for i in drawn]


def ask(server, folder, name, way, n_rows):
    """One row of the table: a local model about the texts of a data set."""
    described = EMOTIONS if name == "emotion" else KINDS
    task = "Tell " + (
        "which emotion the writer of a message expresses."
        if name == "emotion"
        else "what kind of answer a question asks for."
    )
    answer_with, one_turn = WAYS[way]
    counting = Counting(server.url, one_turn)
    chat = ChatModel(
        server.model, temperature=0, max_concurrency=4, cache=None, transport=counting, timeout=600
    )
    teacher = LLMTeacherClassifier(
        chat,
        task=task,
        class_descriptions=described,
        answer_with=answer_with,
        on_refusal="abstain",
    )
    texts, labels = texts_of(folder, name, n_rows)
    y = np.array([list(described).index(label) for label in labels])
    start = time.perf_counter()
    proba = teacher.predict_proba(texts)
    seconds = (time.perf_counter() - start) / len(texts)
    # A row without an answer is wrong, and says nothing.
    answered = np.isfinite(proba).all(axis=1)
    proba[~answered] = 1 / proba.shape[1]
    return scores(y, proba) | {
        "model": server.model,
        "data": name,
        "way": way,
        "rows": len(texts),
        "no answer": int((~answered).sum()),
        "seconds a row": seconds,
        "from the prefix cache": counting.cached_tokens / counting.prompt_tokens,
    }


def table(rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = (row.get(name, "") for name in names)
        lines.append(
            "| " + " | ".join(f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells) + " |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = options(__doc__, "the recorded teachers alone")
    parser.add_argument("--model", type=Path, nargs="*", default=[], help="GGUF files")
    parser.add_argument("--rows", type=int, default=150, help="texts of each data set")
    parser.add_argument("--threads", type=int, help="of the local model")
    args = parser.parse_args()
    folder = Path(args.data)
    read = [{"teacher": what, "rows": len(y)} | scores(y, p) for what, y, p in recorded(folder)]
    local = []
    for path in [] if args.quick else args.model:
        with LocalServer(path, context=1024, n_threads=args.threads) as server:
            for name in ("emotion", "trec"):
                for way in WAYS:
                    local.append(ask(server, folder, name, way, args.rows))
                    print(table(local[-1:]), flush=True)
    made = made_by("xllamacpp")
    text = heading("How an LLM is asked about rows", made)
    text += "\n## Recorded teachers, with and without batch calibration\n\n" + table(read)
    if local:
        text += "\n## Local models\n\n" + table(local)
    print(text)
    save(output_folder(args), "selection_teacher", text, made, {"recorded": read, "local": local})


if __name__ == "__main__":
    main()
