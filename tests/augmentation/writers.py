"""Writers of rows for tests: plain functions of a request, which remember what they were asked."""

import numpy as np
import pandas as pd

WORDS = {
    "parcel": [
        "box",
        "courier",
        "van",
        "door",
        "driver",
        "street",
        "delivery",
        "order",
        "track",
        "late",
    ],
    "money": ["bill", "charge", "card", "bank", "cash", "refund", "price", "paid", "cent", "fee"],
}
TEXTS = [
    "Where is my parcel?",
    "My order is late",
    "The courier was not here",
    "Track my box",
    "I want my money back",
    "Refund me",
    "The bill is wrong",
    "My card was charged twice",
]
TOPICS = ["parcel"] * 4 + ["money"] * 4


class Writer:
    """Remembers the requests; `rows` says what comes for one, by a random state of its own."""

    def __init__(self):
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        return self.rows(request, np.random.RandomState(request.random_state))


class TextWriter(Writer):
    """Texts of words of the class, all different by their numbers."""

    def rows(self, request, rng):
        words = WORDS[request.label]
        return [
            " ".join([*rng.choice(words, 4), *map(str, rng.randint(10**8, size=6))])
            for _ in range(request.n_rows)
        ]


class TableWriter(Writer):
    """Rows between the seed examples, with categories of theirs."""

    def rows(self, request, rng):
        seeds = request.seed_examples
        return [
            {name: self.cell([row[name] for row in seeds], rng) for name in seeds[0]}
            for _ in range(request.n_rows)
        ]

    def cell(self, values, rng):
        if isinstance(values[0], str):
            return str(rng.choice(values))
        value = rng.uniform(min(values), max(values))
        return int(value) if isinstance(values[0], int) else value


def table(as_frame=True, n=30):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = rng.normal(size=(n, 3)) + 3 * y[:, None]
    if not as_frame:
        return X, y
    frame = pd.DataFrame(X, columns=["height", "width", "age"])
    frame["age"] = rng.integers(20, 60, n)
    frame["color"] = pd.Categorical(rng.choice(["red", "blue"], n))
    return frame, y
