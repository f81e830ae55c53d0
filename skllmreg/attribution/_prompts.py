"""What the LLM is asked about features, and how its reply is read.

A question is a prompt and the JSON schema of its answer: one object with one key per feature. The
edge refuses a reply in which a key is missing, unknown, repeated or out of range, so reading it is
a look-up by name. Texts of the user are only ever joined to the prompt, never used as a format.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skllmreg.attribution._scores import SCALE
from skllmreg.attribution._shapes import check_shape
from skllmreg.utils._text import answer_keys, sendable, single_line

# More features are asked about in parts: servers cap the properties of a schema (100 at some), and
# an answer stays near a thousand tokens, which every model can write with care.
MOST_FEATURES = 100
# A shape takes as many tokens as ten scores.
MOST_SHAPES = 25
MOST_POINTS = 12

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
    read_item : callable, default=None
        Reads what the answer says of one feature, from its name and the item; a ValueError says
        what is wrong with it.
    """

    prompt: str
    schema: dict[str, Any]
    names: dict[str, str]
    read_item: Callable[[str, Any], Any] | None = None

    def read(self, value: dict[str, Any]) -> dict[str, Any]:
        """Turn an answer that follows the schema into {feature: item}."""
        items = {name: value[key] for key, name in self.names.items()}
        if self.read_item is None:
            return items
        return {name: self.read_item(name, item) for name, item in items.items()}

    def check(self, value: dict[str, Any]) -> dict[str, Any]:
        """Return an answer as it is; a ValueError says what the schema cannot."""
        self.read(value)
        return value


def split_features(features, most=MOST_FEATURES):
    """Split {feature: text} into parts of nearly equal size, none above `most`."""
    items = list(features.items())
    n_parts = -(-len(items) // most)
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
        dict.fromkeys(keys.values(), {"type": "integer", "minimum": least, "maximum": SCALE}),
    )


def shape_question(task, goal, features, categories, position=""):
    """Ask for the score of each feature, and for its shape.

    Parameters
    ----------
    task, goal, features, position
        As in `score_question`.
    categories : dict of str to list of str
        Categories of the features that have them; all others hold numbers.
    """
    keys = answer_keys(features)
    labels = {name: answer_keys(categories[name]) for name in features if name in categories}
    items = {key: _shape_item(labels.get(name)) for name, key in keys.items()}

    def read_item(name, item):
        shape = item["shape"]
        if name in labels:
            shape = {category: shape[key] for category, key in labels[name].items()}
        elif shape:
            shape = check_shape([[p["value"], p["effect"]] for p in shape], name)
        return {"score": item["score"], "shape": shape}

    by_category = _ABOUT_CATEGORIES if labels else ""
    question = _question(
        "You know the subject, but no rows of the data are shown: answer from what is generally "
        f"known.\n\nTask: {single_line(task)}\n{goal}\n"
        "Judge each feature by itself; let the scores tell strong features from weak ones.\n"
        'A feature for a category, as in "colour = red" or colour_red, is 1 where that holds and 0 '
        f"elsewhere.\n\n{_ABOUT_SHAPES}{by_category}\n"
        f"{position}{_feature_lines(keys, features, labels)}\n\n"
        f"Answer with one JSON object and nothing else. Its keys are the {len(keys)} names in "
        "quotes at the line starts, spelt exactly so, each once; its values are objects such as "
        '{"score": 6, "shape": [{"value": 20, "effect": -1}, {"value": 50, "effect": 0.7}, '
        '{"value": 80, "effect": 1}]}, with numbers without a plus sign.',
        keys,
        items,
    )
    return Question(question.prompt, question.schema, question.names, read_item)


_ABOUT_SHAPES = (
    'Give two things for each feature, "score" and "shape".\n'
    '"score" is that integer. Where the effect rises and falls again, the size of the score says '
    "how strong the whole effect is, and its sign is that of the larger part.\n"
    '"shape" says how the effect runs over the values of the feature: points of a line, from a '
    'usual low value to a usual high one. "value" is in the unit of the description, and '
    'increases from point to point. "effect" goes from -1 (the value that speaks most against the '
    "class, or for the smallest number) to 1 (the value that speaks most for it): it is relative, "
    "the largest effect of a weak feature is as large as that of a strong one. Two points "
    "are a straight line; give three to eight where it bends, levels off or turns round. An empty "
    "list is right for a feature that is 0 or 1, or whose unit or range nobody can know.\n"
)
_ABOUT_CATEGORIES = (
    'For a feature with a list of categories, "score" goes from 0 to 10 and says how much the '
    'feature matters, and "shape" is an object with the effect of each category.\n'
)


def _shape_item(labels):
    """Schema of a feature's score and shape; with `labels`, of the effects of its categories."""
    effect = {"type": "number", "minimum": -1, "maximum": 1}
    if labels is not None:
        shape = _object(dict.fromkeys(labels.values(), effect))
    else:
        point = _object({"value": {"type": "number"}, "effect": effect})
        shape = {"type": "array", "items": point, "maxItems": MOST_POINTS}
    least = -SCALE if labels is None else 0
    return _object(
        {"score": {"type": "integer", "minimum": least, "maximum": SCALE}, "shape": shape}
    )


def _object(properties):
    """Schema of an object that has all of these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


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
        dict.fromkeys(keys.values(), {"type": "string"}),
    )


def position_of(first, n_features, n_all):
    """Say which part of a long list of features a question is about."""
    if n_features == n_all:
        return ""
    return (
        f"These are features {first + 1} to {first + n_features} of {n_all}; the others are asked "
        "about separately, on the same scale.\n"
    )


def _question(prompt, keys, items):
    names = {key: name for name, key in keys.items()}
    return Question(sendable(prompt), _object(items), names)


def _feature_lines(keys, features, categories=None):
    lines = ["Features:"]
    for name, key in keys.items():
        line = f'"{key}"'
        if key != name:
            line += f" stands for {json.dumps(name, ensure_ascii=False)}"
        if categories and name in categories:
            line += f" (one of {_category_list(categories[name])})"
        if features[name]:
            line += f": {single_line(features[name])}"
        lines.append(line)
    return "\n".join(lines)


def _category_list(keys):
    """Categories in quotes; where the key in the answer is another, with what it stands for."""
    return ", ".join(
        f'"{key}"' + ("" if key == name else f" for {json.dumps(name, ensure_ascii=False)}")
        for name, key in keys.items()
    )


def _class_list(labels, class_descriptions):
    return "; ".join(_class_text(label, class_descriptions) for label in labels)


def _class_text(label, class_descriptions):
    description = (class_descriptions or {}).get(label)
    return single_line(f"{label}" + (f" ({description})" if description else ""))
