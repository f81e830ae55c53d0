import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skllmreg.augmentation import _duplicates
from skllmreg.augmentation._duplicates import TextIndex, hash_words, refuse_neighbors

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
@pytest.mark.parametrize("most_pairs", [0, 1, 64])
def test_all_pairs_of_longer_texts_are_found_across_bands_and_chunks(
    threshold, most_pairs, monkeypatch
):
    monkeypatch.setattr(_duplicates, "_CHUNK", 64)
    monkeypatch.setattr(_duplicates, "_MOST_PAIRS", most_pairs)
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


def test_texts_that_are_all_alike_are_not_all_compared_with_each_other(monkeypatch):
    n_compared = []

    def count(codes, starts, first, second, threshold):
        n_compared.append(len(first))
        return are_alike(codes, starts, first, second, threshold)

    are_alike = _duplicates._are_alike
    monkeypatch.setattr(_duplicates, "_are_alike", count)
    template = "my order has not arrived yet and i would like to know where it is now number"
    statuses = TextIndex(0.8).add([f"{template} {i}" for i in range(2000)])
    assert statuses == ["", *["near-duplicate"] * 1999]
    assert sum(n_compared) < 50 * 2000


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
@settings(deadline=None)
def test_equal_words_have_equal_hashes_wherever_they_stand(texts):
    words, starts = hash_words(texts)
    again, starts_again = hash_words([*texts[::-1], "x"])
    assert starts[-1] == len(words)
    for i, j in enumerate(range(len(texts) - 1, -1, -1)):
        if texts[i].isascii() and "".join(texts).isascii():
            a, b = words[starts[i] : starts[i + 1]], again[starts_again[j] : starts_again[j + 1]]
            assert a.tolist() == b.tolist()
