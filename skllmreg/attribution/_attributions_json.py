"""`Attributions` as JSON that a person can read and edit, and back without trust in the file."""

import json

from skllmreg.attribution._shapes import SUFFIX
from skllmreg.utils._text import sendable

_FORMAT = "skllmreg attributions 1"
_PROVENANCE = {
    "task": str,
    "model": str,
    "date": str,
    "prompt_hash": str,
    "n_described": int,
    "note": str,
}
_MOST_ESTIMATES = 1000  # a small file must not fill the memory


def write_json(attributions):
    """Write one line per feature: its estimates, or the score that a human has set."""
    head = {"format": _FORMAT} | {name: getattr(attributions, name) for name in _PROVENANCE}
    if head["note"] is None:
        del head["note"]
    head["n_estimates"] = attributions.n_estimates
    lines = [f"  {_dump(name)}: {_dump(value)}," for name, value in head.items()]
    if attributions.labels == [None]:
        lines.append(_write_scores(attributions, None, "  "))
    else:
        blocks = [
            f'    {{\n      "label": {_dump(label)},\n'
            f"{_write_scores(attributions, label, '      ')}\n    }}"
            for label in attributions.labels
        ]
        lines.append('  "classes": [\n' + ",\n".join(blocks) + "\n  ]")
    return "{\n" + "\n".join(lines) + "\n}\n"


def _write_scores(attributions, label, indent):
    rows = []
    for name, scores in attributions.scores(label).items():
        by = attributions.edited.get((label, name))
        item = scores if by is None else {"score": scores[0], "by": by}
        rows.append(f"{indent}  {_dump(name)}: {_dump(item)}")
    text = f'{indent}"scores": {{\n' + ",\n".join(rows) + f"\n{indent}}}"
    shapes = attributions.shapes if label is None else attributions.shapes[label]
    if not shapes:
        return text
    rows = []
    for name, tables in shapes.items():
        by = attributions.edited.get((label, name + SUFFIX))
        item = tables if by is None else {"shape": tables[0], "by": by}
        rows.append(f"{indent}  {_dump(name)}: {_dump(item)}")
    return text + f',\n{indent}"shapes": {{\n' + ",\n".join(rows) + f"\n{indent}}}"


def _dump(value):
    return sendable(json.dumps(value, ensure_ascii=False, allow_nan=False))


def read_json(text):
    """Read the parameters of `Attributions`; a ValueError names the item that is wrong."""
    try:
        record = json.loads(text, object_pairs_hook=_read_object)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is no JSON with each key once: {error}.") from None
    if not isinstance(record, dict) or record.pop("format", None) != _FORMAT:
        raise ValueError(f'"format" is not {_FORMAT!r}.')
    params = {k: _typed(record.pop(k, None), k, kind) for k, kind in _PROVENANCE.items()}
    n_estimates = _typed(record.pop("n_estimates", None), "n_estimates", int) or 0
    if not 1 <= n_estimates <= _MOST_ESTIMATES:
        raise ValueError(f'"n_estimates" is not from 1 to {_MOST_ESTIMATES}.')
    if record.keys() not in ({"classes"}, {"scores"}, {"scores", "shapes"}):
        raise ValueError(
            'either "classes" or "scores", and perhaps "shapes", is wanted beside the provenance, '
            f"got {sorted(record)}."
        )
    params["edited"] = {}
    if "scores" in record:
        params["estimates"] = _read_scores(record["scores"], n_estimates, None, params["edited"])
        params["shapes"] = _read_shapes(record.get("shapes", {}), None, params["edited"])
        return params
    params["estimates"], params["shapes"] = {}, {}
    for i, block in enumerate(_typed(record["classes"], "classes", list) or []):
        if not isinstance(block, dict) or block.keys() - {"shapes"} != {"label", "scores"}:
            raise ValueError(
                f'item {i} of "classes" has not exactly "label", "scores" and perhaps "shapes".'
            )
        label = block["label"]
        if not isinstance(label, (str, int, float)) or label in params["estimates"]:
            raise ValueError(
                f'item {i} of "classes" has a wrong or repeated label: {label!r:.100}.'
            )
        params["estimates"][label] = _read_scores(
            block["scores"], n_estimates, label, params["edited"]
        )
        params["shapes"][label] = _read_shapes(block.get("shapes", {}), label, params["edited"])
    return params


def _read_object(pairs):
    items = dict(pairs)
    if len(items) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in items if names.count(name) > 1)
        raise ValueError(f"{repeated!r} is given twice")
    return items


def _typed(value, name, kind):
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise ValueError(f'"{name}" is {value!r:.100}, not of type {kind.__name__}.')
    return value


def _read_scores(scores, n_estimates, label, edited):
    where = "" if label is None else f" of class {label!r}"
    if not isinstance(scores, dict):
        raise ValueError(f'"scores"{where} is not an object with a list for each feature.')
    estimates: list[dict] = [{} for _ in range(n_estimates)]
    for name, item in scores.items():
        if isinstance(item, dict):
            if item.keys() != {"score", "by"}:
                raise ValueError(f'the score of {name!r}{where} set by hand needs "score", "by".')
            edited[label, name] = item["by"]
            item = [item["score"]] * n_estimates
        if not isinstance(item, list) or len(item) != n_estimates:
            raise ValueError(f"the scores of {name!r}{where} are not a list of {n_estimates}.")
        for values, score in zip(estimates, item, strict=True):
            values[name] = score
    return estimates


def _read_shapes(shapes, label, edited):
    """Read {feature: list of shapes}; the shapes themselves are checked by `Attributions`."""
    where = "" if label is None else f" of class {label!r}"
    if not isinstance(shapes, dict):
        raise ValueError(
            f'"shapes"{where} is not an object with a list of shapes for each feature.'
        )
    read = {}
    for name, item in shapes.items():
        if isinstance(item, dict):
            if item.keys() != {"shape", "by"}:
                raise ValueError(f'the shape of {name!r}{where} set by hand needs "shape", "by".')
            edited[label, name + SUFFIX] = item["by"]
            item = [item["shape"]]
        if not isinstance(item, list) or not 1 <= len(item) <= _MOST_ESTIMATES:
            raise ValueError(f"the shapes of {name!r}{where} are not a list of shapes.")
        read[name] = item
    return read
