"""What the attribution benchmarks have in common: their options, heading and result files."""

import argparse
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CAUTION = (
    "The data sets are public and the LLM whose scores are used has probably read about them; "
    "expect less on data of your own."
)


def options(doc, quick):
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--data", default="../shared/data", help="folder of the data sets")
    parser.add_argument("--quick", action="store_true", help=f"{quick}; no files without --output")
    parser.add_argument("--output", type=Path, help="folder of the results")
    return parser


def output_folder(args):
    """Where results go: the folder that is asked for, else the usual one, unless in a hurry."""
    default = None if args.quick else Path(__file__).parent / "results"
    folder = args.output or default
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def made_by(*packages):
    """Command, machine and versions behind a result."""
    script = Path(sys.argv[0]).name
    lines = {"command": " ".join(["python", f"benchmarks/{script}", *sys.argv[1:]])}
    lines |= {"python": platform.python_version(), "platform": platform.platform()}
    lines["cores"] = str(os.cpu_count())
    for package in ("skllmreg", "scikit-learn", "numpy", *packages):
        try:
            lines[package] = version(package)
        except PackageNotFoundError:
            lines[package] = "not installed"
    return lines


def heading(title, made, caution=True):
    rest = ", ".join(f"{key} {value}" for key, value in made.items() if key != "command")
    caution = f"{CAUTION}\n\n" if caution else ""
    return f"# {title}\n\n{caution}Made by `{made['command']}` ({rest}).\n"


def save(folder, name, text, made, numbers):
    if folder is None:
        return
    (folder / f"{name}.md").write_text(text)
    content = {"caution": CAUTION, "made_by": made} | numbers
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1, default=float) + "\n")
