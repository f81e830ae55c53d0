"""``python -m skllmreg cache``: look into the cache file, export it, prune it."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from skllmreg.exceptions import CacheError
from skllmreg.llm import _ledger
from skllmreg.llm._cache import Store, open_store


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it could be done."""
    args = _parser().parse_args(argv)
    try:
        store = open_store(args.file, read_only=args.action != "prune")
        return args.run(store, args)
    except CacheError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--file", default="default", help="the cache file (default: the user's)")
    choice = argparse.ArgumentParser(add_help=False)
    choice.add_argument("--model", help="entries of this model")
    choice.add_argument("--containing", metavar="TEXT", help="entries whose prompt holds this text")
    choice.add_argument("--key", metavar="PREFIX", help="entries whose key begins like this")
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
    return parser


def _entries(store: Store, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The entries that the arguments choose, the newest first."""
    chosen = {
        "model": args.model,
        "key": args.key,
        "before": None if args.older_than is None else time.time() - 86_400 * args.older_than,
    }
    with store.reading() as db:
        for key, created, server, model, request, reply in db.execute(
            "SELECT key, created, server, model, request, reply FROM entries "
            "WHERE (:model IS NULL OR model = :model) AND (:before IS NULL OR created < :before) "
            "AND (:key IS NULL OR substr(key, 1, length(:key)) = :key) ORDER BY created DESC",
            chosen,
        ):
            asked = json.loads(request)
            if args.containing is None or any(
                args.containing in message["content"] for message in asked["messages"]
            ):
                yield {
                    "key": key,
                    "created": created,
                    "server": server,
                    "model": model,
                    "request": asked,
                    "reply": json.loads(reply),
                }


def _list(store: Store, args: argparse.Namespace) -> int:
    n = 0
    for n, entry in enumerate(_entries(store, args), start=1):
        if n <= args.n:
            day = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry["created"]))
            prompt = _short(entry["request"]["messages"][-1]["content"])
            reply = _short(entry["reply"]["text"] or "")
            print(f"{entry['key'][:12]}  {day}  {entry['model']}\n    {prompt}\n    -> {reply}")
    print(f"{n:,} entries in {store.path}" + (f", {args.n} shown" if n > args.n else ""))
    return 0


def _short(text: str, width: int = 90) -> str:
    """One printable line: a reply may hold control characters that a terminal obeys."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return line if len(line) <= width else line[: width - 3] + "..."


def _export(store: Store, args: argparse.Namespace) -> int:
    for entry in _entries(store, args):
        print(json.dumps(entry))
    return 0


def _prune(store: Store, args: argparse.Namespace) -> int:
    chosen = (args.model, args.containing, args.key, args.older_than)
    if args.all == any(value is not None for value in chosen):
        print("Say which entries, or --all.", file=sys.stderr)
        return 2
    keys = [(entry["key"],) for entry in _entries(store, args)]
    with store.writing() as db:
        db.executemany("DELETE FROM entries WHERE key = ?", keys)
    with store.reading() as db:
        db.execute("VACUUM")
    print(f"{len(keys):,} entries removed from {store.path}")
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
