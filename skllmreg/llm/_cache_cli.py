"""``python -m skllmreg cache``: look into the cache file, export it, prune it."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from skllmreg.exceptions import CacheError
from skllmreg.llm import _ledger
from skllmreg.llm._cache import Store, open_store
from skllmreg.llm._text import read_json
from skllmreg.utils._text import short_line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it could be done."""
    args = _parser().parse_args(argv)
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
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--file", default="default", help="the cache file (default: the user's)")
    choice = argparse.ArgumentParser(add_help=False)
    choice.add_argument("--model", type=_text, help="entries of this model")
    choice.add_argument(
        "--containing", type=_text, metavar="TEXT", help="entries whose prompt holds this text"
    )
    choice.add_argument(
        "--key", type=_text, nargs="+", metavar="PREFIX", help="entries whose key begins like this"
    )
    choice.add_argument("--older-than", type=float, metavar="DAYS", help="entries of before")
    parser = argparse.ArgumentParser(prog="python -m skllmreg cache", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
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
    what = "show the pauses that servers have asked for"
    action = actions.add_parser("pauses", parents=[common], help=what, description=what)
    action.add_argument("--lift", action="store_true", help="end them: the next run asks at once")
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
        "SELECT key FROM entries WHERE (:model IS NULL OR model = :model) "
        "AND (:before IS NULL OR created < :before) "
        "AND (:containing IS NULL OR instr(request, :containing)) ORDER BY created DESC",
        {"model": args.model, "before": before, "containing": containing},
    )
    prefixes = tuple(args.key) if args.key else ("",)
    return [key for (key,) in rows if key.startswith(prefixes)]


def _entries(store: Store, keys: list[str]) -> Iterator[dict[str, Any]]:
    """The entries themselves; what is damaged has None for a request or a reply."""
    for key in keys:
        for created, server, model, request, reply in store.read(
            "SELECT created, server, model, request, reply FROM entries WHERE key = ?", (key,)
        ):
            entry = {"key": key, "created": created, "server": server, "model": model}
            yield entry | {"request": _load(request), "reply": _load(reply)}


def _load(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return None


def _list(store: Store, args: argparse.Namespace) -> int:
    keys = _keys(store, args)
    n_shown = min(max(args.n, 0), len(keys))
    for entry in _entries(store, keys[:n_shown]):
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry["created"]))
        try:
            prompt = short_line(entry["request"]["messages"][-1]["content"])
            reply = short_line(entry["reply"]["text"] or "")
        except (KeyError, TypeError, AttributeError):
            prompt, reply = "damaged", "prune it"
        print(f"{entry['key'][:12]}  {day}  {short_line(entry['model'])}")
        print(f"    {prompt}\n    -> {reply}")
    print(f"{len(keys):,} entries in {store.path}" + (f", {n_shown} shown" if n_shown else ""))
    return 0


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
            f"{row.completion_tokens:11,}  {cost:>10}  {row.model}"
        )
    return 0
