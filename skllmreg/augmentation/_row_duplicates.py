"""Which rows of a table are there already, or nearly so."""

import numpy as np
from scipy.spatial import cKDTree

from skllmreg.augmentation._duplicates import DUPLICATE, NEAR, NEW, refuse_neighbors

# Two categories are 1 apart: the coordinates of both differ. Two texts are never near.
_DIFFERENT = 0.5**0.5
_FAR = 1e6

# Where the pairs to compare are more than this times the rows, fewer rows are taken at a time.
_MOST_PAIRS = 64


class RowIndex:
    """Rows that are there, and whether further ones are duplicates of them.

    Numbers are measured in standard deviations of the labeled rows, a category counts 1 where it
    differs, so does a missing value. How near is too near depends on the table: with the threshold
    t, a row is a near-duplicate if it is closer to another than 1 - t times the median distance
    from a labeled row to its nearest one.

    Parameters
    ----------
    schema : TableSchema
    labeled : list of dict
        They are there.
    threshold : float or None
        None looks for equal rows alone.
    """

    def __init__(self, schema, labeled, threshold):
        self.schema = schema
        self._scales = dict.fromkeys(range(len(schema.columns)), 1.0)
        self._codes = {}
        for i, column in enumerate(schema.columns):
            if column.kind in ("integer", "number"):
                values = [row[column.name] for row in labeled if row.get(column.name) is not None]
                self._scales[i] = float(np.std(values)) or 1.0
        self._points = self._place(labeled)
        self._seen = set(map(self._key, labeled))
        self.radius = 0.0
        n_texts = sum(column.kind == "text" for column in schema.columns)
        if threshold is not None and len(labeled) > 1 and n_texts < len(schema.columns):
            points = self._points[:, : self._points.shape[1] - n_texts]
            nearest = cKDTree(points).query(points, k=2)[0][:, 1]
            self.radius = (1 - threshold) * float(np.median(nearest))

    def add(self, rows):
        """Add rows, in their order; what is refused is not added.

        Parameters
        ----------
        rows : list of dict
            Valid ones.

        Returns
        -------
        list of str
            "", "duplicate" or "near-duplicate".
        """
        points = self._place(rows)
        status = np.full(len(rows), NEW, object)
        for i, key in enumerate(map(self._key, rows)):
            if key in self._seen:
                status[i] = DUPLICATE
            self._seen.add(key)
        left = np.flatnonzero(status == NEW)
        status[left[self._near(points[left])]] = NEAR
        return status.tolist()

    def _near(self, points):
        """Find the points with a neighbor before them, and add the others."""
        near = np.zeros(len(points), bool)
        if self.radius and len(points):
            old = cKDTree(self._points).query(points, distance_upper_bound=self.radius)[0]
            near = np.isfinite(old)
            left = np.flatnonzero(~near)
            tree = cKDTree(points[left])
            if tree.count_neighbors(tree, self.radius) > (1 + 2 * _MOST_PAIRS) * len(left):
                # Most are alike: what the first half leaves of them, the second is compared with.
                for part in np.array_split(left, 2):
                    near[part] = self._near(points[part])
                return near
            first, second = left[tree.query_pairs(self.radius, output_type="ndarray")].T
            near = refuse_neighbors(first, second, near)
        self._points = np.concatenate([self._points, points[~near]])
        return near

    def _place(self, rows):
        """The rows as points; columns of text come last."""
        coordinates, texts = [], []
        for i, column in enumerate(self.schema.columns):
            values = [row.get(column.name) for row in rows]
            if column.kind == "text":
                texts.append([_FAR * self._codes.setdefault(v, len(self._codes)) for v in values])
                continue
            coordinates.append([_DIFFERENT * (value is None) for value in values])
            if column.kind == "category":
                for category in column.categories.values():
                    coordinates.append([_DIFFERENT * (value == category) for value in values])
            else:
                scale = self._scales[i]
                coordinates.append([0.0 if v is None else float(v) / scale for v in values])
        coordinates += texts
        return np.array(coordinates, float).reshape(len(coordinates), len(rows)).T

    def _key(self, row):
        return tuple(row.get(column.name) for column in self.schema.columns)
