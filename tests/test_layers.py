"""Who may import whom, read from the source of every module.

estimators -> numerics -> utils; the families never import each other; a heavy library is imported
only by the packages named here, and (but for those that are themselves imported lazily) only when
a function needs it.
"""

import ast
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
    "__main__": {"__init__", "llm", "demo"},
    "demo": {"attribution", "augmentation", "datasets", "exceptions", "llm", "selection"}
    | {"students", "utils"},
    "exceptions": set(),
    "utils": {"__init__", "exceptions"},
    "llm": {"__init__", "exceptions", "utils"},
    "nn": {"exceptions", "utils"},
    "datasets": {"exceptions", "llm", "utils"},
    "students": {"exceptions", "nn", "utils"},
    "attribution": {"exceptions", "llm", "nn", "utils"},
    "selection": {"exceptions", "llm", "nn", "students", "utils"},
    "augmentation": {"exceptions", "llm", "nn", "students", "utils"},
}

# Where a heavy library may be imported at all (a part, or one module of it), and where it may
# stand at the top of a module, because that module is itself imported only when needed.
HEAVY = {
    "openai": {"llm"},
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


def imports(path):
    """Yield (dotted name, is inside a function) for every import of a module."""

    def walk(node, inside):
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield from ((name, inside) for name in imported(child, path))
            elif not is_type_checking(child):
                yield from walk(child, inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_parts_import_only_what_is_below_them(path):
    part = part_of(path)
    assert part in MAY_IMPORT, f"say in MAY_IMPORT what {part} may import"
    for name, _ in imports(path):
        root, *rest = name.split(".")
        if root == "skllmreg":
            other = rest[0] if rest and rest[0] in MAY_IMPORT else "__init__"
            assert other == part or other in MAY_IMPORT[part], f"{part} may not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_libraries_are_imported_where_allowed_and_lazily(path):
    places = {part_of(path), name_of(path)}
    for name, inside_function in imports(path):
        library = name.split(".")[0]
        if library in HEAVY:
            assert places & HEAVY[library], f"{name_of(path)} may not import {library}"
            lazy = inside_function or places & AT_THE_TOP.get(library, set())
            assert lazy, f"{name_of(path)} imports {library} outside a function"


def defines_estimator(path):
    classes = [
        n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.ClassDef)
    ]
    bases = {"BaseEstimator", "AttributionModel"}
    return any(bases.intersection(map(ast.unparse, c.bases)) for c in classes)


@pytest.mark.parametrize("path", [p for p in MODULES if p.stem != "__init__"], ids=name_of)
def test_only_estimators_import_estimators(path):
    if defines_estimator(path) or part_of(path) == "demo":
        return
    estimators = {
        f"skllmreg.{name_of(p).replace('/', '.')}" for p in MODULES if defines_estimator(p)
    }
    for name, _ in imports(path):
        assert name.rpartition(".")[0] not in estimators, f"numerics may not import {name}"
        assert name not in estimators, f"numerics may not import {name}"


def modules_after(statement):
    code = f"{statement}\nimport sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in out.stdout.split()}


def test_import_loads_nothing_heavy():
    heavy = {"torch", "skorch", "openai", "pandas", "matplotlib", "sklearn", "scipy", "numpy"}
    assert not modules_after("import skllmreg") & heavy


def test_public_names_import_nothing_heavy_that_scikit_learn_does_not():
    # scikit-learn itself imports pandas where it is installed.
    loaded = modules_after("from skllmreg import *") - modules_after("import sklearn.base")
    assert not loaded & {"torch", "skorch", "openai", "pandas", "matplotlib"}


def test_public_names_are_listed():
    assert set(skllmreg.__all__) <= set(dir(skllmreg))


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        skllmreg.nonsense  # noqa: B018
