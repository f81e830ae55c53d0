import subprocess
import sys

import pytest

import skllmreg
from skllmreg.__main__ import main


def test_an_unknown_command_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["nonsense"])
    assert exit_.value.code == 2
    assert "demo" in capsys.readouterr().err


def test_without_a_command_the_help_is_printed(capsys):
    assert main([]) == 0
    assert "doctor" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"skllmreg {skllmreg.__version__}\n"


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
