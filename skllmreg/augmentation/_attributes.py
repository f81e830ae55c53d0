"""What rows can differ in, and the share of it that each request gets."""

from skllmreg.augmentation._prompts import attributes_question, read_attributes
from skllmreg.llm import as_chat

# Of one reply, so many rows share a value of an attribute.
ROWS_PER_VALUE = 3

# Rows near given ones are about what these are about.
SUBJECTS = ("topic", "profile")


class AttributeGrid:
    """Values of attributes, dealt to requests so that all have their turn.

    Parameters
    ----------
    values : dict of str to (list of str, or dict of label to list of str)
        For each attribute its values, for all classes or for each.
    random_state : RandomState
        Shuffles them.

    Attributes
    ----------
    proposed : bool
        Whether an LLM was asked for them.

    Raises
    ------
    ValueError
        If an attribute has no values, or something else than texts.
    """

    proposed = False

    def __init__(self, values, random_state):
        for name, listed in values.items():
            for texts in listed.values() if isinstance(listed, dict) else [listed]:
                is_list = isinstance(texts, list | tuple) and len(texts) > 0
                if not is_list or not all(isinstance(text, str) for text in texts):
                    raise ValueError(
                        f"attributes[{name!r}] is a list of texts, or one for each class, got "
                        f"{texts!r:.100}."
                    )
        self.values = values
        self.random_state = random_state
        self._decks = {}

    @classmethod
    def propose(cls, llm, random_state, *, task, classes, class_descriptions=None, schema=None):
        """Ask an LLM for the values, once.

        Parameters
        ----------
        llm : ChatModel
        random_state : RandomState
        task : str
        classes : list
        class_descriptions : dict of label to str, default=None
        schema : TableSchema, default=None

        Returns
        -------
        AttributeGrid
        """
        prompt, answer, labels = attributes_question(task, classes, class_descriptions, schema)
        (reply,) = as_chat(llm).complete(
            [prompt], schema=answer, validate=read_attributes, description="proposing attributes"
        )
        values = {
            name: {labels[key]: texts for key, texts in listed.items()}
            if isinstance(listed, dict)
            else listed
            for name, listed in reply.value.items()
        }
        grid = cls(values, random_state)
        grid.proposed = True
        return grid

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
        n_values = max(1, round(n_rows / ROWS_PER_VALUE))
        drawn = {}
        for name, listed in self.values.items():
            if near and name in SUBJECTS:
                continue
            texts = listed.get(label, []) if isinstance(listed, dict) else listed
            if texts:
                dealt = [self._deal(name, label, texts) for _ in range(min(n_values, len(texts)))]
                drawn[name] = "; ".join(dict.fromkeys(dealt))
        return drawn

    def _deal(self, name, label, texts):
        """Take the next card of a deck of the texts, which is shuffled anew when it is empty."""
        deck = self._decks.setdefault((name, label), [])
        if not deck:
            deck.extend(texts[i] for i in self.random_state.permutation(len(texts)))
        return deck.pop()
