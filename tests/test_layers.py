"""Who may import whom, read from the source of every module.

estimators -> numerics -> utils; the families never import each other; a heavy library is imported
only by the packages named here, and (but for those that are themselves imported lazily) only when
a function needs it.
"""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import skllmreg

PACKAGE = Path(skllmreg.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# What a part of the package may import of the other parts. A part is a subpackage or a module at
# the top; what is not listed here does not exist.
MAY_IMPORT = {
    "__init__": set(),
    "__main__": {"__init__", "_cli", "demo", "llm"},
    "_cli": {"exceptions", "llm", "utils"},
    "demo": {"attribution", "augmentation", "datasets", "exceptions", "llm", "selection"}
    | {"students", "utils"},
    "exceptions": set(),
    "utils": {"__init__", "exceptions"},
    "llm": {"__init__", "exceptions", "utils"},
    "nn": {"exceptions", "utils"},
    "datasets": {"attribution", "exceptions", "llm", "utils"},
    "students": {"exceptions", "nn", "utils"},
    "attribution": {"exceptions", "llm", "nn", "utils"},
    "selection": {"exceptions", "llm", "nn", "students", "utils"},
    "augmentation": {"exceptions", "llm", "nn", "students", "utils"},
}

# Where a heavy library may be imported at all (a part, or one module of it), and where it may
# stand at the top of a module, because that module is itself imported only when needed.
HEAVY = {
    "openai": {"llm/_transport"},
    "xllamacpp": {"llm/_local"},
    "torch": {"nn", "students"},
    "skorch": {"nn", "students"},
    "transformers": {"students"},
    "sentence_transformers": {"students"},
    "huggingface_hub": {"students"},
    "pandas": set(MAY_IMPORT),
    "matplotlib": set(MAY_IMPORT),
    "polars": set(),
}
AT_THE_TOP = {library: HEAVY[library] for library in ("torch", "skorch")}


def name_of(path):
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def part_of(path):
    return name_of(path).split("/")[0]


def imported(node, path):
    """Absolute dotted names of what an import statement may bind."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        folders = ("skllmreg", *path.relative_to(PACKAGE).parts[:-1])
        base = ".".join(folders[: len(folders) - node.level + 1] + ((base,) if base else ()))
    return [f"{base}.{alias.name}" for alias in node.names]


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path):
    """(dotted name, is inside a function) of every import of a module."""

    def walk(node, inside):
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield from ((name, inside) for name in imported(child, path))
            elif not is_type_checking(child):
                yield from walk(child, inside)

    return list(walk(tree(path), False))


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def defines_estimator(path):
    if part_of(path) == "utils":  # bases and mixins of those below
        return False
    bases = {"BaseEstimator", "AttributionModel", "BoostingModel", "SharedByClones"}
    classes = (node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))
    return any(bases.intersection(map(ast.unparse, c.bases)) for c in classes)


def test_parts_import_only_what_is_below_them():
    parts = set(map(part_of, MODULES))
    assert parts == set(MAY_IMPORT), "say in MAY_IMPORT what each part may import"
    wrong = []
    for path in MODULES:
        part = part_of(path)
        for name, _ in imports(path):
            root, *rest = name.split(".")
            other = rest[0] if rest and rest[0] in MAY_IMPORT else "__init__"
            if root == "skllmreg" and other != part and other not in MAY_IMPORT[part]:
                wrong.append(f"{name_of(path)} may not import {name}")
    assert not wrong


def test_heavy_libraries_are_imported_where_allowed_and_lazily():
    wrong = []
    for path in MODULES:
        places = {part_of(path), name_of(path)}
        for name, inside_function in imports(path):
            library = name.split(".")[0]
            if library not in HEAVY:
                continue
            if not places & HEAVY[library]:
                wrong.append(f"{name_of(path)} may not import {library}")
            elif not inside_function and not places & AT_THE_TOP.get(library, set()):
                wrong.append(f"{name_of(path)} imports {library} outside a function")
    assert not wrong


def test_only_estimators_import_estimators():
    estimators = {
        f"skllmreg.{name_of(path).replace('/', '.')}" for path in MODULES if defines_estimator(path)
    }
    wrong = [
        f"{name_of(path)} is numerics and may not import {name}"
        for path in MODULES
        if not defines_estimator(path) and path.stem != "__init__" and part_of(path) != "demo"
        for name, _ in imports(path)
        if {name, name.rpartition(".")[0]} & estimators
    ]
    assert not wrong


def modules_after(statement):
    code = f"{statement}\nimport sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in out.stdout.split()}


def test_import_loads_nothing_heavy():
    heavy = {"torch", "skorch", "openai", "pandas", "matplotlib", "sklearn", "scipy", "numpy"}
    assert not modules_after("import skllmreg") & heavy


@pytest.mark.slow
def test_public_names_import_nothing_heavy_that_scikit_learn_does_not():
    # scikit-learn itself imports pandas where it is installed.
    loaded = modules_after("from skllmreg import *") - modules_after("import sklearn.base")
    assert not loaded & {"torch", "skorch", "openai", "pandas", "matplotlib"}


def test_public_names_are_listed():
    assert set(skllmreg.__all__) <= set(dir(skllmreg))


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        skllmreg.nonsense  # noqa: B018
