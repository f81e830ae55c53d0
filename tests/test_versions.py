"""The bounds in pyproject.toml are those that are tested."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
TESTED = [
    requirement
    for line in [
        *PROJECT["dependencies"],
        *sum(map(EXTRAS.get, ("test", "imblearn", "pandas", "plot", "text", "transformers")), []),
    ]
    if (requirement := Requirement(line)).name != PROJECT["name"]
]


def pins(name):
    """Versions of a constraints file, by normalized name."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    parsed = [Requirement(line.partition("#")[0]) for line in lines if line[0] != "#"]
    return {normal(r.name): Version(str(r.specifier).removeprefix("==")) for r in parsed}


def normal(name):
    return re.sub("[-_.]+", "-", name).lower()


@pytest.mark.parametrize("requirement", TESTED, ids=lambda r: r.name)
def test_a_lower_bound_is_the_oldest_version_that_is_tested(requirement):
    (bound,) = (Version(s.version) for s in requirement.specifier if s.operator == ">=")
    assert pins("constraints-oldest.txt")[normal(requirement.name)] == bound
    assert pins("constraints.txt")[normal(requirement.name)] in requirement.specifier


def test_the_oldest_python_is_the_one_that_is_tested():
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f"python{oldest} -m venv .venv-oldest" in (ROOT / "Makefile").read_text("utf-8")
    assert f"Programming Language :: Python :: {oldest}" in PROJECT["classifiers"]
