import subprocess
import sys

import pytest

from skllmreg import demo


@pytest.mark.slow
def test_demo_prints_table_provenance_and_real_llm(tmp_path, capsys):
    figure = tmp_path / "curve.png"
    assert demo.main(["--splits", "1", "--output", str(figure)]) == 0
    out = capsys.readouterr().out
    for text in ("logistic regression", "LLM's scores alone", "paper's setting", "auto", "± "):
        assert text in out
    assert "may have read about it" in out
    assert "+ 150 labeled by an LLM" in out
    assert "too easy for a claim" in out
    assert "drawn at random" in out
    assert "+ 300 written by an LLM" in out
    assert "written by a large language model for this project" in " ".join(out.split())
    assert "llm=ChatModel(" in out
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_demo_works_without_matplotlib(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for module, computed in (
        (demo, "learning_curves"),
        (demo._distill, "accuracies"),
        (demo._generate, "accuracies"),
    ):
        monkeypatch.setattr(module, computed, lambda n_splits, tick: {})
    assert demo.main(["--splits", "1", "--output", str(tmp_path / "curve.png")]) == 0
    assert "skllmreg[plot]" in capsys.readouterr().out


@pytest.mark.slow
def test_module_runs_from_the_command_line():
    command = [sys.executable, "-m", "skllmreg", "demo", "--help"]
    assert subprocess.run(command, capture_output=True, check=True).stdout
