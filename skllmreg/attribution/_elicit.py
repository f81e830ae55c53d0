"""Ask an LLM what it knows about the features, once per set of features."""

import datetime
import hashlib
import inspect
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import NamedTuple

import numpy as np

from skllmreg.attribution._attributions import Attributions
from skllmreg.attribution._features import check_names, features_with_text, few
from skllmreg.attribution._prompts import (
    MOST_FEATURES,
    MOST_SHAPES,
    class_goal,
    description_question,
    importance_goal,
    position_of,
    score_question,
    shape_question,
    split_features,
    target_goal,
)
from skllmreg.attribution._scores import SCALE
from skllmreg.exceptions import UndescribedClassWarning
from skllmreg.llm import as_chat
from skllmreg.utils._labels import about_numbers
from skllmreg.utils._warn import warn


def elicit_attributions(
    llm,
    *,
    task,
    feature_names=None,
    feature_descriptions=None,
    classes=None,
    class_descriptions=None,
    n_estimates=5,
    shapes=False,
):
    """Ask an LLM how each feature bears on the target; no rows are shown to it.

    The question depends on the task, names, descriptions and classes alone, so that all folds and
    settings of a search ask the same one, which the cache of `llm` answers after the first time.

    Parameters
    ----------
    llm : ChatModel
        Or any object with its method ``complete(prompts, schema=)``.
    task : str
        What is predicted, in a sentence.
    feature_names : sequence of str, default=None
        Names of the columns. May be None where `feature_descriptions` names them.
    feature_descriptions : dict of str to str, or list of str, default=None
        ``{name: description}``, or the descriptions in the order of the columns. Names alone work,
        if they speak for themselves; `Attributions.n_described` says how many were described. A
        description of ``"sex"`` serves the one-hot columns ``"sex_male"`` and ``"cat__sex_male"``
        that have none of their own.
    classes : array-like, default=None
        Labels of the classes, in any order; None for a regression. With two, the last in sorted
        order is scored (``classes_[1]``); with more, each is, in a question of its own.
    class_descriptions : dict of label to str, default=None
        ``{label: what it means}``. Without it, labels such as 0 and 1 tell the LLM nothing. May
        describe more than `classes`: see :class:`LLMAttributionRegularizedClassifier`.
    n_estimates : int, default=5
        Independent answers to each question; their spread shows how sure the LLM is.
    shapes : bool or dict of str to list of str, default=False
        If True, the same question also asks how the effect of each feature runs over its values,
        in the units of the descriptions; :class:`LLMShapeTransformer` applies the answers. A dict
        ``{column: categories}`` asks for an effect of each category of these columns, which then
        need no one-hot columns in the question, and for the shapes of all others as well.

    Returns
    -------
    attributions : Attributions
        Integers from -10 to 10 for each class and feature, with `shapes` where they were asked
        for. Takes the place of the dict in the parameter ``attributions`` of the estimators.

    Raises
    ------
    ValueError
        If there are no names to ask about, or a name or a class is unknown.
    LLMError
        What :meth:`ChatModel.complete` raises.

    Warns
    -----
    UndescribedClassWarning
        If a class is a number without a description.
    UnusedDescriptionWarning
        If the name of a description is nearly that of a feature that has none.

    See Also
    --------
    describe_features : Have the LLM write the descriptions.
    LLMShapeTransformer : Add a column with the effect of each column that has a shape.

    Notes
    -----
    Where `feature_descriptions` is a dict with an entry for every column, the question is about all
    that it names, also those that a fold does not have; extra scores do no harm. Else it is about
    the columns, and a fold whose encoder drops a category asks a question of its own.

    More than 100 features are asked about in several parts of nearly equal size, each with
    `n_estimates` requests per class, since servers limit the schema and models lose track in long
    answers. The scale is absolute, so that the parts fit together. Of shapes a part has at most 25.
    The question without shapes does not depend on `shapes`, so that its recorded answers stay
    valid; that with shapes is another one, and its scores are other answers.

    The question is that of [1]_; the wording is ours.

    References
    ----------
    .. [1] Vukadin, Šilić, Delač, "Large Language Models as Attribution Regularizers for Efficient
       Model Training", 2025, section 3. arXiv:2502.20268

    Examples
    --------
    >>> from skllmreg import ChatModel, elicit_attributions
    >>> attributions = elicit_attributions(
    ...     ChatModel("gpt-4o"),
    ...     task="Predict whether the patient has diabetes.",
    ...     feature_descriptions={"glucose": "Plasma glucose, 2 h after a drink", "age": "Years"},
    ...     classes=["no", "yes"],
    ... )  # doctest: +SKIP
    >>> attributions.mean()  # doctest: +SKIP
    {'yes': {'glucose': 9.8, 'age': 4.6}}
    """
    features = features_with_text(feature_names, feature_descriptions)
    if classes is None:
        if class_descriptions:
            raise ValueError("class_descriptions are for a classification: give the classes too.")
        scored, goals = None, [target_goal()]
    else:
        try:
            labels = np.unique(np.asarray(classes)).tolist()
        except TypeError:
            raise TypeError(f"Labels of one type are needed; classes has {few(classes)}.") from None
        if len(labels) < 2:
            raise ValueError(f"classes needs at least two labels, got {labels}.")
        class_descriptions = _check_classes(labels, class_descriptions)
        scored = labels[1:] if len(labels) == 2 else labels
        goals = [class_goal(label, labels, class_descriptions) for label in scored]
    if shapes is False:
        answers, provenance = _ask(llm, task, _score_asker(goals), features, n_estimates)
        return Attributions(_by_class(scored, answers), **provenance)
    categories = _check_categories(shapes, features)

    def question(task, goal, features, position):
        return shape_question(task, goal, features, categories, position)

    asker = _Asker(goals, question, MOST_SHAPES)
    answers, provenance = _ask(llm, task, asker, features, n_estimates)
    estimates = [[_scores_of(estimate) for estimate in goal] for goal in answers]
    tables = [_shapes_of(goal) for goal in answers]
    return Attributions(
        _by_class(scored, estimates), shapes=_by_class(scored, tables), **provenance
    )


def elicit_importances(
    llm, *, task, feature_names, feature_descriptions, class_descriptions, n_estimates
):
    """Ask how useful each feature is, from 0 to 10, whatever the direction: one question."""
    features = features_with_text(feature_names, feature_descriptions)
    goals = [importance_goal(class_descriptions)]
    estimates, provenance = _ask(llm, task, _score_asker(goals, least=0), features, n_estimates)
    return Attributions(estimates[0], **provenance)


def describe_features(llm, *, task, feature_names):
    """Have an LLM write the descriptions, from the names and the task.

    Read and correct them before they are used: they are guesses.

    Parameters
    ----------
    llm : ChatModel
        Or any object with its method ``complete(prompts, schema=)``.
    task : str
        What is predicted, in a sentence.
    feature_names : sequence of str
        Names of the columns.

    Returns
    -------
    feature_descriptions : dict of str to str
        One line each; "" where the LLM cannot tell from the name.

    Raises
    ------
    ValueError
        If there are no names, or one is given twice.
    LLMError
        What :meth:`ChatModel.complete` raises.

    Examples
    --------
    >>> from skllmreg import ChatModel, describe_features
    >>> describe_features(
    ...     ChatModel("gpt-4o"), task="Predict diabetes.", feature_names=["bmi", "s1"]
    ... )  # doctest: +SKIP
    {'bmi': 'Body mass index in kg/m²; larger means heavier for the height.', 's1': ''}
    """
    llm = _check_asked(llm, task)
    names = check_names(feature_names)
    descriptions: dict[str, str] = {}
    for part in split_features(dict.fromkeys(names)):
        where = position_of(len(descriptions), len(part), len(names))
        question = description_question(task, list(part), where)
        (reply,) = llm.complete([question.prompt], schema=question.schema)
        written = question.read(reply.value)
        descriptions |= {name: " ".join(text.split()) for name, text in written.items()}
    return descriptions


def _check_classes(labels, class_descriptions):
    described = dict(class_descriptions or {})
    mute = [label for label in labels if label not in described]
    for label, text in described.items():
        if mute and label not in labels:  # else the labels are described, and their numbers too
            raise ValueError(
                f"class_descriptions describes {label!r}, but the classes are {few(labels)}. A "
                f"key must equal a class label, type included.{about_numbers(labels, described)}"
            )
        if not isinstance(text, str):
            raise TypeError(f"The description of class {label!r} is {text!r:.100}, not a str.")
    mute = [label for label in mute if not isinstance(label, str)]
    if mute:
        warn(
            f"The LLM is asked about {few(mute)} without knowing which class that is: give "
            "class_descriptions={label: what it means}, or the signs of the scores may be wrong."
            f"{about_numbers(labels)}",
            UndescribedClassWarning,
        )
    return described


def _check_asked(llm, task):
    """The model behind what `as_chat` takes; its errors come before any question."""
    chat = as_chat(llm)
    if not isinstance(task, str) or not task.strip():
        raise ValueError(
            'task says in a sentence what is predicted, as in task="Predict whether the patient '
            f'has diabetes."; got {task!r:.100}.'
        )
    return chat


class _Asker(NamedTuple):
    """What is asked about a part of the features: a question for each goal."""

    goals: list[str]
    question: Callable  # of the task, a goal, the features and their position
    most: int  # features in a part


def _score_asker(goals, least=-SCALE):
    def question(task, goal, features, position):
        return score_question(task, goal, features, position, least)

    return _Asker(goals, question, MOST_FEATURES)


def _ask(llm, task, asker, features, n_estimates):
    """Answers to each goal, per estimate {feature: item}, and where they come from."""
    llm = _check_asked(llm, task)
    if not isinstance(n_estimates, Integral) or n_estimates < 1:
        raise ValueError(f"n_estimates is a positive integer, got {n_estimates!r}.")
    n_estimates = int(n_estimates)
    answers: list[list[dict]] = [[{} for _ in range(n_estimates)] for _ in asker.goals]
    models, digest, first = set(), hashlib.sha256(), 0
    for part in split_features(features, asker.most):
        where = position_of(first, len(part), len(features))
        first += len(part)
        questions = [asker.question(task, goal, part, where) for goal in asker.goals]
        # All answers to a part are waited for together: they share a schema, the parts do not.
        asked = [question.prompt for question in questions for _ in range(n_estimates)]
        options = {"schema": questions[0].schema}
        if questions[0].read_item and "validate" in inspect.signature(llm.complete).parameters:
            options["validate"] = questions[0].check  # what is wrong is then asked again
        replies = llm.complete(asked, **options)
        for i, (prompt, reply) in enumerate(zip(asked, replies, strict=True)):
            goal, estimate = i // n_estimates, i % n_estimates
            answers[goal][estimate] |= questions[goal].read(reply.value)
            models.add(str(reply.model))
            digest.update(prompt.encode())
    return answers, {
        "task": task,
        "model": ", ".join(sorted(models)),
        "date": datetime.date.today().isoformat(),
        "prompt_hash": digest.hexdigest()[:16],
        "n_described": sum(map(bool, features.values())),
    }


def _by_class(scored, outputs):
    return dict(zip(scored, outputs, strict=True)) if scored else outputs[0]


def _scores_of(estimate):
    return {name: item["score"] for name, item in estimate.items()}


def _shapes_of(estimates):
    """Collect the shapes of each feature that has one in at least one estimate."""
    shapes = {
        name: [estimate[name]["shape"] for estimate in estimates if estimate[name]["shape"]]
        for name in estimates[0]
    }
    return {name: given for name, given in shapes.items() if given}


def _check_categories(shapes, features):
    """Categories by column, from the parameter `shapes`."""
    if shapes is True:
        return {}
    if not isinstance(shapes, Mapping):
        raise TypeError(
            f"shapes is True, False or {{column: list of its categories}}, got {shapes!r:.100}."
        )
    for column, categories in shapes.items():
        if column not in features:
            raise ValueError(
                f"shapes has categories of {column!r}, which is not asked about; the features are "
                f"{few(features)}."
            )
        if isinstance(categories, str) or not all(isinstance(c, str) for c in categories):
            raise TypeError(f"The categories of {column!r} are strings, got {categories!r:.100}.")
        if len(set(categories)) != len(categories) or len(categories) < 2:
            raise ValueError(f"{column!r} needs at least two categories, each once.")
    return {column: list(categories) for column, categories in shapes.items()}
