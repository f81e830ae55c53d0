"""The kinds of rows: texts, several texts, table rows, and inputs with targets.

A kind knows what is particular to its rows: how they are described, shown and asked for, what JSON
they come as, what makes one invalid or a duplicate, and what the student takes.
"""

import json

import numpy as np

from skllmreg.augmentation._duplicates import RowIndex, SeveralTextsIndex, TextIndex
from skllmreg.augmentation._schema import TableSchema
from skllmreg.exceptions import ClosedSetWarning
from skllmreg.utils._frames import is_frame, no_rows, table_rows
from skllmreg.utils._text import clean_if_text, clean_text, short_repr
from skllmreg.utils._warn import warn

# A text may have this many times the characters of the longest labeled one, and this many at
# least: what is longer is not a text of its kind, whatever it is.
MOST_TIMES_LONGER = 20
MOST_CHARACTERS = 2000

# Characters of a long example that are shown.
MOST_SHOWN = 2000

N_VALUES = 12  # subjects proposed for each class


class RowKind:
    """What all kinds share; the methods here are those of rows ``{name: value}``.

    Attributes
    ----------
    noun : str
        What rows are called in prompts.
    rows : list
        The labeled rows, as generators take them.
    of_texts : bool
        Whether rows are texts alone.
    """

    noun = "rows"
    rows: list
    of_texts = False

    def describe(self):
        """Return a paragraph of the prompt on the parts of a row, "" for none."""
        return ""

    def json_schema(self):
        """Return the JSON schema of one row of an answer."""
        raise NotImplementedError

    def clean(self, row):
        """Bring a row into its one form, as far as that is clear; the rest is for `problem`."""
        raise NotImplementedError

    def from_json(self, value):
        """Return the clean row that an answer gives; what is not a row is returned unchanged."""
        return self.clean(value)

    def listed(self, found):
        """Return the rows of a table that a function has written; None for what is not a table."""
        return table_rows(found) if is_frame(found) else None

    def problem(self, row):
        """Say what is wrong with a clean row, "" if nothing is."""
        raise NotImplementedError

    def show(self, row):
        """Write a row as JSON: a text cannot end its own quotation."""
        raise NotImplementedError

    def texts(self, row):
        """Return the free texts of a valid row by name: what is checked for its form."""
        raise NotImplementedError

    def to_X(self, rows):
        """Make what the student takes of valid rows."""
        raise NotImplementedError

    def index(self, threshold, encoder=None):
        """Return an index of the labeled rows, whose `add` finds duplicates."""
        raise NotImplementedError


class Texts(RowKind):
    """Rows that are texts.

    Parameters
    ----------
    X : array of str
        The labeled texts.
    """

    noun = "texts"
    of_texts = True
    closing = (
        "Make them as different from each other and from the examples as texts by different "
        "people are: in what they are about, how they begin, how they are built, in their "
        "words. Copy and paraphrase nothing; invent names, numbers and dates. The class's name "
        "stands in a text only where its writer would use it.\n"
        'Answer with one JSON object and nothing else: {"rows": [...]}, each row a string '
        "that holds the text alone."
    )
    listings = (
        ("style", "6 manners in which different people would write it, in two to six words."),
        ("length", '3 to 5 lengths that such texts have, as in "one short sentence".'),
    )

    def __init__(self, X):
        self.rows = X.tolist()
        self.most_characters = most_characters(self.rows)

    def subjects(self, named):
        """Return the attribute that is proposed by class, and what to ask for."""
        return "topic", (
            f"for each class, {N_VALUES} different things that such a text can be about, from the "
            "usual to the rare, in two to six words; such that a text about it is of this class "
            f"and of no other. Keys: {named}."
        )

    def json_schema(self):
        """Return the schema of a string."""
        return {"type": "string"}

    def clean(self, row):
        """Clean what is a text."""
        return clean_if_text(row)

    def listed(self, found):
        """Texts are not a table."""
        return None

    def problem(self, row):
        """Say what is wrong with a text."""
        return text_problem(row, self.most_characters)

    def show(self, row):
        """Write a text as JSON, a long one in part."""
        return json.dumps(row[:MOST_SHOWN], ensure_ascii=False)

    def texts(self, row):
        """Return the text."""
        return {"": row}

    def to_X(self, rows):
        """Make an array of texts."""
        return np.array(rows, dtype=object)

    def index(self, threshold, encoder=None):
        """Index the texts by their words, and by what they mean."""
        index = TextIndex(threshold, encoder)
        index.add([clean_text(text) for text in self.rows])
        return index


class TableRows(RowKind):
    """Rows of a table.

    Parameters
    ----------
    schema : TableSchema
    X : data frame or array of shape (n_samples, n_features)
        The labeled rows.
    """

    noun = "rows of a table"
    closing = (
        "Make them differ from each other and from the examples; copy nothing. Let the values of "
        "each row fit together, and spread as in real data.\n"
        'Answer with one JSON object and nothing else: {"rows": [...]}, each row an object whose '
        "keys are the column names in quotes, spelt exactly so."
    )
    listings: tuple = ()

    def __init__(self, schema, X):
        self.schema = schema
        self.rows = schema.rows(X)

    def subjects(self, named):
        """Return the attribute that is proposed by class, and what to ask for."""
        return "profile", (
            f"for each class, {N_VALUES} different kinds of rows that it has, from the usual to "
            f"the rare, in three to twelve words that bear on the columns. Keys: {named}."
        )

    def describe(self):
        """List the columns."""
        return f"The columns:\n{self.schema.describe()}"

    def json_schema(self):
        """Return the schema of an object."""
        return self.schema.json_schema()

    def clean(self, row):
        """Bring each value into its one form."""
        return self.schema.clean(row)

    def from_json(self, value):
        """Read a row under the keys of the answer."""
        return self.schema.from_json(value)

    def problem(self, row):
        """Say which value does not fit its column."""
        return self.schema.problem(row)

    def show(self, row):
        """Write a row under the keys of the answer."""
        return json.dumps(self.schema.to_json(row), ensure_ascii=False)

    def texts(self, row):
        """Return the values of the columns of text."""
        return {
            column.name: row[column.name]
            for column in self.schema.columns
            if column.kind == "text" and row.get(column.name) is not None
        }

    def to_X(self, rows):
        """Make a table of the labeled one's type, columns and dtypes."""
        return self.schema.to_frame(rows)

    def index(self, threshold, encoder=None):
        """Index the rows by their distance."""
        return RowIndex(self.schema, self.rows, threshold)


class SeveralTexts(TableRows):
    """Rows of several texts, such as premise and hypothesis.

    Parameters
    ----------
    schema : TableSchema
        All columns are texts.
    X : data frame or array of shape (n_samples, n_texts)
    """

    of_texts = True
    closing = (
        "Within a row the texts belong together as in the examples: what makes the class is how "
        "they bear on each other. Make the rows as different from each other and from the "
        "examples as rows by different people are, in what they are about, how they are built, in "
        "their words. Copy and paraphrase nothing of the examples; invent names, numbers and "
        "dates. No text names the class.\n"
        'Answer with one JSON object and nothing else: {"rows": [...]}, each row an object whose '
        "keys are the names in quotes, spelt exactly so, and whose values are the texts alone."
    )
    listings = Texts.listings

    def __init__(self, schema, X):
        super().__init__(schema, X)
        self.noun = "pairs of texts" if len(schema.columns) == 2 else "groups of texts"
        self.most_characters = most_characters(
            text for row in self.rows for text in row.values() if text is not None
        )

    def subjects(self, named):
        """Return the attribute that is proposed for all classes alike, and what to ask for."""
        # The class is in how the texts bear on each other, not in what they are about.
        return "topic", (
            f"for each class, {N_VALUES} different things that such a row can be about, from the "
            f"usual to the rare, in two to six words. Keys: {named}."
        )

    def describe(self):
        """List the texts."""
        return f"Each row has these texts:\n{self.schema.describe()}"

    def problem(self, row):
        """Say what is wrong with the row, or with one of its texts."""
        if found := super().problem(row):
            return found
        problems = (
            f"{name}: {found}"
            for name, text in self.texts(row).items()
            if (found := text_problem(text, self.most_characters))
        )
        return next(problems, "")

    def index(self, threshold, encoder=None):
        """Index the rows by the words of each text."""
        return SeveralTextsIndex([c.name for c in self.schema.columns], threshold, self.rows)


class NoKind(Texts):
    """Rows of any kind where nobody writes others.

    Parameters
    ----------
    X : texts or table
    """

    def __init__(self, X):
        self.X = X

    def to_X(self, rows):
        """Return no rows, like the labeled ones."""
        return self.X[:0] if getattr(self.X, "ndim", 1) == 1 else no_rows(self.X)


def kind_of(X, *, text_columns="auto", feature_descriptions=None):
    """Tell which kind checked rows are.

    Parameters
    ----------
    X : array of texts, or table
    text_columns : "auto" or list
    feature_descriptions : dict of str to str, default=None

    Returns
    -------
    Texts, SeveralTexts or TableRows

    Warns
    -----
    ClosedSetWarning
        If columns of strings are treated as closed sets of categories.
    """
    if not is_frame(X) and X.ndim == 1:
        if feature_descriptions:
            raise ValueError("feature_descriptions are of a table's columns; X is texts.")
        if not isinstance(text_columns, str):
            raise ValueError("text_columns are of a table's columns; X is texts.")
        return Texts(X)
    schema = TableSchema.from_frame(X, feature_descriptions, text_columns)
    first = schema.columns[0]
    if len(schema.columns) == 1 and (first.kind == "text" or first.guessed):
        texts = f"X[{first.name!r}]" if is_frame(X) else "X[:, 0]"
        raise ValueError(f"X is a table of one column, {first.name!r}, of texts: pass {texts}.")
    if closed := [column for column in schema.columns if column.guessed]:
        listed = "; ".join(
            f"{column.name!r} ({', '.join(map(repr, list(column.categories)[:3]))}"
            f"{', ...' if len(column.categories) > 3 else ''})"
            for column in closed[:5]
        )
        warn(
            f"Columns of short strings that repeat are treated as closed sets of categories: "
            f"{listed}. A written row with another value is refused. If they are texts, name them "
            'in text_columns=; if not, X.astype({column: "category"}) says so.',
            ClosedSetWarning,
        )
    if all(column.kind == "text" for column in schema.columns):
        return SeveralTexts(schema, X)
    return TableRows(schema, X)


def most_characters(texts):
    """Return the length from which a text is not a text of this kind."""
    longest = max((len(clean_text(text)) for text in texts), default=0)
    return max(MOST_TIMES_LONGER * longest, MOST_CHARACTERS)


def text_problem(text, most, *, words=True):
    """Say what is wrong with a text as such; `words` asks for a letter or a digit."""
    if not isinstance(text, str):
        return f"{short_repr(text)} is not a text"
    if len(text) > most:
        return f"{len(text):,} characters, more than {most:,}"
    if text != clean_text(text):
        return "it is not in its clean form"
    if not text:
        return "it is empty"
    return "" if not words or any(map(str.isalnum, text)) else "it holds no word"
