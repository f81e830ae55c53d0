"""
From eighteen messages to three hundred
=======================================

Three labeled messages for each class of a help desk, and a language model that writes more: how
far does a small model get with what was written?
"""

# %%
# The messages and who writes more
# --------------------------------
# A large language model has answered the requests of this example once; its replies ship with the
# package and are replayed here, so that no key and no network are needed. With a model of your own,
# pass ``llm=ChatModel(...)``.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skllmreg import GenerationDisplay, GOLDAugmenter
from skllmreg.datasets import load_helpdesk, load_helpdesk_generation
from skllmreg.students import TextClassifier

recorded = load_helpdesk_generation()
print(recorded.DESCR)

# %%
# Fifty rows of each class are wanted. In every round half of the requests ask for messages on other
# topics; what of these the student finds unfamiliar, but not the most unfamiliar, is shown in
# requests of the next round.

model = GOLDAugmenter(
    llm=recorded.llm,
    task=recorded.task,
    class_descriptions=recorded.class_descriptions,
    strategy="gold",
    n_novel_batches=6,
    n_samples=300,
    batch_size=14,
    random_state=0,
)
model.fit(recorded.data, recorded.target)

for i in np.random.default_rng(0).choice(len(model.X_generated_), 8, replace=False):
    print(f"{model.y_generated_[i]:10} {model.X_generated_[i]}")

# %%
# What was refused, and what each round took
# ------------------------------------------
# Nothing had to be refused but what the last requests brought beyond the fifty. A smaller model
# repeats itself more, copies its instructions and explains itself: what is refused is listed with
# the reason.

model.to_frame(rejected=True)[["row", "label", "round", "reason"]]

# %%
# Each row knows the request that it was written for, what that request showed, and its energy.

model.to_frame()[["row", "label", "round", "request", "feedback", "energy"]].tail()

# %%

model.summary()

# %%

pd.DataFrame(model.history_)[["requests", "feedback", "rows", "accepted", "prompt_tokens"]]

# %%
# Accuracy on messages that nobody has seen
# -----------------------------------------
# The ceiling is a student with real messages in the place of written ones, as many and all there
# are. Written by one hand, both kinds are closer to each other than to what customers write.

helpdesk = load_helpdesk()
texts, labels = np.array(helpdesk.data, dtype=object), helpdesk.target
others = np.setdiff1d(np.arange(len(texts)), recorded.indices)

scores = []
for split in range(10):
    order = np.random.default_rng(split).permutation(others)
    test, real = order[:200], order[200:]
    few = np.concatenate([real[labels[real] == name][:50] for name in helpdesk.target_names])
    first = model.generation_round_ == 0
    learned = {
        "18 seeds": ([], []),
        "+ first round": (model.X_generated_[first], model.y_generated_[first]),
        "+ 300 written": (model.X_generated_, model.y_generated_),
        "+ 300 real": (texts[few], labels[few]),
        "+ 382 real": (texts[real], labels[real]),
        "+ both": (
            np.append(model.X_generated_, texts[real]),
            np.append(model.y_generated_, labels[real]),
        ),
    }
    for name, (X, y) in learned.items():
        student = TextClassifier(random_state=split)
        student.fit([*recorded.data, *X], [*recorded.target, *y])
        scores.append((name, split, student.score(texts[test], labels[test])))
scores = pd.DataFrame(scores, columns=["learned from", "split", "accuracy"])
scores.groupby("learned from", sort=False)["accuracy"].agg(["mean", "std"]).round(3)

# %%

summary = scores.groupby("learned from", sort=False)["accuracy"].agg(["mean", "std"])
_, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
colors = ["0.6", "#e07b39", "#e07b39", "#2a78b5", "#2a78b5", "0.3"]
ax.barh(summary.index, summary["mean"], xerr=summary["std"], color=colors, height=0.6)
ax.invert_yaxis()
ax.axvline(1 / 6, ls=":", color="k", lw=1)
ax.text(1 / 6, -0.45, " chance", va="bottom")
ax.spines[["top", "right"]].set_visible(False)
ax.set(xlabel="accuracy on 200 other messages, mean and sd over 10 splits", xlim=(0, 1))
plt.show()

# %%
# Where the rows are
# ------------------
# On the left the first two principal components of all texts, which tell little of texts as varied
# as these; in the middle the energies of the novel rows of the first round with the band that the
# feedback came from; on the right what each round brought.

GenerationDisplay.from_estimator(model, recorded.data, X_real=texts[others])
plt.show()
