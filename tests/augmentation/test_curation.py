import numpy as np
import pandas as pd
import pytest

from skllmreg.augmentation import GenerationRequest, _duplicates
from skllmreg.augmentation._curation import Curator
from skllmreg.augmentation._duplicates import RowIndex, refuse_neighbors
from skllmreg.augmentation._kinds import MOST_CHARACTERS, MOST_TIMES_LONGER, kind_of
from skllmreg.augmentation._schema import TableSchema

LABELED = ["Where is my parcel?", "I want my money back"]


def curate(X=LABELED, **params):
    """Make a curator; return its reasons as one text each."""
    curator = Curator(kind_of(X if hasattr(X, "iloc") else np.array(X)), **params)

    def admit(rows, labels, **asked):
        found = curator.admit(rows, labels, **asked)
        return [f"{reason}: {detail}" if detail else reason for reason, detail in found]

    return admit, curator


def table(n=60):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "height": rng.normal(170, 10, n),
            "floor": rng.integers(0, 30, n),
            "city": rng.choice(["Oslo", "Rome"], n),
            "note": [f"note {i} about what the person has said" for i in range(n)],
        }
    )


def test_labeled_earlier_and_simultaneous_rows_may_not_be_repeated():
    admit, _ = curate()
    assert admit(["where is my parcel", "Any news?", "any news"], "aaa") == [
        "duplicate",
        "",
        "duplicate",
    ]
    assert admit(["Any news", "Any other news?"], "aa") == ["duplicate", ""]


def test_near_duplicates_depend_on_the_threshold():
    texts = [
        "could you tell me where my green parcel is",
        "could you tell me where my red parcel is",
    ]
    for threshold, reason in ((0.75, "near-duplicate"), (0.85, ""), (None, "")):
        admit, _ = curate(duplicate_threshold=threshold)
        assert admit(texts, "aa") == ["", reason]


def test_invalid_rows_are_not_remembered_and_take_no_quota():
    admit, _ = curate(quotas={"a": 1})
    too_long = "word " * MOST_CHARACTERS
    reasons = admit([5, None, "", "?!", "a\x00b", too_long, "fine"], "aaaaaaa")
    assert [reason.partition(":")[0] for reason in reasons] == ["invalid"] * 6 + [""]
    assert "5 is not a text" in reasons[0]


def test_longer_labeled_rows_allow_longer_ones():
    labeled = ["word " * 200]
    assert kind_of(np.array(labeled)).most_characters == 999 * MOST_TIMES_LONGER
    assert kind_of(np.array(["a"])).most_characters == MOST_CHARACTERS


def test_quotas_are_kept_by_class_and_can_be_given_back():
    admit, curator = curate(quotas={"a": 2})
    assert admit(["one", "two", "three", "four"], "aaab") == ["", "", "quota", ""]
    curator.release(["a"])
    assert admit(["five", "six"], "aa") == ["", "quota"]


def test_a_row_refused_for_its_label_is_still_a_duplicate_when_it_comes_again():
    admit, curator = curate()
    admit(["something else"], "a")
    curator.release(["a"])
    assert admit(["Something else!"], "a") == ["duplicate"]


@pytest.fixture
def rows():
    X = table()
    return TableSchema.from_frame(X).rows(X)


def test_rows_of_a_table_are_near_within_the_radius(rows):
    X = table()
    schema = TableSchema.from_frame(X)
    index = RowIndex(schema, rows, 0.85)
    scale = X["height"].std(ddof=0)

    def moved(by):
        return index.add([rows[0] | {"height": rows[0]["height"] + by * scale}])[0]

    assert moved(0) == "duplicate"
    assert moved(1e-9) == "near-duplicate"
    assert moved(0.5 * index.radius) == "near-duplicate"
    assert moved(1.5 * index.radius) == ""


@pytest.mark.parametrize(
    "change", [{"city": "Oslo"}, {"note": "something else was said here then"}]
)
def test_another_category_or_text_makes_another_row(rows, change):
    row = next(row for row in rows if row["city"] == "Rome")
    index = RowIndex(TableSchema.from_frame(table()), rows, 0.85)
    assert index.add([row | change, row]) == ["", "duplicate"]


def test_without_a_threshold_only_equal_rows_are_refused(rows):
    index = RowIndex(TableSchema.from_frame(table()), rows, None)
    assert index.add([rows[0], rows[0] | {"height": rows[0]["height"] + 0.1}]) == ["duplicate", ""]


def test_one_far_number_makes_no_others_equal():
    X = pd.DataFrame({"age": [*range(20, 59), 999_999]})
    schema = TableSchema.from_frame(X)
    ages = [{"age": age} for age in (1, 2, 20, 105)]
    for threshold in (None, 0.8):
        index = RowIndex(schema, schema.rows(X), threshold)
        assert index.add(ages) == ["", "", "duplicate", ""]


def test_rows_of_the_table_itself_are_rarely_near_each_other():
    X = table(400).drop(columns="note")
    schema = TableSchema.from_frame(X)
    rows = schema.rows(X)
    statuses = RowIndex(schema, rows[:200], 0.85).add(rows[200:])
    assert np.mean(np.array(statuses) != "") < 0.1


def test_rows_that_are_all_alike_are_not_all_compared_with_each_other(monkeypatch):
    n_compared = []

    def count(first, second, refused):
        n_compared.append(len(first))
        return refuse_neighbors(first, second, refused)

    monkeypatch.setattr(_duplicates, "refuse_neighbors", count)
    X = np.arange(20.0)[:, None] * [1, 1]
    schema = TableSchema.from_frame(X)
    index = RowIndex(schema, schema.rows(X), 0.5)
    steps = np.linspace(0, index.radius / 2, 40) * X[:, 0].std()
    statuses = index.add([{"x0": 15 + a, "x1": 5 + b} for a in steps for b in steps])
    assert statuses == ["", *["near-duplicate"] * 1599]
    assert sum(n_compared) < 100 * 1600


@pytest.mark.parametrize("most_pairs", [0, 64])
def test_rows_are_refused_in_their_order_however_many_are_taken_at_a_time(most_pairs, monkeypatch):
    monkeypatch.setattr(_duplicates, "_MOST_PAIRS", most_pairs)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    schema = TableSchema.from_frame(X)
    index = RowIndex(schema, schema.rows(X), 0.2)
    points = rng.normal(size=(200, 2))
    kept, expected = list(X / X.std(axis=0)), []
    for point in points / X.std(axis=0):
        near = min(np.linalg.norm(point - other) for other in kept) < index.radius
        expected.append("near-duplicate" if near else "")
        kept += [] if near else [point]
    assert index.add([{"x0": a, "x1": b} for a, b in points]) == expected
    assert len(set(expected)) == 2


def test_a_missing_value_is_a_value_of_its_own():
    X = pd.DataFrame({"a": [1.0, 2.0, np.nan, 4.5], "b": [True, False, True, True]})
    schema = TableSchema.from_frame(X)
    index = RowIndex(schema, schema.rows(X), 0.85)
    assert index.add([{"a": None, "b": True}, {"a": None, "b": False}]) == ["duplicate", ""]
    assert index.add([]) == []


def test_one_labeled_row_is_enough():
    X = np.array([[1.0, 2.0]])
    assert curate(X)[0]([{"x0": 1, "x1": 2}], [0]) == ["duplicate"]


QUESTIONS = [
    "What does NASA stand for ?",
    "Who wrote Hamlet ?",
    "Where is Lake Como ?",
    "How many bones has a hand ?",
    "What is the capital of Peru ?",
    "Who was the first man in space ?",
] * 2
PROMPT = """You write training data for a classifier.

Task: Sort questions.
Classes:
- "NUM": asks for a number, date, amount or other numeric value

Write 8 new texts of the class "NUM". A careful reader puts each into this one and no other.

Real examples of the class.
"How many bones has a hand ?"

Spread the texts over these, freely combined:
- topic: sports records; the human body

Make them as different from each other and from the examples as texts by different people are."""
REQUEST = GenerationRequest(
    label="NUM",
    n_rows=8,
    seed_examples=["How many bones has a hand ?"],
    attributes={"topic": "sports records; the human body"},
)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("How many teeth does a grown dog have ?", ""),
        ("When was the first bridge over the Rhine built?", ""),
        ("How many texts are in the library of Alexandria ?", ""),
        ("Make them as different from each other and from the examples ?", "prompt"),
        ("Spread the texts over these, freely combined: sports records ?", "prompt"),
        ("asks for a number, date, amount or other numeric value", "prompt"),
        ("sports records", "prompt"),
        ("So how many bones has a hand ?", "prompt"),
        ("topic: how high can a man jump ?", "prompt"),
        ("1. How old is the universe ?", "form"),
        ("- How old is the universe ?", "form"),
        ('"How old is the universe ?"', "form"),
        ("How old is the universe ? (asks for a number)", "form"),
        ("How old is the universe ? It is 13 billion years old.", "form"),
        ("**How old is the universe ?**", "form"),
        ("How old is [insert a thing] ?", "form"),
        ("How old is the universe ?\nHow high is the Eiffel tower ?", "form"),
        ("The universe is 13 billion years old", "form"),
        ("Is this of NUM ?", "form"),
        ("How old is " + "the very very old " * 20 + "universe ?", "form"),
    ],
)
def test_what_repeats_the_request_or_is_unlike_all_labeled_texts_is_no_row(row, reason):
    admit, _ = curate(QUESTIONS)
    (found,) = admit([row], ["NUM"], prompt=PROMPT, request=REQUEST)
    assert found.partition(":")[0] == reason


def test_what_labeled_texts_have_themselves_is_no_foreign_form():
    labeled = ["1. Open the door (slowly).", '"Yes," she said? Then she left.', "**NB** [x]"]
    admit, _ = curate(labeled)
    rows = ["2. Shut the window (fast).", "Why? Nobody knows.", "**Note** [y] it"]
    assert admit(rows, ["a"] * 3) == [""] * 3


def test_a_label_that_is_a_word_may_stand_in_a_text_but_not_before_it():
    admit, _ = curate()
    rows = ["I want a refund for the lamp", "refund: the lamp is broken", "The lamp (refund)"]
    found = admit(rows, ["refund"] * 3, prompt=PROMPT, request=REQUEST)
    assert [reason.partition(":")[0] for reason in found] == ["", "form", "form"]


def test_of_a_function_no_row_repeats_instructions():
    admit, _ = curate(QUESTIONS)
    assert admit(["asks for a number, date, amount or other value ?"], ["NUM"]) == [""]


def test_a_reply_that_tells_about_texts_is_no_reply_of_texts():
    told = [f"The customer asked for {what}" for what in ("a refund", "a new lamp", "the bill")]
    admit, _ = curate()
    found = admit([*told, "I was billed twice"], "aaaa", prompt=PROMPT, request=REQUEST)
    assert [reason.partition(":")[0] for reason in found] == ["form"] * 3 + [""]


def test_rows_may_begin_alike_with_words_that_labeled_texts_have():
    rows = [f"I want my {what}" for what in ("lamp", "parcel now", "refund at last")]
    admit, _ = curate()
    assert admit(rows, "aaa", prompt=PROMPT, request=REQUEST) == [""] * 3
