"""
A local model: Ollama, vLLM, llama.cpp
======================================

Nothing leaves the machine where the language model runs on it. One address changes, and the prompts
are small enough for a model that fits a laptop: a few thousand tokens, once.
"""

# %%
# The server
# ----------
# Any server that speaks OpenAI's chat completions will do. These are their usual addresses:
#
# .. code-block:: console
#
#    $ ollama run llama3.2               # http://localhost:11434/v1
#    $ vllm serve Qwen/Qwen3-8B          # http://localhost:8000/v1
#    $ llama-server -m model.gguf        # http://localhost:8080/v1
#
# Ask the doctor first. It says whether the model is there, keeps to a JSON schema and tells
# log-probabilities, and what is done where it does not:
#
# .. code-block:: console
#
#    $ python -m skllmreg doctor --base-url http://localhost:11434/v1 --model llama3.2
#
# No key is needed: another server than OpenAI's gets a dummy, never your ``OPENAI_API_KEY``. A slow
# machine wants patience (`timeout`), and few requests at a time.

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skllmreg import (
    AttributionDisplay,
    ChatModel,
    LLMAttributionRegularizedClassifier,
    elicit_attributions,
)
from skllmreg.datasets import load_attributions
from skllmreg.exceptions import RequestError

llm = ChatModel(
    "llama3.2",
    base_url="http://localhost:11434/v1",
    temperature=0.7,
    timeout=300,
    max_concurrency=2,
    max_retries=0,
)
llm

# %%
# The question
# ------------
# Names and descriptions of the columns are all that the model sees. Five answers are five requests;
# they are kept, so that the next run of this page is free.
#
# This page was built on a machine without a server, as you see; it goes on with recorded answers of
# a larger model.

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
try:
    said = elicit_attributions(
        llm,
        task="Predict whether a breast mass is malignant from a fine needle aspirate.",
        feature_names=list(X),
        classes=[0, 1],
        class_descriptions={0: "malignant", 1: "benign"},
        n_estimates=5,
    )
except RequestError as error:
    print(error)
    said = load_attributions("breast_cancer")
said

# %%
# The model
# ---------
# What a small language model says is less reliable. The labels weigh it: from wrong scores it
# recovers with some dozens of rows, and warns where they contradict the labels.

for n_rows in (6, 20, 100):
    X_few, X_rest, y_few, y_rest = train_test_split(
        X, y, train_size=n_rows, stratify=y, random_state=0
    )
    model = LLMAttributionRegularizedClassifier(attributions=said).fit(X_few, y_few)
    plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(X_few, y_few)
    print(
        f"{n_rows:3} rows: accuracy {model.score(X_rest, y_rest):.3f} with the scores, "
        f"{plain.score(X_rest, y_rest):.3f} without"
    )

# %%
# What was said beside what the last model has learned:

AttributionDisplay.from_estimator(model, max_features=12)
plt.show()

# %%
# Save what a local model said beside your code, read it, and edit it where you know better
# (:ref:`sphx_glr_auto_examples_plot_review_scores.py`).
