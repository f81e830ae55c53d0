"""The README's code is what users run first: it runs as printed."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_ten_lines_run_as_printed(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", BLOCKS[0]], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    assert re.fullmatch(r"accuracy from 10 labelled rows: 0\.9\d\n", run.stdout)
    assert not run.stderr


def test_lines_for_a_real_llm_construct():
    exec(compile(BLOCKS[1], "README.md", "exec"), {"descriptions": {"worst radius": "radius"}})
