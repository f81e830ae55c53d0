"""Find the features that an LLM is asked about, and their descriptions."""

import difflib
import re
from collections.abc import Mapping, Sequence

from skllmreg.exceptions import UnusedDescriptionWarning
from skllmreg.utils._warn import warn

_HOW_TO_NAME = (
    "An LLM can only judge features whose names it sees. Give X as a data frame whose "
    "column names are all strings, as by X.columns.map(str) (in a pipeline: "
    '`.set_output(transform="pandas")` on the steps before), or give feature_descriptions as a '
    "list of strings in the order of the columns."
)


def features_to_score(feature_names, feature_descriptions):
    """Names to ask about: the same ones in every fold wherever that is possible.

    An encoder inside a fold may drop a category, and a selector a column. Where
    `feature_descriptions` names every column, it is the full set, and the question is about all
    that it names; extra scores do no harm, as they are matched by name.

    Parameters
    ----------
    feature_names : sequence of str or None
        Names of the columns.
    feature_descriptions : dict of str to str, list of str or None
        As in :func:`elicit_attributions`.

    Returns
    -------
    list of str
        The keys of `feature_descriptions` if each column has one of its own (its name, or what is
        left without the prefixes of a `ColumnTransformer`), in their order; else the names of the
        columns, so that folds with different columns ask different questions.

    Raises
    ------
    ValueError
        If there are no names at all, if the lengths differ, or if a name is given twice.

    Examples
    --------
    >>> from skllmreg.attribution._features import features_to_score
    >>> features_to_score(["cat__sex_male"], {"sex_female": "Female", "sex_male": "Male"})
    ['sex_female', 'sex_male']
    >>> features_to_score(["cat__sex_male"], {"sex": "Sex of the passenger"})
    ['cat__sex_male']
    """
    if feature_names is None:
        if not feature_descriptions:
            raise ValueError(_HOW_TO_NAME)
        if isinstance(feature_descriptions, Mapping):
            return check_names(feature_descriptions)
        return [f"x{i}" for i in range(len(feature_descriptions))]
    names = check_names(feature_names)
    if isinstance(feature_descriptions, Mapping):
        own = [own_name(name, feature_descriptions) for name in names]
        if None not in own and len(set(own)) == len(own):
            return check_names(feature_descriptions)
    return names


def column_names(feature_names, n_features, feature_descriptions):
    """Names of the columns of X for asking and matching.

    Parameters
    ----------
    feature_names : sequence of str or None
        ``feature_names_in_`` where X has names.
    n_features : int
    feature_descriptions : dict of str to str, list of str or None
        A list names the columns of an array x0, x1, ...

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If X has no names and there is no list of descriptions of its length.
    """
    if feature_names is not None:
        return list(feature_names)
    if feature_descriptions is None or isinstance(feature_descriptions, Mapping):
        raise ValueError(f"X has no feature names. {_HOW_TO_NAME}")
    names = [f"x{i}" for i in range(n_features)]
    _as_dict(names, feature_descriptions)
    return names


def features_with_text(feature_names, feature_descriptions):
    """Text in the prompt of each of the features to score; "" for those that have a name only."""
    names = features_to_score(feature_names, feature_descriptions)
    given = list(feature_names) if feature_names is not None else names
    descriptions = _as_dict(given, feature_descriptions)
    texts = {name: _describe(name, descriptions) for name in names}
    if descriptions and not any(texts.values()):
        raise ValueError(
            f"feature_descriptions describes none of the features {few(names)}; "
            f"its keys are {few(descriptions)}."
        )
    _warn_of_slips(descriptions, [name for name, text in texts.items() if not text], names)
    # The names that scikit-learn makes up for an array say nothing either.
    if not any(texts.values()) and all(re.fullmatch(r"(.*__)?x\d+", name) for name in names):
        raise ValueError(
            f"The feature names {few(names)} were made up for an array. {_HOW_TO_NAME}"
        )
    return texts


def _warn_of_slips(descriptions, undescribed, names):
    """Warn of a description that no column takes, where one without has nearly its name."""
    taken = [bare for name in names for bare in without_prefixes(name)]
    for key in descriptions:
        if any(bare == key or bare.startswith(f"{key}_") for bare in taken):
            continue
        for near in difflib.get_close_matches(key, undescribed, n=1, cutoff=0.8):
            warn(
                f"feature_descriptions describes {key!r}, which is not a feature, but does not "
                f"describe {near!r}: is that the one?",
                UnusedDescriptionWarning,
            )


def check_names(names):
    names = list(names)
    if not names:
        raise ValueError(f"There are no feature names. {_HOW_TO_NAME}")
    seen = set()
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"Feature names are strings, got {name!r:.100}.")
        if name in seen:
            raise ValueError(f"The feature name {name!r} is given twice.")
        seen.add(name)
    return [str(name) for name in names]


def _as_dict(names, feature_descriptions):
    """Descriptions by name; those that are empty are left out."""
    if feature_descriptions is None:
        return {}
    if not isinstance(feature_descriptions, Mapping):
        if isinstance(feature_descriptions, str) or not isinstance(feature_descriptions, Sequence):
            raise TypeError(
                "feature_descriptions is {name: description} or a list in the order of the "
                f"columns, got {type(feature_descriptions).__name__}."
            )
        if len(feature_descriptions) != len(names):
            raise ValueError(
                f"feature_descriptions has {len(feature_descriptions)} items for {len(names)} "
                "columns."
            )
        feature_descriptions = dict(zip(names, feature_descriptions, strict=True))
    for name, text in feature_descriptions.items():
        if not isinstance(text, (str, type(None))):
            raise TypeError(f"The description of feature {name!r} is {text!r:.100}, not a str.")
    return {name: text for name, text in feature_descriptions.items() if text and text.strip()}


def _describe(name, descriptions):
    """Text of a feature: its own description, else that of the column it was expanded from."""
    if (own := own_name(name, descriptions)) is not None:
        return descriptions[own]
    for bare in without_prefixes(name):
        parents = [key for key in descriptions if bare.startswith(f"{key}_") and key + "_" != bare]
        if parents:
            parent = max(parents, key=len)
            return f"{parent} = {bare[len(parent) + 1 :]}: {descriptions[parent]}"
    return ""


def own_name(column, names):
    """The first of a column's name and the names without its prefixes that is among `names`."""
    return next((bare for bare in without_prefixes(column) if bare in names), None)


def raw_column(column, described, scored):
    """The raw column that a column was made from, as far as names tell; else its own name."""
    if (own := own_name(column, described)) is not None:
        return own
    for known in (described, scored):
        for bare in without_prefixes(column):
            if known is scored and bare in scored:
                return bare
            if parents := [name for name in known if bare.startswith(f"{name}_")]:
                return max(parents, key=len)
    return column


def without_prefixes(name):
    """Yield the name, then the name without each of the prefixes of nested ColumnTransformers."""
    yield name
    while "__" in name:
        name = name.split("__", 1)[1]
        yield name


def few(items):
    items = list(items)
    more = f", ... ({len(items)} in all)" if len(items) > 5 else ""
    return ", ".join(map(repr, items[:5])) + more
