"""The README's code is what users run first: it runs as printed."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import skllmreg
from skllmreg import ChatModel

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_ten_lines_run_as_printed(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", BLOCKS[0]], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    assert re.fullmatch(r"accuracy from 10 labeled rows: 0\.9\d\n", run.stdout)
    assert not run.stderr


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
