import json
import subprocess
import sys

import pytest

from skllmreg._cli import cache as main
from skllmreg.llm import ChatModel
from tests.loopback import last


@pytest.fixture
def filled(loopback, tmp_path):
    loopback.reply = lambda body: f"\x1b[31mreply to {last(body)}"
    chat = ChatModel("tiny", base_url=loopback.base_url, prices=(1, 1))
    chat.complete(["first", "second"])
    ChatModel("other", base_url=loopback.base_url).complete(["first"])
    return chat


def test_list_shows_entries_without_control_characters(filled, capsys):
    assert main(["list", "-n", "2"]) == 0
    out = capsys.readouterr().out
    assert "[31mreply to first" in out
    assert "\x1b" not in out
    assert "3 entries in" in out
    assert "2 shown" in out


@pytest.mark.parametrize(
    ("choice", "n"),
    [
        (["--model", "tiny"], 2),
        (["--containing", "second"], 1),
        (["--older-than", "1"], 0),
        (["--older-than", "-1"], 3),
        (["--model", "tiny", "--containing", "first"], 1),
        (["--key", "%"], 0),
    ],
)
def test_entries_are_chosen_exported_and_pruned(filled, capsys, choice, n):
    assert main(["export", *choice]) == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(entries) == n
    assert main(["prune", *choice]) == 0
    assert f"{n} entries removed" in capsys.readouterr().out
    assert filled.quote(["first", "second"]).cached == 2 - sum(
        entry["model"] == "tiny" for entry in entries
    )


def test_an_entry_is_found_by_the_beginning_of_its_key(filled, capsys):
    main(["export", "--containing", "second"])
    (entry,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert entry["request"]["messages"] == [{"role": "user", "content": "second"}]
    main(["prune", "--key", entry["key"][:12]])
    assert filled.quote(["first", "second"]).cached == 1


def test_prune_wants_to_be_told_what(filled, capsys):
    assert main(["prune"]) == 2
    assert main(["prune", "--all", "--model", "tiny"]) == 2
    assert filled.quote(["first"]).cached == 1
    assert main(["prune", "--all"]) == 0
    assert filled.quote(["first"]).cached == 0
    assert sum(row.requests for row in filled.usage()) == 3


def test_usage_shows_the_ledger(filled, capsys):
    assert main(["usage"]) == 0
    out = capsys.readouterr().out
    assert "$0.0000  tiny" in out
    assert "unknown  other" in out


@pytest.mark.parametrize("option", ["--key", "--containing", "--model"])
def test_an_empty_text_chooses_nothing_instead_of_everything(filled, capsys, option):
    with pytest.raises(SystemExit):
        main(["prune", option, ""])
    assert "an empty text chooses nothing" in capsys.readouterr().err
    assert filled.quote(["first", "second"]).cached == 2


def test_a_reader_that_goes_away_is_no_error(filled):
    command = [sys.executable, "-m", "skllmreg", "cache", "export"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


@pytest.mark.parametrize("action", [["list"], ["prune", "--all"], ["pauses", "--lift"]])
def test_a_missing_file_is_told_and_not_made(tmp_path, capsys, action):
    path = tmp_path / "missing.sqlite3"
    assert main([*action, "--file", str(path)]) == 1
    assert str(path) in capsys.readouterr().err
    assert not path.exists()
