import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skllmreg import GOLDAugmenter
from skllmreg.augmentation import _duplicates
from skllmreg.augmentation._duplicates import TextIndex, refuse_neighbors, split_words
from skllmreg.students import SentenceEncoder, TextClassifier

WORDS = st.lists(st.sampled_from(list("abcdefghij")), min_size=1, max_size=12)


def one_by_one(texts, threshold):
    """What the index says, by comparing every pair."""
    kept, sequences, statuses = [], set(), []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        found = set(words)
        if tuple(words) in sequences:
            statuses.append("duplicate")
        elif threshold is not None and any(
            len(found & other) >= threshold * len(found | other) - 1e-9 for other in kept
        ):
            statuses.append("near-duplicate")
        else:
            statuses.append("")
            kept.append(found)
        sequences.add(tuple(words))
    return statuses


@given(
    texts=st.lists(WORDS.map(" ".join), max_size=40),
    threshold=st.sampled_from([None, 0.3, 0.5, 0.6, 0.7, 0.75, 0.85, 0.9, 1.0]),
    cuts=st.lists(st.integers(1, 10), min_size=1, max_size=5),
)
@settings(deadline=None)
def test_all_pairs_are_found_however_the_texts_arrive(texts, threshold, cuts):
    index, found = TextIndex(threshold), []
    while len(found) < len(texts):
        found += index.add(texts[len(found) : len(found) + cuts[len(found) % len(cuts)]])
    assert found == one_by_one(texts, threshold)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.85])
@pytest.mark.parametrize("block", [7, 1024])
def test_all_pairs_of_longer_texts_are_found_across_blocks(threshold, block, monkeypatch):
    monkeypatch.setattr(_duplicates, "_BLOCK", block)
    rng = np.random.default_rng(0)
    texts = []
    for size in rng.integers(1, 120, 150):
        words = [f"w{i}" for i in rng.zipf(1.3, size) % 400]
        texts.append(" ".join(words))
        for _ in range(rng.integers(3)):
            words[rng.integers(size)] = f"v{rng.integers(9)}"
            texts.append(" ".join(words[rng.integers(2) :]) or "x")
    statuses = TextIndex(threshold).add(texts)
    assert statuses == one_by_one(texts, threshold)
    assert {"", "duplicate", "near-duplicate"} >= set(statuses) > {""}


def test_texts_that_are_all_alike_are_compared_with_the_first():
    template = "my order has not arrived yet and i would like to know where it is now number"
    statuses = TextIndex(0.8).add([f"{template} {i}" for i in range(2000)])
    assert statuses == ["", *["near-duplicate"] * 1999]


class Meanings:
    """An encoder for which the last word is the meaning, and a number how far off it is."""

    def transform(self, texts):
        angles = [float(text.split()[-1]) for text in texts]
        return np.array([[np.cos(angle), np.sin(angle)] for angle in angles])


@pytest.mark.parametrize("block", [1, 2, 1024])
def test_texts_of_one_meaning_are_near_in_whatever_words(block, monkeypatch):
    monkeypatch.setattr(_duplicates, "_BLOCK", block)
    texts = ["refund me 0.0", "money back please 0.1", "where is it 1.0", "parcel late 0.3"]
    # cos .1 = .995, cos .3 = .955, cos .4 = .92
    expected = ["", "near-duplicate", "", "near-duplicate"]
    assert TextIndex(0.85, Meanings()).add(texts) == expected
    assert TextIndex(0.85, Meanings()).add([*texts, "something new 0.4"])[-1] == ""
    assert TextIndex(0.85).add(texts) == [""] * 4
    assert TextIndex(None, Meanings()).add(texts) == [""] * 4


def test_a_text_that_means_the_same_as_a_refused_one_only_stays():
    texts = ["one 0.0", "two 0.25", "three 0.5"]
    assert TextIndex(0.85, Meanings()).add(texts) == ["", "near-duplicate", ""]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is my parcel?", "where is MY parcel"),
        ("Café, s'il vous plaît", "cafe\u0301 s il vous plaît"),
        ("ＡＢＣ def", "abc def"),
        ("“Quoted” text — here", "quoted text here"),
        ("???", "???"),
    ],
)
def test_case_punctuation_and_forms_of_letters_make_no_new_text(one, other):
    assert TextIndex(None).add([one, other]) == ["", "duplicate"]


def test_characters_of_scripts_without_spaces_are_words():
    texts = ["我的包裹在哪里呢", "我的包裹在那里呢"]  # 7 of 9
    assert TextIndex(0.8).add(texts) == ["", ""]
    assert TextIndex(0.75).add(texts) == ["", "near-duplicate"]


def test_texts_without_words_are_told_apart():
    assert TextIndex(0.8).add(["???", "!!!", "", "   "]) == ["", "", "", ""]


def test_a_text_near_a_refused_one_only_stays():
    a, b, c = "a b c d e f", "a b c d e x", "a b c d y x"  # a - b - c, a and c are apart
    assert TextIndex(0.7).add([a, b, c]) == ["", "near-duplicate", ""]
    assert refuse_neighbors(np.array([0, 1]), np.array([1, 2]), np.zeros(3, bool)).tolist() == [
        False,
        True,
        False,
    ]


def test_a_gigantic_text_and_none_are_no_problem():
    index = TextIndex(0.85)
    assert index.add([]) == []
    assert index.add(["word " * 300_000, "x" * 2_000_000, "\ud800 lone"]) == ["", "", ""]


@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=8))
@settings(deadline=None, max_examples=30)
def test_no_text_is_without_words_and_a_text_twice_is_a_duplicate(texts):
    assert all(map(split_words, texts))
    assert TextIndex(0.85).add([*texts, texts[0]])[-1] == "duplicate"


def letters(texts):
    return np.array([[text.count(chr(97 + i)) for i in range(26)] for text in texts], dtype=float)


@pytest.mark.parametrize(
    "params",
    [
        {"encoder": letters},
        {"encoder": SentenceEncoder(letters), "estimator": TextClassifier(n_features=2**10)},
        {"estimator": TextClassifier(letters, n_features=2**10)},
        {"estimator": make_pipeline(SentenceEncoder(letters), LogisticRegression())},
    ],
)
def test_the_augmenter_refuses_what_its_encoder_finds_the_same(params):
    X = ["where is my parcel", "it has not come", "i want a refund", "give it back"]
    y = ["parcel", "parcel", "money", "money"]

    def generator(request):
        return [
            " ".join(reversed(X[0].split()))[::-1] if request.label == "parcel" else "cash " * 3
        ]

    model = GOLDAugmenter(generator=generator, n_samples=2, n_rounds=1, **params).fit(X, y)
    assert list(model.X_generated_) == ["cash cash cash"]
    assert any(reason == "near-duplicate" for _, _, _, reason, _ in model.rejected_)
