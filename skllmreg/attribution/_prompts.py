"""What the LLM is asked about features, and how its reply is read.

A question is a prompt and the JSON schema of its answer: one object with one key per feature. The
edge refuses a reply in which a key is missing, unknown, doubled or out of range, so reading it is
a look-up by name. Texts of the user are only ever joined to the prompt, never used as a format.
"""

import json
from dataclasses import dataclass
from typing import Any

from skllmreg.attribution._scores import SCALE
from skllmreg.utils._text import answer_keys, sendable, single_line

# More features are asked about in parts: servers cap the properties of a schema (100 at some), and
# an answer stays near a thousand tokens, which every model can write with care.
MOST_FEATURES = 100

_COMPARE = "Compare a usual high value with a usual low one, whatever the unit."


@dataclass(frozen=True)
class Question:
    """A prompt with the schema of its answer.

    Parameters
    ----------
    prompt : str
    schema : dict
    names : dict of str to str
        The feature's name for each key of the answer.
    """

    prompt: str
    schema: dict[str, Any]
    names: dict[str, str]

    def read(self, value: dict[str, Any]) -> dict[str, Any]:
        """Turn an answer that follows the schema into {feature: item}."""
        return {name: value[key] for key, name in self.names.items()}


def split_features(features):
    """Split {feature: text} into parts of nearly equal size, none above `MOST_FEATURES`."""
    items = list(features.items())
    n_parts = -(-len(items) // MOST_FEATURES)
    ends = [len(items) * i // n_parts for i in range(n_parts + 1)]
    return [dict(items[start:end]) for start, end in zip(ends, ends[1:], strict=False)]


def class_goal(label, labels, class_descriptions):
    """Ask how a larger value changes the probability of a class."""
    others = "the other class" if len(labels) == 2 else "all other classes together"
    return (
        f"Classes: {_class_list(labels, class_descriptions)}\n"
        f"The class to score: {_class_text(label, class_descriptions)}\n\n"
        f"For each feature below, give an integer from -{SCALE} to {SCALE}: how does a larger "
        f"value of the feature change the probability of this class against {others}?\n"
        f" {SCALE}: a larger value makes this class very much more likely; the strongest sign\n"
        "  0: the feature is irrelevant, or nothing is known about its direction\n"
        f"-{SCALE}: a larger value makes this class very much less likely\n{_COMPARE}"
    )


def target_goal():
    """Ask how a larger value changes the target of a regression."""
    return (
        f"\nFor each feature below, give an integer from -{SCALE} to {SCALE}: how does the number "
        "to be predicted change with a larger value of the feature?\n"
        f" {SCALE}: it is very much larger; the strongest sign\n"
        "  0: the feature is irrelevant, or nothing is known about its direction\n"
        f"-{SCALE}: it is very much smaller\n{_COMPARE}"
    )


def importance_goal(class_descriptions):
    """Ask how useful a feature is, whatever the direction."""
    classes = ""
    if class_descriptions:
        classes = f"Classes: {_class_list(class_descriptions, class_descriptions)}\n"
    return (
        f"{classes}\nFor each feature below, give an integer from 0 to {SCALE}: how useful is the "
        "feature for this prediction, whatever the direction or shape of the relation?\n"
        f"{SCALE}: as useful as a single feature can be\n"
        " 0: irrelevant, or nothing is known about it"
    )


def score_question(task, goal, features, position="", least=-SCALE):
    """Ask for one score per feature.

    Parameters
    ----------
    task : str
    goal : str
        What a score says: `class_goal`, `target_goal` or `importance_goal`.
    features : dict of str to str
        The text of each feature, "" for none.
    position : str
        Which part of all features these are, "" for all.
    least : int
        The smallest score.
    """
    keys = answer_keys(features)
    return _question(
        "You know the subject, but no rows of the data are shown: answer from what is generally "
        f"known.\n\nTask: {single_line(task)}\n{goal}\n"
        "Judge each feature by itself; let the scores tell strong features from weak ones.\n"
        'A feature for a category, as in "colour = red" or colour_red, is 1 where that holds and 0 '
        f"elsewhere.\n\n{position}{_feature_lines(keys, features)}\n\n"
        f"Answer with one JSON object and nothing else. Its keys are the {len(keys)} names in "
        "quotes at the line starts, spelt exactly so, each once; its values are integers without "
        "a plus sign.",
        keys,
        {"type": "integer", "minimum": least, "maximum": SCALE},
    )


def description_question(task, feature_names, position=""):
    """Ask for one description per feature."""
    features = dict.fromkeys(feature_names, "")
    keys = answer_keys(features)
    return _question(
        "The columns of a table have names only. Say what each probably holds.\n\n"
        f"Task the table is for: {single_line(task)}\n\n"
        f"{position}{_feature_lines(keys, features)}\n\n"
        "Describe each feature in one line of at most 20 words: what is measured, the unit if it "
        "is certain, what a larger value means. Where the name and the task do not tell, write an "
        f"empty string; invent nothing.\nAnswer with one JSON object and nothing else. Its keys "
        f"are the {len(keys)} names in quotes at the line starts, spelt exactly so, each once; its "
        "values are strings.",
        keys,
        {"type": "string"},
    )


def position_of(first, n_features, n_all):
    """Say which part of a long list of features a question is about."""
    if n_features == n_all:
        return ""
    return (
        f"These are features {first + 1} to {first + n_features} of {n_all}; the others are asked "
        "about separately, on the same scale.\n"
    )


def _question(prompt, keys, item):
    schema = {
        "type": "object",
        "properties": dict.fromkeys(keys.values(), item),
        "required": list(keys.values()),
        "additionalProperties": False,
    }
    return Question(sendable(prompt), schema, {key: name for name, key in keys.items()})


def _feature_lines(keys, features):
    lines = ["Features:"]
    for name, key in keys.items():
        line = f'"{key}"'
        if key != name:
            line += f" stands for {json.dumps(name, ensure_ascii=False)}"
        if features[name]:
            line += f": {single_line(features[name])}"
        lines.append(line)
    return "\n".join(lines)


def _class_list(labels, class_descriptions):
    return "; ".join(_class_text(label, class_descriptions) for label in labels)


def _class_text(label, class_descriptions):
    description = (class_descriptions or {}).get(label)
    return single_line(f"{label}" + (f" ({description})" if description else ""))
