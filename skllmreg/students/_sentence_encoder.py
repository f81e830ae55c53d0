"""Turn texts into vectors with a pretrained sentence encoder, each text once."""

import os
from itertools import combinations
from numbers import Integral

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from skllmreg.students._encoders import check_vectors, open_encoder
from skllmreg.students._vectors import VectorFile, cache_path, encode_once
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._progress import progress_bar
from skllmreg.utils._shared import SharedByClones
from skllmreg.utils._validation import column_names, is_table, text_columns

# Texts that are encoded, and then stored, at a time, in batches.
BATCHES_PER_CHUNK = 16


class SentenceEncoder(DocLinkMixin, TransformerMixin, SharedByClones):
    """Turn texts into the vectors of a sentence encoder, each text once.

    A text is encoded once in a process and, where the encoder has an identity, once for a cache
    file, however many clones, folds, rounds and worker processes ask for it: put the encoder into a
    pipeline and search over the pipeline. Vectors are known by the encoder's content, never by its
    name alone.

    Parameters
    ----------
    model : str, path, EmbeddingModel, object with `encode`, or callable, default=None
        - a folder or a name on the Hugging Face hub, for which sentence-transformers is needed
          (``pip install 'skllmreg[text]'``); None is ``sentence-transformers/all-MiniLM-L6-v2``
          (91 MB, English, 384 numbers for each text);
        - an :class:`~skllmreg.llm.EmbeddingModel`, which asks a server;
        - an object with ``encode(texts)``, or a function of a list of texts, that returns an array
          of shape (n_texts, d). It has to return the same vector whenever it is given a text.
    cache : "default", path or None, default="default"
        File in which the vectors of a named model are kept, and of any other model with a
        `cache_id`. "default" is ``embeddings.sqlite3`` in the user's cache folder (beside the file
        that the environment variable ``SKLLMREG_CACHE`` names), None for no file. It grows to 4
        GiB, then the oldest vectors make room.
    cache_id : str, default=None
        Identity of a model that is an object, which makes its vectors outlive the process. Choose
        another one whenever its weights or settings change. A folder is identified by a digest of
        its files, a hub model by its revision.
    batch_size : int, default=64
        Texts given to the model at a time.
    device : str, default=None
        Device for a named model, such as "cpu" or "cuda"; None chooses the fastest.
    normalize : bool, default=True
        Scale each vector to length 1, so that dot products are cosines. A linear model on these
        needs a far weaker penalty than on standardized columns: C around 30, not 1.

    Attributes
    ----------
    n_features_out_ : int
        Number of columns of `transform`.
    n_features_in_ : int
        Number of columns of texts; only for frames and arrays with columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only for frames.

    See Also
    --------
    TextClassifier : Classifier on these vectors and words together.

    Notes
    -----
    Of a table with several columns of texts, such as premise and hypothesis, the result has the
    vectors of each column and, for every two columns with vectors u and v, the columns of
    abs(u - v) and of u * v [1]_.

    In a process, up to 1 GiB of vectors is kept for an encoder. Processes that share a cache file
    wait for each other rather than encode the same texts twice. A pickled encoder holds the name of
    its model, not the weights.

    References
    ----------
    .. [1] N. Reimers, I. Gurevych (2019), "Sentence-BERT: Sentence Embeddings using Siamese
       BERT-Networks", EMNLP, arXiv:1908.10084.

    Examples
    --------
    Any function will do as an encoder; here, how often a text has each vowel.

    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skllmreg.students import SentenceEncoder
    >>> def vowels(texts):
    ...     return np.array([[text.count(vowel) for vowel in "aeiou"] for text in texts])
    >>> encoder = SentenceEncoder(vowels)
    >>> encoder.transform(["banana", "coconut"]).round(1)
    array([[1. , 0. , 0. , 0. , 0. ],
           [0. , 0. , 0. , 0.9, 0.4]], dtype=float32)
    >>> model = make_pipeline(encoder, LogisticRegression(C=30))
    >>> model.fit(["papaya", "lemon", "guava", "melon"], ["a", "e", "a", "e"]).predict(["raisin"])
    array(['a'], dtype='<U1')
    """

    _parameter_constraints: dict = {
        "model": [str, os.PathLike, HasMethods(["embed"]), HasMethods(["encode"]), callable, None],
        "cache": [str, os.PathLike, None],
        "cache_id": [str, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str, None],
        "normalize": ["boolean"],
    }

    _shared_by_clones = ("model",)

    def __init__(
        self,
        model=None,
        *,
        cache="default",
        cache_id=None,
        batch_size=64,
        device=None,
        normalize=True,
    ):
        self.model = model
        self.cache = cache
        self.cache_id = cache_id
        self.batch_size = batch_size
        self.device = device
        self.normalize = normalize

    def fit(self, X, y=None):
        """Validate the texts and learn how many columns the vectors have.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,), or table of shape (n_samples, n_columns)
            Texts, or columns of texts.
        y : None
            Ignored.

        Returns
        -------
        self
        """
        self._validate_params()
        columns = text_columns(X)
        if is_table(X):
            validate_data(self, X, skip_check_array=True)
        # Its vector is known when `transform` asks for it.
        (vectors,) = self._encode([columns[0][:1]])
        n_blocks = len(columns) + 2 * len([*combinations(columns, 2)])
        self.n_features_out_ = n_blocks * vectors.shape[1]
        self._column_names = column_names(X, len(columns))
        return self

    def transform(self, X):
        """Encode texts.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,), or table of shape (n_samples, n_columns)
            Texts, or columns of texts.

        Returns
        -------
        ndarray of float32 of shape (n_samples, n_features_out)
        """
        columns = text_columns(X)
        if is_table(X) and hasattr(self, "n_features_in_"):
            validate_data(self, X, skip_check_array=True, reset=False)
        blocks = self._encode(columns)
        for u, v in combinations(blocks[:], 2):
            blocks += [np.abs(u - v), u * v]
        return blocks[0] if len(blocks) == 1 else np.hstack(blocks)

    def get_feature_names_out(self, input_features=None):
        """Return the names of the columns of `transform`.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        ndarray of str of shape (n_features_out,)
            ``sentenceencoder0`` and so on for a sequence of texts, ``question_0`` for a column
            `question`, ``|question-answer|_0`` and ``question*answer_0`` for two columns.
        """
        check_is_fitted(self, "n_features_out_")
        if self._column_names is None:
            return np.array([f"sentenceencoder{i}" for i in range(self.n_features_out_)], object)
        blocks = list(self._column_names)
        for one, other in combinations(self._column_names, 2):
            blocks += [f"|{one}-{other}|", f"{one}*{other}"]
        n = self.n_features_out_ // len(blocks)
        return np.array([f"{block}_{i}" for block in blocks for i in range(n)], object)

    def _encode(self, columns):
        """Encode columns of texts; a list of arrays of shape (n_samples, d)."""
        position: dict[str, int] = {}
        rows = [[position.setdefault(text, len(position)) for text in texts] for texts in columns]
        encoder = open_encoder(
            self.model, cache_id=self.cache_id, batch_size=self.batch_size, device=self.device
        )
        path = None if encoder.identity is None else cache_path(self.cache)
        with progress_bar(len(position), None, "Encode texts", unit="text") as tick:
            vectors = encode_once(
                list(position),
                lambda texts: check_vectors(encoder.encode(texts), texts),
                encoder.memory,
                None if path is None else VectorFile(path, encoder.identity),
                chunk_size=BATCHES_PER_CHUNK * self.batch_size,
                tick=tick,
            )
        if self.normalize:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors /= np.where(lengths == 0, 1, lengths)
        return [vectors[some] for some in rows]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags
