"""Curation of what a small model really wrote, against marks that were set by hand.

`weak_rows.jsonl` holds the raw rows of Qwen2.5-Coder-1.5B-Instruct (4 bits, llama.cpp) for requests
about the messages of `load_helpdesk`: `seeds` are positions there, and `is_row` says of each row
whether it is a message (1), or something else in its place (0), whatever its class. The marks were
set by the authors, who saw these rows while they wrote the curation.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from skllmreg.augmentation import GenerationRequest
from skllmreg.augmentation._curation import Curator
from skllmreg.augmentation._kinds import Texts
from skllmreg.augmentation._writers import rows_question
from skllmreg.datasets import load_helpdesk, load_helpdesk_generation
from skllmreg.utils._text import words

RECORDED = Path(__file__).with_name("weak_rows.jsonl")


@pytest.fixture(scope="module")
def curated():
    """Rows with their marks and what curation says of them; the messages shown."""
    bunch, messages = load_helpdesk_generation(), np.array(load_helpdesk().data, dtype=object)
    kind = Texts(np.array(bunch.data, dtype=object))
    curator, found = Curator(kind), []
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        reply = json.loads(line)
        request = GenerationRequest(
            reply["label"],
            reply["n_rows"],
            seed_examples=messages[reply["seeds"]].tolist(),
            feedback=reply["feedback"],
            attributes=reply["attributes"],
        )
        classes = list(bunch.class_descriptions)
        prompt = rows_question(bunch.task, request, classes, bunch.class_descriptions, kind)
        rows = [kind.from_json(row) for row in reply["rows"]]
        labels = [reply["label"]] * len(rows)
        reasons = curator.admit(rows, labels, prompt=prompt, request=request)
        found += zip(rows, reply["is_row"], [r for r, _ in reasons], strict=True)
    return found, bunch.data


def test_nearly_all_rows_are_kept_that_repeat_nothing(curated):
    rows = [reason for _, is_row, reason in curated[0] if is_row and "duplicate" not in reason]
    assert len(rows) > 50
    assert sum(not reason for reason in rows) >= 0.9 * len(rows)


def test_hardly_anything_is_kept_that_is_no_row(curated):
    kept = [is_row for _, is_row, reason in curated[0] if not reason]
    assert sum(not is_row for is_row in kept) <= 0.05 * len(kept)


def test_no_labeled_message_is_among_the_rows_kept(curated):
    labeled = {tuple(words(text)) for text in curated[1]}
    assert not any(tuple(words(row)) in labeled for row, _, reason in curated[0] if not reason)
