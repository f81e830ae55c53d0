import subprocess
import sys

import pytest

from skllmreg.__main__ import main


@pytest.mark.parametrize("argv", [[], ["nonsense"]])
def test_missing_or_unknown_command_lists_the_commands(argv, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    assert "command" in capsys.readouterr().err


def test_help_names_every_command_and_loads_nothing_heavy():
    code = (
        "import sys; from skllmreg.__main__ import main\n"
        "try: main(['-h'])\n"
        "except SystemExit: print('sklearn' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert all(command in out for command in ("demo", "doctor", "serve", "cache"))
    assert out.endswith("False\n")


def test_options_after_the_command_reach_it(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "--help"])
    assert exit_.value.code == 0
    assert "--splits" in capsys.readouterr().out
