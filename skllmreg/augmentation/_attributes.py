"""What rows can differ in, and the share of it that each request gets."""


class AttributeGrid:
    """Values of attributes, dealt to requests so that all have their turn.

    Parameters
    ----------
    values : dict of str to (list of str, or dict of label to list of str)
        For each attribute its values, for all classes or for each.
    random_state : RandomState
        Shuffles them.
    """

    def __init__(self, values, random_state):
        self.values = values
        self.random_state = random_state

    @classmethod
    def propose(cls, llm, random_state, *, task, classes, class_descriptions=None, schema=None):
        """Ask an LLM for the values, once."""
        raise NotImplementedError

    def draw(self, label, n_rows, *, near=False):
        """Draw the attributes of a request.

        Parameters
        ----------
        label : object
        n_rows : int
            How many rows are asked for: about three share a value.
        near : bool, default=False
            Whether they are to be near given rows, which say what they are about.

        Returns
        -------
        dict of str to str
            As in `GenerationRequest.attributes`: values are joined by "; ".
        """
        raise NotImplementedError
