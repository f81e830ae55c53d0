"""Run ``python -m skllmreg cache | batches | doctor``: look at a cache file and at a server."""

import argparse
import contextlib
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from skllmreg.exceptions import CacheError, LLMError, RequestError
from skllmreg.llm import _ledger
from skllmreg.llm._chat import ChatModel
from skllmreg.llm._embed import EmbeddingModel
from skllmreg.llm._jobs import OVER, Driver, Job, load_jobs
from skllmreg.llm._labels import Labels
from skllmreg.llm._probabilities import ask_for_label
from skllmreg.llm._secrets import hide_keys, is_openai, resolve_url, without_secrets
from skllmreg.llm._settings import Messages, as_conversations
from skllmreg.llm._store import HELD, Store, default_path, open_store
from skllmreg.llm._transport import ChatCompletions
from skllmreg.llm._values import Obtained, Question, Task
from skllmreg.utils._json import UnusableError, parse_json, read_json
from skllmreg.utils._text import short_line

# A prompt that asks for prose: only a server that keeps to the schema answers with JSON.
PROSE = "Tell me in one short sentence of plain prose how warm it is in summer."
SCHEMA = {
    "type": "object",
    "properties": {"degrees": {"type": "integer"}},
    "required": ["degrees"],
    "additionalProperties": False,
}
YES = "Answer with the single word: yes."
LABELS = ["yes", "no"]
CHOICE = "Is water wet?"
DIGITS = "Write ten random digits and nothing else."


class _Parser(argparse.ArgumentParser):
    """A parser whose errors do not repeat a key that was pasted into the command."""

    def error(self, message: str) -> Any:
        super().error(hide_keys(message))


def cache(argv: Sequence[str] | None = None) -> int:
    """Look into the cache file, export it, prune it; 0 if it could be done."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.action is None:
        parser.print_help()
        return 0
    try:
        # Only what is there is opened: a slip of the pen makes no file.
        store = open_store(args.file, read_only=True)
        if args.action == "prune" or args.action == "pauses" and args.lift:
            store = open_store(args.file)
        return args.run(store, args)
    except CacheError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # as in `... | head`
        # What is left in the buffer would raise again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument("--file", default="default", help="the cache file (default: the user's)")
    choice = _Parser(add_help=False)
    choice.add_argument("--model", type=_text, help="entries of this model")
    choice.add_argument(
        "--containing", type=_text, metavar="TEXT", help="entries whose prompt holds this text"
    )
    choice.add_argument(
        "--key", type=_text, nargs="+", metavar="PREFIX", help="entries whose key begins like this"
    )
    choice.add_argument("--older-than", type=float, metavar="DAYS", help="entries of before")
    parser = _Parser(prog="python -m skllmreg cache", description=cache.__doc__)
    actions = parser.add_subparsers(dest="action")
    for name, run, what in (
        ("list", _list, "show entries, the newest first"),
        ("export", _export, "write entries as JSON lines to the standard output"),
        ("prune", _prune, "remove entries; the ledger stays"),
    ):
        action = actions.add_parser(name, parents=[common, choice], help=what, description=what)
        action.set_defaults(run=run)
        if name == "list":
            action.add_argument("-n", type=int, default=20, help="how many (default: 20)")
        if name == "prune":
            action.add_argument("--all", action="store_true", help="all entries")
    action = actions.add_parser("usage", parents=[common], help="show the ledger")
    action.set_defaults(run=_usage)
    what = "show the pauses that servers have asked for, and what they do not take"
    action = actions.add_parser("pauses", parents=[common], help=what, description=what)
    action.add_argument("--lift", action="store_true", help="forget both: the next run asks anew")
    action.set_defaults(run=_pauses)
    return parser


def _text(value: str) -> str:
    if not value:  # it would be found in every entry
        raise argparse.ArgumentTypeError("an empty text chooses nothing")
    return value


def _keys(store: Store, args: argparse.Namespace) -> list[str]:
    """Keys of the entries that the arguments choose, the newest first."""
    before = None if args.older_than is None else time.time() - 86_400 * args.older_than
    containing = None if args.containing is None else json.dumps(args.containing)[1:-1]
    rows = store.read(
        "SELECT COALESCE(CAST(key AS TEXT), '') FROM entries "
        "WHERE (:model IS NULL OR model = :model) AND (:before IS NULL OR created < :before) "
        "AND (:containing IS NULL OR instr(request, :containing)) ORDER BY created DESC",
        {"model": args.model, "before": before, "containing": containing},
    )
    prefixes = tuple(args.key) if args.key else ("",)
    return [key for (key,) in rows if key.startswith(prefixes)]


def _entries(store: Store, keys: list[str]) -> Iterator[dict[str, Any]]:
    """The entries themselves; what is damaged has None for a request or a reply."""
    for key in keys:
        for created, server, model, request, reply in store.read(
            "SELECT CAST(created AS REAL), CAST(server AS TEXT), CAST(model AS TEXT), "
            "CAST(request AS TEXT), CAST(reply AS TEXT) FROM entries WHERE key = ?",
            (key,),
        ):
            entry = {"key": key, "created": created, "server": server, "model": model}
            yield entry | {"request": _without_secrets(_load(request)), "reply": _load(reply)}


def _load(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return None


def _without_secrets(request: Any) -> Any:
    """A request whose options are masked: earlier versions recognized fewer secrets."""
    if not isinstance(request, dict) or "options" not in request:
        return request
    return request | {"options": without_secrets("request_options", request["options"])}


def _list(store: Store, args: argparse.Namespace) -> int:
    keys = _keys(store, args)
    n_shown = min(max(args.n, 0), len(keys))
    for entry in _entries(store, keys[:n_shown]):
        day = _day(entry["created"])
        try:
            prompt = short_line(entry["request"]["messages"][-1]["content"])
            reply = short_line(entry["reply"]["text"] or "")
        except (KeyError, TypeError, AttributeError):
            prompt, reply = "damaged", "prune it"
        print(f"{entry['key'][:12]}  {day}  {short_line(entry['model'])}")
        print(f"    {prompt}\n    -> {reply}")
    print(f"{len(keys):,} entries in {store.path}" + (f", {n_shown} shown" if n_shown else ""))
    return 0


def _day(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "long ago or to come"


def _export(store: Store, args: argparse.Namespace) -> int:
    for entry in _entries(store, _keys(store, args)):
        print(json.dumps(entry))
    sys.stdout.flush()
    return 0


def _prune(store: Store, args: argparse.Namespace) -> int:
    chosen = (args.model, args.containing, args.key, args.older_than)
    if args.all == any(value is not None for value in chosen):
        print("Say which entries, or --all.", file=sys.stderr)
        return 2
    keys = _keys(store, args)
    with store.writing() as db:
        db.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])
    print(f"{len(keys):,} entries removed from {store.path}")
    store.compact()
    return 0


def _pauses(store: Store, args: argparse.Namespace) -> int:
    for name, end in _ledger.pauses(store).items():
        print(f"{short_line(name)}  {end - time.time():,.0f} s")
    for name, refused in _ledger.all_refused(store).items():
        print(f"{short_line(name)}  takes no {', '.join(map(short_line, refused))}")
    if args.lift:
        _ledger.lift_pauses(store)
        print("lifted")
    return 0


def _usage(store: Store, args: argparse.Namespace) -> int:
    heads = ("requests", "cached", "prompt", "completion", "cost")
    widths = (9, 9, 11, 11, 10)
    print(f"{'day':10}", *(f"{head:>{n}}" for head, n in zip(heads, widths, strict=True)), sep="  ")
    for row in _ledger.usage(store):
        cost = "unknown" if row.cost is None else f"${row.cost:.4f}"
        print(
            f"{row.day:10}  {row.requests:9,}  {row.cached:9,}  {row.prompt_tokens:11,}  "
            f"{row.completion_tokens:11,}  {cost:>10}  {short_line(row.model)}"
        )
    return 0


def batches(argv: Sequence[str] | None = None) -> int:
    """List batch jobs, collect what is answered, or cancel them; 0 if it could be done."""
    parser = _Parser(prog="python -m skllmreg batches", description=batches.__doc__)
    what = "list: as they were when last looked at; collect: look now; cancel: have servers stop"
    parser.add_argument("action", choices=["list", "collect", "cancel"], help=what)
    parser.add_argument("job", type=_text, nargs="*", help="names (default: all; needed to cancel)")
    parser.add_argument("--file", default="default", help="the cache file (default: the user's)")
    parser.add_argument("--all", action="store_true", help="list those that are over, too")
    args = parser.parse_args(argv)
    if args.action == "cancel" and not args.job:
        print("Say which jobs to cancel.", file=sys.stderr)
        return 2
    try:
        store = open_store(args.file, read_only=True)
        jobs = [*load_jobs(store, over=args.all and args.action == "list").values()]
        if args.job:
            jobs = [job for job in jobs if {job.batch, job.id} & set(args.job)]
        if args.action != "list" and jobs:
            store = open_store(args.file)
        n_failed = 0
        for job in jobs:
            try:
                _show_job(job if args.action == "list" else _drive(store, args.action, job))
            except RequestError as error:  # the other jobs may be at other servers
                n_failed += 1
                print(f"{job.name}: {error}", file=sys.stderr)
    except CacheError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(jobs):,} jobs in {store.path}")
    return 1 if n_failed or (args.job and not jobs) else 0


def _drive(store: Store, action: str, job: Job) -> Job:
    """Cancel a job, or take it as far as it goes, where no run is about it."""
    holder = uuid.uuid4().hex
    if store.lease(job.id, holder) is HELD:
        print(f"{job.name}: a run waits for it, which sees what becomes of it")
        if action == "collect":
            return job
    try:
        driver = Driver(store)
        return driver.cancel(job) if action == "cancel" else driver.advance(job)[0]
    finally:
        store.release(job.id, holder)


def _show_job(job: Job) -> None:
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.created))
    state = job.status if job.state in OVER or job.batch else job.state
    done = f"{job.n_done:,} of {job.n_requests:,} done"
    print(f"{job.name}  {day}  {short_line(job.model)}  {state}  {done}")


def doctor(argv: Sequence[str] | None = None) -> int:
    """Check a server: is it up, what can it do, what falls back to what; 0 if it answers."""
    parser = _Parser(prog="python -m skllmreg doctor", description=doctor.__doc__)
    parser.add_argument("--base-url", help="address of the server (default: OpenAI)")
    parser.add_argument("--model", help="model to ask; a few short requests are sent")
    parser.add_argument("--api-key-env", help="name of the variable that holds the key")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for one answer")
    what = "check its embeddings, not its answers to prompts"
    parser.add_argument("--embeddings", action="store_true", help=what)
    args = parser.parse_args(argv)
    try:
        url = resolve_url(args.base_url)
        models = _models(url, args)
        model = args.model or (None if is_openai(url) else next(iter(models), None))
        if model is None:
            print("model        name one with --model to see what it can do")
            return 0 if models else 1
        (_check_embeddings if args.embeddings else _check_model)(model, args)
        _say_where_answers_are_kept()
    except (LLMError, ValueError) as error:
        print(f"failed       {_advice(str(error))}", file=sys.stderr)
        return 1
    return 0


def _say_where_answers_are_kept() -> None:
    """Name the cache file and what it holds; no file is made."""
    path = default_path()
    held = "no answers yet"
    if path.exists():
        with contextlib.suppress(CacheError):
            ((n,),) = open_store("default", read_only=True).read("SELECT COUNT(*) FROM entries")
            held = f"{n:,} answers, which cost nothing again"
    print(f"cache        {path}: {held}")


def _advice(message: str) -> str:
    """What to do, where the message would send the user here."""
    message = message.partition(" `python -m skllmreg doctor")[0]
    if message.endswith("Is the server up?"):
        message += " Start it, as by `ollama serve` or `vllm serve MODEL`, or correct the address."
    return message


def _models(url: str, args: argparse.Namespace) -> list[str]:
    print(f"server       {url}")
    try:
        models = ChatCompletions(url, args.api_key_env).models(args.timeout)
    except RequestError as error:
        if error.status is None or args.model is None:
            raise
        models = []  # not every server lists its models
    shown = ", ".join(map(short_line, models[:8]))
    shown += f" and {len(models) - 8} more" if len(models) > 8 else ""
    print(f"models       {shown or 'it lists none'}")
    if args.model and models and args.model not in models:
        print(f"             {args.model} is not among them")
    return models


def _check_embeddings(model: str, args: argparse.Namespace) -> None:
    embedding = EmbeddingModel(
        model,
        base_url=args.base_url,
        api_key_env=args.api_key_env,
        timeout=args.timeout,
        max_retries=0,
        cache=None,
    )
    vectors = embedding.embed(["How warm is it in summer?", "The height of a house"])
    print(f"embeddings   {model} gives {vectors.shape[1]:,} numbers a text")
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.allclose(lengths, 1, atol=1e-3):
        print(f"             vectors have lengths such as {lengths[0]:.3g} -> normalize them")


def _check_model(model: str, args: argparse.Namespace) -> None:
    """Ask as estimators do, and say what came of it."""
    options: dict[str, Any] = {"max_tokens": 100}  # small models ramble
    refused: list[RequestError] = []  # of streams

    def ask(question: Question, prompt: str | Messages, **more: Any) -> Obtained:
        obtain = ChatModel(
            model,
            base_url=args.base_url,
            api_key_env=args.api_key_env,
            timeout=args.timeout,
            max_retries=0,
            cache=None,
            temperature=1.0 if more else None,
            request_options=options | more,
        )._obtain(question)
        if refused:
            obtain.additions.come_whole()
        messages = as_conversations([prompt])[0]
        return obtain.ask(Task(0, messages, 0, obtain.key(messages, 0)))

    try:
        answer = ask(Question(), YES)
    except RequestError as error:
        if error.status not in (400, 422):
            raise
        options.clear()
        answer = ask(Question(), YES)
    record = answer.record
    print(f"model        {model} answers ({short_line(record.text or '', 40)!r})")
    if record.completion_tokens is None:
        print("usage        not counted by the server -> token budgets rest on estimates")
    refused += answer.refused
    if refused:
        print(f"stream       refused with status {refused[0].status}")
        print("             -> answers come whole, each within timeout")
    if _report("json_schema", lambda: _keeps_to_schema(ask(Question(SCHEMA), PROSE))) != "yes":
        print("             -> every reply is checked all the same: a wrong one costs up to 2 more")
        print("                requests; where the form is refused, the schema is in the prompt")
    reader = Labels(LABELS, [])
    choice = ask_for_label(as_conversations([CHOICE])[0], reader)
    if _report("system turn", lambda: _takes_system(lambda: ask(Question(), choice))) != "yes":
        print("             -> what stands in it begins the user's turn")
    logprobs = Question(top_logprobs=20)
    found = _report("logprobs", lambda: _tells_logprobs(ask(logprobs, choice), reader))
    if not found.startswith(("yes", "given")):
        print("             -> label probabilities are shares of votes: n_samples requests a row,")
        print("                5 by default, in place of 1")
    if _report("seed", lambda: _keeps_seed(lambda: ask(Question(), DIGITS, seed=1))) != "yes":
        print("             -> only the cache makes an experiment repeatable")


def _report(name: str, check: Callable[[], str]) -> str:
    try:
        finding = check()
    except RequestError as error:
        finding = f"refused with status {error.status}" if error.status else str(error)
    print(f"{name:12} {finding}")
    return finding


def _keeps_to_schema(answer: Obtained) -> str:
    if answer.refused:
        instead = "json_object" if len(answer.refused) == 1 else "the prompt alone"
        return f"refused with status {answer.refused[0].status}, asked for by {instead}"
    try:
        parse_json(answer.record.text or "", SCHEMA)
    except UnusableError:
        return "taken, but not kept to"
    return "yes"


def _takes_system(ask: Callable[[], Obtained]) -> str:
    answer = ask()
    if answer.refused and answer.refused[-1].transient:
        answer = ask()  # it has to happen twice
    return f"refused with status {answer.refused[0].status}" if answer.refused else "yes"


def _tells_logprobs(answer: Obtained, reader: Labels) -> str:
    if answer.record.logprobs is None and answer.refused:
        return f"refused with status {answer.refused[0].status}"
    complaint = reader.complaint(answer.record)
    if complaint is None:
        return f"given, but {short_line(answer.record.text or '', 40)!r} is no label"
    return f"taken, but it {complaint}" if complaint else "yes"


def _keeps_seed(ask: Callable[[], Obtained]) -> str:
    texts = [ask().record.text for _ in range(2)]
    return "yes" if texts[0] == texts[1] else "taken, but two answers differ"
