"""`LocalServer` around a server that stands in for llama.cpp's; tests/live has the real one."""

import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from skllmreg.__main__ import main
from skllmreg.exceptions import LLMError, ReplayMissError
from skllmreg.llm import ChatModel, LocalServer
from skllmreg.llm._settings import Settings

# The part of xllamacpp that is used. A file that contains "broken" cannot be loaded.
STAND_IN = """
import sys, types
from tests.loopback import Loopback

def CommonParams():
    return types.SimpleNamespace(
        model=types.SimpleNamespace(),
        cpuparams=types.SimpleNamespace(),
        cpuparams_batch=types.SimpleNamespace(),
    )

class Server:
    def __init__(self, params):
        if b"broken" in open(params.model.path, "rb").read():
            print("0.00.1 I srv  init: loading", file=sys.stderr)
            print("0.00.2 E srv  load_model: tensors are missing", file=sys.stderr)
            raise RuntimeError("Failed to init server")
        loopback = Loopback()
        loopback.reply = lambda body: f"{params.n_ctx} {params.api_prefix}"
        self.listening_address = loopback.base_url.removesuffix("/v1")
"""


@pytest.fixture
def gguf(tmp_path, monkeypatch):
    (tmp_path / "xllamacpp.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "small.gguf"
    path.write_bytes(b"GGUF and weights")
    return path


def test_it_serves_a_model_until_the_block_ends(gguf):
    with LocalServer(gguf, n_parallel=2, context=100) as server:
        chat = ChatModel(server.model, base_url=server.url, max_retries=0)
        text = chat.complete(["Hi"])[0].text
        assert text == f"200 {server.url.removesuffix('/v1')[server.url.index('/gguf') :]}"
        assert "serving at http://127.0.0.1:" in repr(server)
    assert "not started" in repr(server)
    with pytest.raises(LLMError, match=r"small.gguf' is not running"):
        _ = server.url
    with pytest.raises(LLMError, match="cannot be reached"):
        chat.complete(["Hello"])


def test_tomorrows_server_finds_todays_replies_whatever_its_port_and_file_name(gguf):
    with LocalServer(gguf) as server:
        today = server.url
        ChatModel(server.model, base_url=today).complete(["Hi"])
    renamed = gguf.rename(gguf.with_name("other.gguf"))
    with LocalServer(renamed, n_parallel=1) as server:
        assert server.url != today
        chat = ChatModel(server.model, base_url=server.url, mode="replay")
        assert chat.complete(["Hi"])[0].cached
        # No server is needed for a replay, and each file has replies of its own.
        assert ChatModel("any", base_url=today, mode="replay").complete(["Hi"])[0].cached
    other = today.replace("/gguf-", "/gguf-0", 1).replace("-4096", "")[:-3] + "0-4096/v1"
    with pytest.raises(ReplayMissError):
        ChatModel("small", base_url=other, mode="replay").complete(["Hi"])


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/v1", "http://example.org/gguf-0123456789abcdef-10/v1"]
)
def test_other_servers_are_known_by_their_address(url):
    assert Settings("tiny", base_url=url).identity == (url, "tiny")


def test_another_file_or_context_is_another_server(gguf):
    def path(**params):
        with LocalServer(gguf, **params) as server:
            return Settings("small", base_url=server.url).server

    first = path()
    assert path(context=512) != first
    gguf.write_bytes(b"GGUF and other weights")
    assert path() != first


def test_the_child_ends_when_its_parent_is_killed(gguf):
    code = (
        f"import os, sys, time\nsys.path[:] = {sys.path!r}\n"
        f"from skllmreg.llm import LocalServer\nserver = LocalServer({str(gguf)!r}).start()\n"
        "if os.fork() == 0: time.sleep(12); os._exit(0)\n"  # a worker that keeps the pipe open
        "print(server._stop.peek()[2][0].pid, os.getpid(), flush=True); time.sleep(20)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with parent:
        child, parent_pid = map(int, parent.stdout.readline().split())
        assert is_running(child)
        os.kill(parent_pid, signal.SIGKILL)
        end = time.monotonic() + 10
        while is_running(child) and time.monotonic() < end:
            time.sleep(0.05)
        assert not is_running(child)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_the_server_says_is_in_the_error(gguf):
    gguf.write_bytes(b"GGUF broken")
    with pytest.raises(LLMError, match=r"small.gguf': tensors are missing \(exit status 1\)"):
        LocalServer(gguf).start()


def test_a_missing_package_is_named(gguf, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'skllmreg\[local\]'"):
        LocalServer(gguf).start()


def test_a_file_that_is_no_model_is_named(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match=r"absent.gguf' does not exist"):
        LocalServer(tmp_path / "absent.gguf").start()
    with pytest.raises(FileNotFoundError, match="is a folder"):
        LocalServer(tmp_path).start()
    (tmp_path / "model.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(ValueError, match=r"model.safetensors' is not a GGUF file"):
        LocalServer(tmp_path / "model.safetensors").start()
    assert main(["serve", str(tmp_path / "absent.gguf")]) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_parallel": 0}, "n_parallel is a whole number, 1 or more, got 0"),
        ({"n_threads": 1.5}, "n_threads is a whole number"),
        ({"context": None}, "context is a whole number"),
        ({"port": 70000}, "port is at most 65535"),
    ],
)
def test_wrong_parameters_are_named(gguf, params, match):
    with pytest.raises(ValueError, match=match):
        LocalServer(gguf, **params).start()


def test_all_parts_of_a_split_model_are_its_identity(gguf):
    parts = [gguf.with_name(f"big-0000{i}-of-00002.gguf") for i in (1, 2)]
    parts[0].write_bytes(b"GGUF one")
    with pytest.raises(FileNotFoundError, match=r"lacks its part 'big-00002-of-00002.gguf'"):
        LocalServer(parts[0]).start()
    identities = set()
    for second in (b"GGUF two", b"GGUF three"):
        parts[1].write_bytes(second)
        with LocalServer(parts[0]) as server:
            assert server.model == "big"
            identities.add(Settings("big", base_url=server.url).server)
    assert len(identities) == 2


def test_it_is_not_pickled(gguf):
    with pytest.raises(TypeError, match="Give other processes its url"):
        pickle.dumps(LocalServer(gguf))


def test_the_command_prints_how_the_model_is_reached(gguf):
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n"]
    command[-1] += "from skllmreg.__main__ import main; sys.exit(main())"
    command += ["serve", str(gguf), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
    assert line.startswith('ChatModel("small", base_url="http://127.0.0.1:')
    assert process.returncode == 0
