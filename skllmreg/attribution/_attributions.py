"""`Attributions`: what the LLM said about the features, to read, edit and keep."""

import dataclasses
import html
from pathlib import Path
from typing import Any

import numpy as np

from skllmreg.attribution._attributions_checks import (
    check_alike,
    check_estimates,
    check_feature_shapes,
    is_shapes_by_class,
    of_class,
    plain_label,
)
from skllmreg.attribution._attributions_json import read_json, write_json
from skllmreg.attribution._columns import name_hint
from skllmreg.attribution._scores import is_by_class
from skllmreg.attribution._shapes import SUFFIX, mean_shape

_MOST_ROWS = 30  # of the table in a notebook


@dataclasses.dataclass(frozen=True, repr=False)
class Attributions:
    """Scores of the features with where they come from; edits make a new object.

    Estimators take it as ``attributions=``; :func:`elicit_attributions` makes it.

    Parameters
    ----------
    estimates : list of dict, or dict of label to list of dict
        Independent estimates ``{feature: score}``, scores from -10 to 10; by class in a
        classification.
    task, model, date, prompt_hash : str, default=None
        What was asked, who answered (as the server says), when this object was made (answers from
        a cache may be older), and a hash of the prompts.
    n_described : int, default=None
        How many of the features the LLM was given a description of; 0: it knew their names alone.
    note : str, default=None
        Anything else that a reader should know of them.
    edited : dict, default=None
        Who set a score by hand, by (label, feature), or a shape, by (label, "<feature>_shape");
        the label is None in a regression. Use `edit`.
    shapes : dict of str to list of shapes, or dict of label to such, default=None
        How the effect runs over the values of some features, in one or more estimates: a shape is
        a list of [value, effect] with increasing values in the feature's own units, or
        ``{category: effect}``; effects go from -1 to 1. :class:`LLMShapeTransformer` applies them.

    Raises
    ------
    ValueError
        If a score is missing or not a number from -10 to 10, if the estimates differ in their
        features or, between classes, in their number, or if a shape is not a table as above.

    Examples
    --------
    >>> from skllmreg import Attributions
    >>> said = Attributions({"ill": [{"age": 4, "height": 0}, {"age": 6, "height": 1}]})
    >>> said
    <Attributions: 2 features × 2 estimates, class 'ill'>
    >>> said.mean()
    {'ill': {'age': 5.0, 'height': 0.5}}
    >>> said.edit({"age": 7}, by="Dr. Ito").mean()
    {'ill': {'age': 7.0, 'height': 0.5}}
    >>> bent = said.edit(shapes={"age": [[20, -1], [50, 0], [60, 1]]})
    >>> bent.mean_shapes("ill")
    {'age': [[20.0, -1.0], [50.0, 0.0], [60.0, 1.0]]}
    """

    estimates: Any
    _: dataclasses.KW_ONLY
    task: str | None = None
    model: str | None = None
    date: str | None = None
    prompt_hash: str | None = None
    n_described: int | None = None
    note: str | None = None
    edited: Any = None
    shapes: Any = None

    def __post_init__(self):
        if is_by_class(self.estimates):
            outputs = {plain_label(k): check_estimates(v, k) for k, v in self.estimates.items()}
            if None in outputs or len(outputs) < max(len(self.estimates), 1):
                raise ValueError("Attributions need at least one class, and each class once.")
            object.__setattr__(self, "estimates", outputs)
        else:
            outputs = {None: check_estimates(self.estimates)}
            object.__setattr__(self, "estimates", outputs[None])
        check_alike(outputs)
        shapes = self._check_shapes(outputs)
        object.__setattr__(self, "shapes", self._public(shapes))
        edited = {(plain_label(k), name): by for (k, name), by in (self.edited or {}).items()}
        for (label, name), by in edited.items():
            known = label in outputs and (
                name in outputs[label][0]
                or name in [f"{shaped}{SUFFIX}" for shaped in shapes[label]]
            )
            if not known or not isinstance(by, str):
                raise ValueError(f"edited has a wrong item {(label, name)!r}: {by!r:.100}.")
        object.__setattr__(self, "edited", edited)

    @classmethod
    def template(cls, X, scores=None, *, classes=None):
        """Make attributions with a score for every column: those given, 0 for all others.

        To fill in by hand: `save`, edit the file, `load`; or give the scores that matter here.

        Parameters
        ----------
        X : data frame, or sequence of str
            Its columns, or their names.
        scores : dict, default=None
            ``{class: {column: score}}``, or ``{column: score}`` in a regression; columns that are
            not listed get 0.
        classes : array-like, default=None
            Labels of the classes where there are no `scores` yet. Of two, the last in sorted
            order is scored.

        Returns
        -------
        attributions : Attributions

        Raises
        ------
        ValueError
            If a score is for a column that X does not have.

        Examples
        --------
        >>> from skllmreg import Attributions
        >>> columns = ["age", "bmi", "sex"]
        >>> Attributions.template(columns, {"ill": {"age": 4}}).mean()
        {'ill': {'age': 4.0, 'bmi': 0.0, 'sex': 0.0}}
        """
        names = list(getattr(X, "columns", X))
        if scores is not None:
            outputs = scores if is_by_class(scores) else {None: scores}
        elif classes is not None:
            labels = np.unique(np.asarray(classes)).tolist()
            outputs = dict.fromkeys(labels[1:] if len(labels) == 2 else labels, {})
        else:
            outputs = {None: {}}
        for label, given in outputs.items():
            for name in given:
                if name not in names:
                    raise ValueError(
                        f"No column {name!r}{of_class(label)}{name_hint(str(name), names)}."
                    )
        filled = {label: dict.fromkeys(names, 0) | dict(given) for label, given in outputs.items()}
        return cls(filled[None] if list(filled) == [None] else filled)

    def __repr__(self):
        said = f"{len(self.feature_names)} features × {self.n_estimates} estimates"
        if self.labels != [None]:
            said += f", class{'es' if len(self.labels) > 1 else ''} "
            said += ", ".join(map(repr, self.labels))
        if self.model:
            said += f", by {self.model}"
        if self.n_described == 0:
            said += ", from names alone"
        if n_shaped := len({name for shapes in self._shapes().values() for name in shapes}):
            said += f", {n_shaped} with a shape"
        if self.edited:
            said += f", {len(self.edited)} edited"
        return f"<Attributions: {said}>"

    @property
    def labels(self):
        """Classes that are scored; [None] in a regression."""
        return list(self._outputs())

    @property
    def feature_names(self):
        """Names of the features, in the order of the question."""
        return list(self._outputs()[self.labels[0]][0])

    @property
    def n_estimates(self):
        """Number of estimates of each score."""
        return len(self._outputs()[self.labels[0]])

    def scores(self, label=None):
        """All estimates by feature.

        Parameters
        ----------
        label : str or number, default=None
            The class; None in a regression.

        Returns
        -------
        dict of str to list
        """
        estimates = self._outputs()[label]
        return {name: [scores[name] for scores in estimates] for name in self.feature_names}

    def mean_shapes(self, label=None):
        """Mean shape of each feature that has one.

        Parameters
        ----------
        label : str or number, default=None
            The class; None in a regression.

        Returns
        -------
        dict of str to shape
            Lists of [value, effect] over the union of the estimates' values, or, of columns of
            categories, ``{category: effect}``.
        """
        return {name: mean_shape(shapes) for name, shapes in self._shapes()[label].items()}

    def to_estimates(self):
        """The estimates as the estimators read them, free to be changed.

        Returns
        -------
        list of dict, or dict of label to list of dict
        """
        return self._public({k: [dict(s) for s in v] for k, v in self._outputs().items()})

    def mean(self):
        """Mean score over the estimates.

        Returns
        -------
        dict
            ``{feature: mean}``, or ``{label: {feature: mean}}``.
        """
        return self._over_estimates(np.mean)

    def spread(self):
        """Standard deviation (divisor n) over the estimates: how sure the LLM is.

        Returns
        -------
        dict
            ``{feature: spread}``, or ``{label: {feature: spread}}``. 0 for what a human has set.
        """
        return self._over_estimates(np.std)

    def edit(self, scores=None, *, shapes=None, by="human"):
        """Let a human's scores and shapes replace all estimates of some features.

        Parameters
        ----------
        scores : dict, default=None
            ``{feature: score}`` where one output is scored, else ``{label: {feature: score}}``.
        shapes : dict, default=None
            ``{feature: shape}`` or ``{label: {feature: shape}}``; None in place of a shape takes
            the feature's shape away.
        by : str, default="human"
            Who says so; kept with the score or shape.

        Returns
        -------
        attributions : Attributions
            A new object.

        Raises
        ------
        ValueError
            If a class or feature is unknown, a score is not a number from -10 to 10 or a shape
            is not a table of effects from -1 to 1.
        """
        outputs = {k: [dict(s) for s in v] for k, v in self._outputs().items()}
        tables = {k: dict(v) for k, v in self._shapes().items()}
        edited = dict(self.edited)
        for label, name, score in self._edits(scores, is_by_class(scores)):
            for estimate in outputs[label]:
                estimate[name] = score
            edited[label, name] = by
        for label, name, shape in self._edits(shapes, is_shapes_by_class(shapes)):
            edited.pop((label, name + SUFFIX), None)
            if shape is None:
                tables[label].pop(name, None)
                continue
            tables[label][name] = [shape]
            edited[label, name + SUFFIX] = by
        return dataclasses.replace(
            self,
            estimates=self._public(outputs),
            shapes=self._public(tables),
            edited=edited,
        )

    def _edits(self, new, by_label):
        """Yield (label, feature, value) of an edit; unknown classes and features are errors."""
        if not by_label:
            if len(self.labels) > 1 and new:
                raise ValueError(
                    f"Say for which of the classes {self.labels}: {{label: {{feature: ...}}}}."
                )
            new = {self.labels[0]: new or {}}
        for label, items in new.items():
            label = plain_label(label)
            if label not in self.labels:
                raise ValueError(f"No class {label!r}; the classes are {self.labels}.")
            for name, value in items.items():
                if name not in self.feature_names:
                    hint = name_hint(str(name), self.feature_names)
                    raise ValueError(f"No feature {name!r}{hint}.")
                yield label, name, value

    def to_json(self):
        """Write as JSON that a person can read and edit.

        Returns
        -------
        str
            A feature's scores stand on one line, and so do its shapes; a score set by hand is
            ``{"score": 7, "by": "Dr. Ito"}``, a shape ``{"shape": [[20, -1], [60, 1]], "by":
            "Dr. Ito"}``, and may be put so into the file.
        """
        return write_json(self)

    @classmethod
    def from_json(cls, text):
        """Read what `to_json` writes; nothing in it is trusted.

        Parameters
        ----------
        text : str

        Returns
        -------
        attributions : Attributions

        Raises
        ------
        ValueError
            With the item that is wrong.
        """
        try:
            return cls(**read_json(text))
        except ValueError as error:
            raise ValueError(f"These attributions cannot be read: {error}") from error

    def save(self, path):
        """Write `to_json` to a file.

        Parameters
        ----------
        path : str or path
        """
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path):
        """Read a file that `save` wrote.

        Parameters
        ----------
        path : str or path

        Returns
        -------
        attributions : Attributions
        """
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    def to_frame(self):
        """Table with one row per feature, or per class and feature.

        Returns
        -------
        pandas.DataFrame
            Columns: mean, spread, edited_by, estimate_0, estimate_1, ...
        """
        import pandas as pd

        rows, index = [], []
        for label in self.labels:
            for name, scores in self.scores(label).items():
                row = {"mean": np.mean(scores), "spread": np.std(scores)}
                row["edited_by"] = self.edited.get((label, name))
                rows.append(row | {f"estimate_{i}": score for i, score in enumerate(scores)})
                index.append(name if label is None else (label, name))
        if self.labels == [None]:
            return pd.DataFrame(rows, pd.Index(index, name="feature"))
        return pd.DataFrame(rows, pd.MultiIndex.from_tuples(index, names=["class", "feature"]))

    def _repr_html_(self):
        columns = {label: self.scores(label) for label in self.labels}

        def largest(name):
            return max(abs(np.mean(scores[name])) for scores in columns.values())

        def cell(label, name):
            scores, by = columns[label][name], self.edited.get((label, name))
            note = f"± {np.std(scores):.1f}" if by is None else f"set by {by}"
            return f"<td>{np.mean(scores):+.1f} <small>{html.escape(note)}</small></td>"

        heads = ["feature"] + ["score" if k is None else str(k) for k in columns]
        names = sorted(self.feature_names, key=largest, reverse=True)
        rows = [
            f"<tr><th>{html.escape(name)}</th>{''.join(cell(k, name) for k in columns)}</tr>"
            for name in names[:_MOST_ROWS]
        ]
        if len(names) > _MOST_ROWS:
            rows.append(f"<tr><td>and {len(names) - _MOST_ROWS} more</td></tr>")
        return (
            f"<table><caption>{html.escape(repr(self)[1:-1])}</caption><thead><tr>"
            + "".join(f"<th>{html.escape(head)}</th>" for head in heads)
            + f"</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        )

    def _outputs(self):
        """Estimates by label; None is the label in a regression."""
        return self.estimates if isinstance(self.estimates, dict) else {None: self.estimates}

    def _shapes(self):
        """Shapes by label and feature."""
        return self.shapes if isinstance(self.estimates, dict) else {None: self.shapes}

    def _check_shapes(self, outputs):
        """Shapes by label and feature, checked."""
        given = self.shapes or {}
        if list(outputs) == [None]:
            given = {None: given}
        given = {plain_label(label): shapes for label, shapes in given.items()}
        if unknown := [label for label in given if label not in outputs]:
            raise ValueError(f"There are shapes for {unknown[0]!r}, which is not a scored class.")
        return {
            label: {
                name: check_feature_shapes(shapes, name, features, of_class(label))
                for name, shapes in given.get(label, {}).items()
            }
            for label, (features, *_) in outputs.items()
        }

    def _public(self, outputs):
        return outputs if isinstance(self.estimates, dict) else outputs[None]

    def _over_estimates(self, how):
        return self._public(
            {k: {f: float(how(s)) for f, s in self.scores(k).items()} for k in self.labels}
        )
