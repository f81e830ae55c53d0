"""Match the columns of X with scored names, also where an encoder stands between the two.

A column takes the score of its own name. Else, if it was made from a scored column, its share of
that score follows from what made it:

- ``age_shape``, made by `LLMShapeTransformer`: the size of the score of ``age``, whose own share is
  then 0;
- ``city_Rome``, where ``city`` has a shape by category: the size of the score of ``city`` times the
  effect of the category;
- ``smokes_yes``, ``smokes_False``: the score of ``smokes``, or its negative;
- ``grade_1``, ``grade_2`` (categories that are numbers), ``age_0.0``, ``age_1.0`` (bins),
  ``age_sp_0``, ``age_sp_1`` (splines): the score on a ramp from the lowest to the highest, since
  they are ordered;
- ``missingindicator_age``, other categories, parts of dates and of texts: 0, and they are listed,
  since nobody could have scored them.
"""

import difflib
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from skllmreg.attribution._features import own_name, without_prefixes
from skllmreg.attribution._shapes import SUFFIX

YES, NO = {"yes", "true", "y", "t"}, {"no", "false", "n", "f"}
MISSING = "missingindicator_"
# What skrub's DatetimeEncoder and vectorizers of texts append, beside a number.
PARTS = {"year", "month", "day", "hour", "minute", "second", "microsecond", "nanosecond"} | {
    "weekday",
    "day_of_year",
    "total_seconds",
}


@dataclass(frozen=True)
class Share:
    """What a column has of a score: `factor` times the score of `name`, or times its size."""

    name: str | None  # None: no score
    factor: float = 1.0
    size: bool = False

    def of(self, scores):
        """Score of the column, from {name: score}."""
        if self.name is None:
            return 0.0
        score = scores[self.name]
        return self.factor * (abs(score) if self.size else score)


def column_shares(feature_names, scored_names, X=None, *, shapes=None, label=None, labels=()):
    """Find what each column takes of which score; see the head of this file.

    Parameters
    ----------
    feature_names : sequence of str
        Names of the columns of X.
    scored_names : collection of str
        Names that have a score; there may be more of them than columns.
    X : {ndarray, sparse matrix} of shape (n_samples, n_features), default=None
        The values, which tell an indicator from other columns; without them, names decide.
    shapes : dict of str to shape, default=None
        Mean shapes of the scored columns; those by category count here.
    label : class label, default=None
        The class that the scores speak for.
    labels : sequence, default=()
        All scored classes, if there are several.

    Returns
    -------
    list of Share
        One per column.
    unscored : list of str
        Columns that get 0 because nobody could have scored them.

    Raises
    ------
    ValueError
        If a column has no score, if two columns claim the same score, or if a name occurs twice.
    """
    scored = set(scored_names)
    shares: list[Share | None] = _own_scores(feature_names, scored)
    shaped = set()  # raw columns whose score their shape takes over
    for j, column in enumerate(feature_names):
        if shares[j] is None and (made := _of_shape(column, scored, label, labels)) is not None:
            parent, shares[j] = made
            shaped.add(parent)
    families, unscored = defaultdict(list), []
    for j, column in enumerate(feature_names):
        if (share := shares[j]) is not None:
            if share.name in shaped and not share.size:
                shares[j] = Share(None)
            continue
        found = _parent(column, scored)
        if found is not None and _is_made_from(found[1], X, j):
            parent, suffix = found
            if parent in shaped:
                shares[j] = Share(None)
            else:
                families[parent].append((j, suffix))
        elif _bare(column).startswith(MISSING) or _has_siblings(column, scored, X, j):
            shares[j] = Share(None)
            unscored.append(column)
    for parent, members in families.items():
        found = _family_shares(parent, members, X, (shapes or {}).get(parent))
        for (j, _), share in zip(members, found, strict=True):
            shares[j] = share
            if share.name is None:
                unscored.append(feature_names[j])
    missing = [column for column, share in zip(feature_names, shares, strict=True) if share is None]
    if missing:
        unused = sorted(scored - {share.name for share in shares if share is not None})
        shown = "; ".join(repr(column) + name_hint(column, unused) for column in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ValueError(
            f"No attribution score for {len(missing)} of {len(feature_names)} features: "
            f"{shown}{more}. Every column of X needs a score under its name; "
            "Attributions.template(X, scores) fills in 0 for those that are not listed."
        )
    return shares, unscored


def name_hint(column, unused):
    """Say which of the unused names may be meant by a column, "" if none is near."""
    bare = _bare(column)
    parents = [name for name in unused if bare.startswith(f"{name}_")]
    if parents:
        return f" (is it made from {max(parents, key=len)!r}? It is not an indicator)"
    lowered = {name.lower(): name for name in unused}
    near = [lowered[name] for name in difflib.get_close_matches(bare.lower(), lowered)]
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def _own_scores(feature_names, scored):
    """Shares of the columns that have a score under their own name, None for all others."""
    owner: dict[str, str] = {}
    shares: list[Share | None] = []
    for column in feature_names:
        name = own_name(column, scored)
        if name is not None and name in owner:
            what = (
                f"the name {column!r} occurs twice in X"
                if owner[name] == column
                else f"the columns {owner[name]!r} and {column!r} both match it; "
                "score them under their full names"
            )
            raise ValueError(f"The score of {name!r} is not unique: {what}.")
        if name is not None:
            owner[name] = column
        shares.append(None if name is None else Share(name))
    return shares


def _of_shape(column, scored, label, labels):
    """Raw column and share of a column that `LLMShapeTransformer` made, None for other columns."""
    ends = {SUFFIX: True} | {f"{SUFFIX}_{other}": other == label for other in labels}
    for bare in without_prefixes(column):
        for end, speaks_for_label in ends.items():
            parent = bare.removesuffix(end)
            if parent != bare and parent in scored:
                return parent, Share(parent if speaks_for_label else None, size=True)
    return None


def _bare(column):
    return column.split("__")[-1]


def _parent(column, scored):
    """The longest scored name that the column's name goes on from, with what follows it."""
    for bare in without_prefixes(column):
        parents = [name for name in scored if bare.startswith(f"{name}_") and f"{name}_" != bare]
        if parents:
            parent = max(parents, key=len)
            return parent, bare[len(parent) + 1 :]
    return None


def _is_made_from(suffix, X, j):
    """Whether a column with this suffix comes from an encoder, and is not another feature."""
    part = suffix.split("_circular_")[0].split("_spline_")[0]
    known = part in PARTS or _number(suffix) is not None or _number(suffix[3:]) is not None
    return known or X is None or _is_indicator(X, j)


def _has_siblings(column, scored, X, j):
    """Whether an indicator shares the start of its name with scored ones: a further category."""
    bare = _bare(column)
    if X is None or "_" not in bare or not _is_indicator(X, j):
        return False
    start = bare[: bare.index("_") + 1]
    return any(name.startswith(start) for name in scored)


def _family_shares(parent, members, X, shape):
    """Shares of the columns that one raw column became."""
    suffixes = [suffix for _, suffix in members]
    if isinstance(shape, dict):
        return [Share(parent, shape[s], size=True) if s in shape else Share(None) for s in suffixes]
    columns = [j for j, _ in members]
    shares = [Share(None)] * len(members)
    splines = [s.startswith("sp_") and _number(s[3:]) is not None for s in suffixes]
    for spline in (True, False):
        numbers = [
            (_number(suffix[3:] if spline else suffix), i)
            for i, suffix in enumerate(suffixes)
            if splines[i] == spline
        ]
        ordered = [i for number, i in sorted(n for n in numbers if n[0] is not None)]
        if not spline and X is not None:  # numbered columns of another kind: parts of a text
            ordered = [i for i in ordered if _is_indicator(X, columns[i])]
        whole = X is None or _sums_to_one(X, columns)
        for i, factor in zip(ordered, _ramp(len(ordered), whole, spline), strict=True):
            shares[i] = Share(parent, factor)
    for i, suffix in enumerate(suffixes):
        if suffix.lower() in YES | NO:
            shares[i] = Share(parent, 1.0 if suffix.lower() in YES else -1.0)
    return shares


def _ramp(n, whole, last_dropped):
    """Rising factors; relative to the column that an encoder has dropped, if it has.

    One-hot encoders drop the first of the columns, splines without a bias the last.
    """
    if whole and n > 1:
        return np.linspace(-1, 1, n).tolist()
    steps = [(i + 1) / n for i in range(n)]
    return [step - 1 - 1 / n for step in steps] if last_dropped else steps


def _number(text):
    """The finite number that a text is, else None; "nan" is a missing category."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _is_indicator(X, j):
    column = X[:, [j]]
    values = column.data if sparse.issparse(column) else column
    return bool(np.isin(values, (0, 1)).all())


def _sums_to_one(X, columns):
    sums = np.asarray(X[:, columns].sum(axis=1))
    return bool(np.allclose(sums, 1))
