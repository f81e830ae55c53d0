"""The README's code is what users run first: it runs as printed."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import skllmreg
from skllmreg import ChatModel

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def accuracies(printed):
    return tuple(float(line.split()[-3]) for line in printed.splitlines())


@pytest.mark.slow
def test_the_first_lines_print_what_they_say_and_win(tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKS[0]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    printed = re.search(r"^```text\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL).group(1)
    without, with_scores = accuracies(run.stdout)
    assert (without, with_scores) == pytest.approx(accuracies(printed), abs=0.003)
    assert with_scores > without


@pytest.mark.slow
def test_lines_for_a_real_llm_fit(loopback, monkeypatch):
    def reply(body):
        names = body["response_format"]["json_schema"]["schema"]["properties"]
        return json.dumps(dict.fromkeys(names, -3))

    loopback.reply = reply
    real = partial(ChatModel, base_url=loopback.base_url)
    monkeypatch.setattr(skllmreg, "ChatModel", real)
    scope = {}
    for block in BLOCKS[:2]:
        exec(compile(block, "README.md", "exec"), scope)
    assert loopback.requests
