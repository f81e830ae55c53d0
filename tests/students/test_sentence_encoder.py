"""Texts to vectors: each text is encoded once, and never by another encoder's vectors."""

import os
import pickle
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pandas as pd
import polars as pl
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from skllmreg import LLKDSelector
from skllmreg.exceptions import VectorCacheWarning
from skllmreg.students import SentenceEncoder, _encoders, _vectors

TEXTS = [f"text {i} of {'parcels' if i % 2 else 'refunds'}" for i in range(30)]
LABELS = np.array(["money", "parcel"] * 15)


class Counting:
    """Vectors from the letters of a text; notes every text it is asked for."""

    def __init__(self, n_letters=26, shift=0.0):
        self.n_letters = n_letters
        self.shift = shift
        self.seen = []

    def __call__(self, texts):
        self.seen += texts
        letters = [chr(ord("a") + i) for i in range(self.n_letters)]
        return np.array([[text.count(a) + self.shift for a in letters] for text in texts])


class Slow(Counting):
    def __call__(self, texts):
        time.sleep(0.02)
        return super().__call__(texts)


class WithEncode(Counting):
    def encode(self, texts):
        return self(texts)


class WithEmbed(Counting):
    def embed(self, texts):
        return self(texts)


# Importing sentence-transformers takes seconds.
loads_a_model = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_encoder(tmp_path_factory.mktemp("tiny") / "encoder", seed=0))


def tiny_encoder(path, seed):
    """A sentence encoder of a few hundred numbers, in a folder as the hub has them."""
    transformers = pytest.importorskip("transformers")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    import torch

    bert = path.parent / f"bert{seed}"
    bert.mkdir()
    words = ["text", "of", "parcels", "refunds", *map(str, range(30))]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (bert / "vocab.txt").write_text("\n".join(vocabulary))
    transformers.BertTokenizerFast(str(bert / "vocab.txt")).save_pretrained(bert)
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    transformers.BertModel(config).save_pretrained(bert)
    try:
        from sentence_transformers.sentence_transformer import modules
    except ImportError:
        from sentence_transformers import models as modules
    parts = [modules.Transformer(str(bert)), modules.Pooling(16)]
    sentence_transformers.SentenceTransformer(modules=parts, device="cpu").save(str(path))
    return path


@pytest.mark.parametrize("kind", [Counting, WithEncode, WithEmbed])
def test_any_encoder_is_taken_and_its_vectors_have_length_one(kind):
    model = kind()
    expected = Counting()(TEXTS)
    found = SentenceEncoder(model).fit_transform(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6
    )
    raw = SentenceEncoder(model, normalize=False).transform(TEXTS)
    np.testing.assert_array_equal(raw, expected.astype(np.float32))
    assert sorted(model.seen) == sorted(TEXTS)


def test_a_text_is_encoded_once_whatever_clones_and_folds_do():
    model = Counting()
    pipeline = make_pipeline(SentenceEncoder(model), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [1, 10, 100]}, cv=3)
    search.fit(TEXTS * 2, np.tile(LABELS, 2)).predict(TEXTS)
    assert sorted(model.seen) == sorted(TEXTS)


def test_a_text_is_encoded_once_whatever_the_rounds_of_a_selection_do():
    model = Counting()
    proba = 0.8 * (LABELS[:, None] == np.unique(LABELS)) + 0.1
    student = make_pipeline(SentenceEncoder(model), LogisticRegression())
    LLKDSelector(student, max_teacher_calls=10, random_state=0).fit(
        TEXTS, teacher_proba=proba, classes=np.unique(LABELS)
    )
    assert sorted(model.seen) == sorted(TEXTS)


def test_threads_that_ask_for_the_same_texts_wait_for_each_other():
    model = Slow()
    with ThreadPoolExecutor() as pool:
        for _ in range(4):
            pool.submit(SentenceEncoder(model).transform, TEXTS)
    assert sorted(model.seen) == sorted(TEXTS)


def test_bound_methods_and_objects_without_weak_references_are_known_again():
    model = Counting()
    for _ in range(2):
        SentenceEncoder(model.__call__).transform(TEXTS)
    assert len(model.seen) == len(TEXTS)

    class Bare:
        __slots__ = ("seen",)

        def __call__(self, texts):
            self.seen = len(texts)
            return np.ones((len(texts), 2))

    bare = Bare()
    SentenceEncoder(bare).transform(TEXTS)
    SentenceEncoder(bare).transform(TEXTS[:1])
    assert bare.seen == len(TEXTS)


def test_two_functions_of_one_name_have_vectors_of_their_own(tmp_path):
    for shift in (0.0, 1.0):

        def embed(texts, shift=shift):
            return Counting(shift=shift)(texts)

        found = SentenceEncoder(embed, cache=tmp_path / "v", normalize=False).transform(TEXTS)
        np.testing.assert_array_equal(found, Counting(shift=shift)(TEXTS))
    assert not (tmp_path / "v").exists()


def test_vectors_of_an_object_end_with_it():
    before = len(_encoders._memories)
    for i in range(5):
        SentenceEncoder(Counting(shift=i)).transform(TEXTS)
    assert len(_encoders._memories) <= before + 1


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "vectors.sqlite3"


def forget():
    _encoders._memories.clear()


def test_with_an_identity_vectors_outlive_the_process(cache):
    first, second = Counting(), Counting()
    found = SentenceEncoder(first, cache=cache, cache_id="letters").transform(TEXTS)
    again = SentenceEncoder(second, cache=cache, cache_id="letters").transform([*TEXTS, "new"])
    np.testing.assert_array_equal(found, again[:-1])
    assert second.seen == ["new"]


def test_another_identity_has_vectors_of_its_own(cache):
    SentenceEncoder(Counting(), cache=cache, cache_id="one").transform(TEXTS)
    other = Counting(shift=1.0)
    found = SentenceEncoder(other, cache=cache, cache_id="two", normalize=False).transform(TEXTS)
    np.testing.assert_array_equal(found, Counting(shift=1.0)(TEXTS))


def test_one_identity_for_vectors_of_two_lengths_is_an_error(cache):
    SentenceEncoder(Counting(26), cache=cache, cache_id="x").transform(TEXTS)
    with pytest.raises(ValueError, match="cache_id has to be another one"):
        SentenceEncoder(Counting(20), cache=cache, cache_id="x").transform([*TEXTS, "new"])


def test_encoders_that_share_a_file_wait_for_each_other(cache):
    models = [Slow() for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        for model in models:
            encoder = SentenceEncoder(model, cache=cache, cache_id="letters", batch_size=1)
            pool.submit(encoder.transform, TEXTS)
    assert sorted(sum((model.seen for model in models), [])) == sorted(TEXTS)


def encode_in_worker(model, cache, seconds):
    counted = []

    def slow(texts):
        time.sleep(seconds)
        counted.extend(texts)
        return model(texts)

    SentenceEncoder(slow, cache=cache, cache_id="letters", batch_size=4).transform(TEXTS)
    return len(counted)


@pytest.mark.slow
def test_worker_processes_that_share_a_file_encode_a_text_once(cache):
    done = Parallel(n_jobs=2)(delayed(encode_in_worker)(Counting(), cache, 0.02) for _ in range(4))
    assert sum(done) == len(TEXTS)


def test_the_file_is_private_and_holds_neither_texts_nor_pickles(cache):
    SentenceEncoder(Counting(), cache=cache, cache_id="letters").transform(TEXTS)
    if os.name == "posix":
        assert cache.stat().st_mode & 0o077 == 0
    content = cache.read_bytes()
    assert b"parcels" not in content
    assert b"numpy" not in content
    with closing(sqlite3.connect(cache)) as db:
        blobs = [np.frombuffer(blob, "<f4") for (blob,) in db.execute("SELECT vector FROM vectors")]
    assert {len(blob) for blob in blobs} == {26}


def test_the_default_file_is_beside_the_one_for_answers(tmp_path):
    SentenceEncoder(Counting(), cache_id="letters").transform(TEXTS)
    assert (tmp_path / "embeddings.sqlite3").exists()


@pytest.mark.parametrize("damage", ["garbage", "folder is a file"])
def test_a_file_that_cannot_be_used_costs_a_warning(cache, damage):
    if damage == "garbage":
        cache.write_bytes(b"no database" * 1000)
    else:
        cache.write_text("x")
        cache = cache / "below"
    with pytest.warns(VectorCacheWarning, match="cannot be used"):
        found = SentenceEncoder(Counting(), cache=cache, cache_id="x").transform(TEXTS)
    np.testing.assert_array_equal(found, SentenceEncoder(Counting()).transform(TEXTS))


def test_a_database_of_something_else_is_left_alone(cache):
    with closing(sqlite3.connect(cache)) as db:
        db.execute("CREATE TABLE precious (x)")
        db.commit()
    before = cache.read_bytes()
    with pytest.raises(ValueError, match="database of something else"):
        SentenceEncoder(Counting(), cache=cache, cache_id="x").transform(TEXTS)
    assert cache.read_bytes() == before


def test_memory_and_file_are_bounded(cache, monkeypatch):
    monkeypatch.setattr(_vectors, "MEMORY_BYTES", 20_000)
    monkeypatch.setattr(_vectors, "FILE_BYTES", 100_000)
    model = Counting()
    encoder = SentenceEncoder(model, cache=cache, cache_id="x", batch_size=8)
    texts = [f"text {i}" for i in range(2000)]
    found = encoder.transform(texts)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    encoder.transform(texts[-100:])
    assert len(model.seen) == 2000
    memory = _encoders.open_encoder(model, cache_id=None, batch_size=1, device=None).memory
    assert sum(map(len, memory.get(texts).values())) * 4 <= 20_000
    with closing(sqlite3.connect(cache)) as db:
        ((n,),) = db.execute("SELECT COUNT(*) FROM vectors")
    assert 100 < n < 1500
    assert cache.stat().st_size < 400_000


@loads_a_model
def test_vectors_are_those_of_sentence_transformers(folder, cache):
    library = pytest.importorskip("sentence_transformers")
    expected = library.SentenceTransformer(folder, device="cpu").encode(TEXTS)
    for _ in range(2):
        found = SentenceEncoder(folder, cache=cache, device="cpu", normalize=False).transform(TEXTS)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        forget()


@loads_a_model
def test_another_model_in_the_same_folder_gets_its_own_vectors(tmp_path, cache):
    found = []
    for seed in (0, 1):
        path = tiny_encoder(tmp_path / f"made{seed}", seed)
        target = tmp_path / "encoder"
        if target.exists():
            target.rename(tmp_path / "old")
        path.rename(target)
        found.append(SentenceEncoder(target, cache=cache, device="cpu").transform(TEXTS))
    assert np.abs(found[0] - found[1]).max() > 0.01


@loads_a_model
def test_a_pickled_encoder_holds_the_name_and_not_the_weights(folder):
    encoder = SentenceEncoder(folder, device="cpu", cache=None).fit(TEXTS)
    expected = encoder.transform(TEXTS)
    data = pickle.dumps(encoder)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).transform(TEXTS), expected)


@pytest.mark.parametrize(
    ("model", "error", "match"),
    [
        ("/no/such/folder", FileNotFoundError, "no folder '/no/such/folder'"),
        ("./nothing", FileNotFoundError, "no folder"),
        (3, ValueError, "model"),
    ],
)
def test_a_model_that_is_none_is_an_error(model, error, match):
    with pytest.raises(error, match=match):
        SentenceEncoder(model).fit(TEXTS)


@loads_a_model
def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path):
    pytest.importorskip("sentence_transformers")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="cannot load .*the folder holds no model"):
        SentenceEncoder(tmp_path).transform(TEXTS)


@loads_a_model
def test_without_the_extra_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    forget()
    _encoders._load.cache_clear()
    with pytest.raises(ImportError, match=r"skllmreg\[text\]"):
        SentenceEncoder(folder, cache=None).transform(["unseen text"])


@pytest.mark.parametrize(
    ("vectors", "match"),
    [
        (np.ones(30), r"shape \(30,\); expected one row for each text"),
        (np.ones((2, 3)), "one row for each text"),
        (np.full((30, 2), np.nan), "vector of the text .* is not finite"),
    ],
)
def test_what_is_not_a_vector_for_each_text_is_an_error(vectors, match):
    with pytest.raises(ValueError, match=match):
        SentenceEncoder(lambda texts: vectors).transform(TEXTS)


def test_a_vector_of_zeros_stays():
    assert not SentenceEncoder(lambda texts: np.zeros((len(texts), 3))).transform(TEXTS).any()


@pytest.mark.parametrize("wrong", ["one text", [1.0, 2.0], ["a", None], ["\ud800"]])
def test_anything_but_texts_is_an_error(wrong):
    with pytest.raises(ValueError, match="Row|sequence of texts"):
        SentenceEncoder(Counting()).transform(wrong)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_two_columns_bring_their_difference_and_product(frame):
    pairs = frame({"question": TEXTS, "answer": TEXTS[::-1]})
    encoder = SentenceEncoder(Counting()).fit(pairs)
    u = SentenceEncoder(Counting()).transform(TEXTS)
    v = u[::-1]
    np.testing.assert_array_equal(encoder.transform(pairs), np.hstack([u, v, np.abs(u - v), u * v]))
    names = encoder.get_feature_names_out()
    assert len(names) == 4 * 26
    assert names[[0, 26, 52, 78]].tolist() == [
        "question_0",
        "answer_0",
        "|question-answer|_0",
        "question*answer_0",
    ]


def test_a_missing_text_in_a_column_is_named():
    pairs = pd.DataFrame({"question": TEXTS, "answer": [*TEXTS[1:], None]})
    with pytest.raises(ValueError, match="Row 29 of column 'answer' of X is (None|nan), not a str"):
        SentenceEncoder(Counting()).transform(pairs)


def test_names_and_frames_come_out():
    encoder = SentenceEncoder(Counting(3)).set_output(transform="pandas")
    found = encoder.fit_transform(pd.Series(TEXTS, index=range(100, 130)))
    assert found.columns.tolist() == [f"sentenceencoder{i}" for i in range(3)]
    assert found.index.tolist() == list(range(100, 130))
    with pytest.raises(NotFittedError):
        SentenceEncoder(Counting()).get_feature_names_out()


def test_it_stands_in_a_column_transformer():
    frame = pd.DataFrame({"text": TEXTS, "n": range(30)})
    one = make_column_transformer((SentenceEncoder(Counting()), "text"), ("passthrough", ["n"]))
    two = make_column_transformer((SentenceEncoder(Counting()), ["text"]), ("passthrough", ["n"]))
    np.testing.assert_array_equal(one.fit_transform(frame), two.fit_transform(frame))
    assert two.get_feature_names_out()[0] == "sentenceencoder__text_0"


def test_contract():
    model = Counting()
    encoder = SentenceEncoder(model, cache_id="x")
    assert clone(encoder).model is model
    assert (
        cross_val_score(
            make_pipeline(encoder, LogisticRegression(C=30)), TEXTS, LABELS, cv=3
        ).mean()
        == 1
    )
