"""The house of the edge: who imports whom, and how far one call goes."""

import ast
import sys
import threading
from pathlib import Path

import skllmreg
from skllmreg.llm import ChatModel

PACKAGE = Path(skllmreg.__file__).parent
ROOMS = {path.stem: ast.parse(path.read_text("utf-8")) for path in (PACKAGE / "llm").glob("*.py")}


def imported(tree):
    """The rooms that a room imports, within functions or not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("skllmreg.llm"):
            names = [node.module.rpartition(".")[2], *(alias.name for alias in node.names)]
            yield from (name for name in names if name in ROOMS)


def test_no_room_imports_itself_over_others():
    graph = {name: set(imported(tree)) for name, tree in ROOMS.items() if name != "__init__"}
    while leaves := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph


def test_no_private_attribute_of_another_package_is_used():
    """An attribute with an underscore is one of `self`, or of a name that is imported from here."""
    foreign = []
    for room, tree in ROOMS.items():
        own = {
            node.name if isinstance(node, ast.FunctionDef | ast.ClassDef) else node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            or (isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self")
        }
        # Of a ChatModel and an EmbeddingModel, in other rooms.
        own |= {"_obtain", "_run", "_params", "_expected_completion", "_vectors"}
        own |= {"_exit"}  # documented in `os`
        foreign += [
            f"{room}: {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            and node.attr not in own
        ]
    assert foreign == []


def test_one_call_enters_few_files_and_no_deep_chain(loopback, tmp_path):
    """With a new cache file; whoever has imported openai before, which may take a second."""
    ChatModel("tiny", base_url=loopback.base_url).complete(["a"])
    root, files, depths = str(PACKAGE), set(), {True: 0, False: 0}

    def profile(frame, event, argument):
        if event != "call" or not frame.f_code.co_filename.startswith(root):
            return
        own = []
        while frame is not None:
            if frame.f_code.co_filename.startswith(root) and frame.f_code.co_name != "<module>":
                own.append(frame.f_code.co_filename)
            frame = frame.f_back
        files.update(own)
        main = threading.current_thread() is threading.main_thread()
        depths[main] = max(len(own), depths[main])

    chat = ChatModel("tiny", base_url=loopback.base_url, cache=tmp_path / "new.sqlite3")
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        chat.complete(["a"])
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert len(files) <= 11, files
    # The threads are started three calls deep.
    assert max(depths[True], 3 + depths[False]) <= 13
