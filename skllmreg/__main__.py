"""Command line: ``python -m skllmreg demo | doctor | serve | cache | batches``."""

import argparse
from importlib import import_module

from skllmreg import __version__

# Each command's module is imported when it is asked for.
_COMMANDS = {
    "demo": ("skllmreg.demo", "main", "a learning curve on real data: no key, no network"),
    "doctor": ("skllmreg._cli", "doctor", "check the connection to a language model"),
    "serve": ("skllmreg.llm._local", "main", "serve a model from a GGUF file on this machine"),
    "cache": ("skllmreg._cli", "cache", "look into the cache of language-model replies"),
    "batches": ("skllmreg._cli", "batches", "list, collect and cancel batch jobs"),
}


def main(argv=None):
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="skllmreg", description=__doc__.partition(":")[0] + ".")
    parser.add_argument("--version", action="version", version=f"skllmreg {__version__}")
    commands = parser.add_subparsers(metavar="command")
    for name, (module, function, help_) in _COMMANDS.items():
        # The command parses what follows its name, -h included.
        command = commands.add_parser(name, help=help_, add_help=False)
        command.set_defaults(module=module, function=function)
    args, rest = parser.parse_known_args(argv)
    if not hasattr(args, "module"):
        parser.print_help()
        return 0
    return getattr(import_module(args.module), args.function)(rest)


if __name__ == "__main__":
    raise SystemExit(main())
