"""What of the written rows enters the data."""


class Curator:
    """Admits rows: valid, new, and within the quota of their class.

    Parameters
    ----------
    X : texts or table of shape (n_samples, n_features)
        The labelled rows: no row may repeat them.
    schema : TableSchema, default=None
        None for texts.
    duplicate_threshold : float or None, default=0.85
        Rows at least so similar to one that is there are refused; None: only equal ones.
    quotas : dict of label to int, default=None
        How many rows of a class are taken at most.
    """

    def __init__(self, X, *, schema=None, duplicate_threshold=0.85, quotas=None):
        self.schema = schema
        self.duplicate_threshold = duplicate_threshold
        self.quotas = quotas

    def admit(self, rows, labels):
        """Check rows, and remember those that are accepted.

        Parameters
        ----------
        rows : list
            Clean, as an `Answer` has them.
        labels : sequence of shape (n_rows,)

        Returns
        -------
        list of str
            "" for what is accepted; else the reason, which begins with "invalid", "duplicate",
            "near-duplicate" or "quota".
        """
        raise NotImplementedError

    def release(self, labels):
        """Give back the quota of rows that were accepted and then thrown out for their label."""
        raise NotImplementedError
