"""Word vectors as a transformer: texts in, the pooled vectors of their words out."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from sktransfer._utils import all_or_nothing
from sktransfer.exceptions import InvalidParameterError, did_you_mean
from sktransfer.samples.validation import set_input_tags
from sktransfer.words.loading import load_vectors
from sktransfer.words.oov import OovReport, report, resolve_policy, warn_of_unknown
from sktransfer.words.pooling import POOLINGS, Lookup, idf_weights, pool, sif_weights, top_direction
from sktransfer.words.tokenizing import Documents, Tokenizer, check_documents
from sktransfer.words.training import Training, train
from sktransfer.words.vectors import WordVectors

__all__ = ["WordEmbedder"]

_TRAINED = ("fasttext", "word2vec")
_ARCHITECTURES = ("skipgram", "cbow")
_BLOCK = 32_768  # tokens that are looked up at once: what bounds memory


class WordEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turn texts into features by vectors of their words: trained on the texts, or loaded.

    Parameters
    ----------
    model : str, path, WordVectors, KeyedVectors or spaCy vectors, default="fasttext"
        "fasttext" trains vectors of words and of their parts on X, "word2vec" of words alone; both by the package
        fasttext, `pip install "sktransfer[words]"`. A path loads vectors, as `load_vectors` does: fastText's `.bin` and
        `.ftz`, word2vec's text and binary formats, GloVe's text. `embedding_` of a fitted `WordEmbedder` takes over its
        vectors. An object of gensim or spaCy works as it is, but `sklearn.clone`, and with it every grid search, copies
        it: `model=load_vectors(keyed_vectors)` is shared.
    vector_size : int, default=100
        Length of the vectors. This and what follows, up to `continue_from`, is for training alone.
    window : int, default=5
        How far the neighbours of a word reach, at most.
    min_count : int, default=5
        Words that occur less often get no vector of their own.
    epochs : int, default=5
        Passes over the texts.
    architecture : {"skipgram", "cbow"}, default="skipgram"
        Predict the neighbours from a word, or a word from its neighbours; "cbow" is faster.
    min_n : int, default=3
        Shortest part of a word, in characters, its ends counted as one each; for "fasttext" alone.
    max_n : int, default=6
        Longest part of a word.
    continue_from : path, WordVectors, KeyedVectors or spaCy vectors, default=None
        General vectors to start from, of length `vector_size`. Words of X that they have start there and stay near;
        words that they have not get vectors in their midst; words that X has not are taken over as they are.
    oov : {"auto", "subword", "unk", "zero", "skip", "error"}, default="auto"
        What stands for a word without a vector: "subword" the mean of its parts' vectors, "unk" the mean of the vectors
        of the rarest tenth of all words, "zero" zeros, which count in a mean, "skip" nothing, "error" an error that
        names word and row. "auto" is "subword" where the vectors have parts, else "skip".
    pooling : {"mean", "tfidf", "sif", "max", "mean+max", None}, default="mean"
        How a text's vectors become one. "tfidf" weights words by inverse document frequency; "sif" by a / (a + p) with
        p a word's share and a = 0.001, and takes the direction off that the training texts have most in common; both
        know X of `fit` alone. None gives an object array with one array (n_tokens, vector_size) a text. A text
        without any vector gives zeros.
    tokenizer : callable, default=None
        From a `str` to a list of `str`. None: runs of letters and digits, with "n't", "'s" and the like apart, without
        punctuation; languages that put no blanks between words need one of their own.
    lowercase : bool, default=True
        Whether words are lowercased before they are looked up; set False where vectors tell capital letters.
    n_jobs : int, default=None
        Threads that training takes; -1 all. With more than one the vectors differ from run to run, whatever
        `random_state`, since threads write to the same memory as they come.
    random_state : int, RandomState or None, default=None
        Draws where training starts and what it samples. An int gives the same vectors again with one thread.

    Attributes
    ----------
    embedding_ : WordVectors
        The vectors, shared and read-only; `WordEmbedder(model=other.embedding_)` uses them for another task.
    vocabulary_ : dict of str to int
        Words and their rows in `vectors_`.
    vectors_ : ndarray of shape (n_words, vector_size), float32
        The vectors of words.
    oov_ : str
        The policy that "auto" stands for.
    n_features_in_, feature_names_in_
        Where X is a frame with one column.

    Notes
    -----
    A pickle holds vectors that were trained; of vectors that were loaded from a file, its path and a hash of its
    content: it must lie there, unchanged, where the pickle is read.

    Examples
    --------
    >>> from sktransfer import WordEmbedder
    >>> texts = ["a good film", "a good story", "a bad film", "a bad story"]
    >>> embedder = WordEmbedder(vector_size=10, min_count=2, random_state=0).fit(texts)
    >>> embedder.transform(["a bad, baad film"]).shape
    (1, 10)
    >>> print(embedder.oov_report(["a bad, baad film"]))
    25.0% of 4 words and 25.0% of 4 different words are unknown; 0.0% of 1 texts hold no known word. \
Most frequent: baad (1)
    """

    def __init__(
        self,
        model: Any = "fasttext",
        *,
        vector_size: int = 100,
        window: int = 5,
        min_count: int = 5,
        epochs: int = 5,
        architecture: str = "skipgram",
        min_n: int = 3,
        max_n: int = 6,
        continue_from: Any = None,
        oov: str = "auto",
        pooling: str | None = "mean",
        tokenizer: Tokenizer | None = None,
        lowercase: bool = True,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.model = model
        self.vector_size = vector_size
        self.window = window
        self.min_count = min_count
        self.epochs = epochs
        self.architecture = architecture
        self.min_n = min_n
        self.max_n = max_n
        self.continue_from = continue_from
        self.oov = oov
        self.pooling = pooling
        self.tokenizer = tokenizer
        self.lowercase = lowercase
        self.n_jobs = n_jobs
        self.random_state = random_state

    @all_or_nothing
    def fit(self, X: Any, y: Any = None) -> Self:
        """Train or load the vectors, and fit what the pooling learns from the texts.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or array of n_samples
            Texts (`str`) or lists of tokens.
        y : ignored
            There so that the embedder can stand in a `Pipeline`.

        Returns
        -------
        self : object

        Raises
        ------
        ImportError
            If vectors are to be trained and the package fasttext is missing.
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        WeightsError
            If a file of vectors is missing or damaged.
        """
        documents = self._check(X, reset=True)
        if self.pooling is not None and self.pooling not in POOLINGS:
            near = did_you_mean(str(self.pooling), [name for name in POOLINGS if name])
            raise InvalidParameterError(f"pooling={self.pooling!r} is not allowed; one of {POOLINGS}.{near}")
        embedding = self._embedding(documents)
        self.oov_ = resolve_policy(self.oov, embedding)
        self.embedding_ = embedding
        makers = {"tfidf": idf_weights, "sif": sif_weights}
        self._weights = makers[self.pooling](documents) if self.pooling in makers else None
        self._common = None
        self._n_features_out = embedding.n_dims * (2 if self.pooling == "mean+max" else 1)
        if self.pooling == "sif":
            self._common = top_direction(self._features(documents)[0])
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of texts.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or array of n_samples
            Texts (`str`) or lists of tokens.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features), float32
            For `pooling=None` an object array of shape (n_samples,), each item an array (n_tokens, vector_size).

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used, or holds a word without a vector and `oov="error"`.

        Warns
        -----
        UnknownWordsWarning
            If more than a fifth of the words, of a hundred at least, have no vector and nothing builds one.
        """
        check_is_fitted(self)
        features, n_unknown, n_tokens = self._features(self._check(X, reset=False))
        warn_of_unknown(n_unknown, n_tokens, self.oov_, self.embedding_, lowercase=self.lowercase)
        return features

    def similar_words(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """Return the k words nearest to a word, with their cosines.

        Parameters
        ----------
        word : str
            Any word that has a vector, or parts that have.
        k : int, default=10
            How many.

        Raises
        ------
        InvalidParameterError
            If the word has no vector.
        """
        check_is_fitted(self)
        return self.embedding_.similar(self._cased(word), k)

    def analogy(self, a: str, b: str, c: str, k: int = 1) -> list[tuple[str, float]]:
        """Return the k words that are to c as b is to a, with their cosines: nearest to b - a + c.

        Parameters
        ----------
        a, b, c : str
            "man", "king" and "woman" look for "queen".
        k : int, default=1
            How many.

        Raises
        ------
        InvalidParameterError
            If one of the words has no vector.
        """
        check_is_fitted(self)
        return self.embedding_.analogy(self._cased(a), self._cased(b), self._cased(c), k)

    def oov_report(self, X: Any, k: int = 20) -> OovReport:
        """Return how well the vocabulary covers texts.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or array of n_samples
            Texts (`str`) or lists of tokens.
        k : int, default=20
            How many of the most frequent unknown words are listed.

        Returns
        -------
        report : OovReport
            Shares of unknown words and of texts without any known word, and the unknown words themselves.
        """
        check_is_fitted(self)
        return report(self._check(X, reset=False), self.embedding_, k)

    @property
    def vocabulary_(self) -> dict[str, int]:
        """Words and their rows in `vectors_`."""
        check_is_fitted(self, "embedding_")
        return self.embedding_.index

    @property
    def vectors_(self) -> np.ndarray:
        """The vectors of words, (n_words, vector_size)."""
        check_is_fitted(self, "embedding_")
        return self.embedding_.matrix

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features: "wordembedder0", "wordembedder1", ...

        Parameters
        ----------
        input_features : ignored
            There as scikit-learn has it.

        Raises
        ------
        InvalidParameterError
            If `pooling` is None: arrays of different length have no columns.
        """
        check_is_fitted(self)
        if self.pooling is None:
            raise InvalidParameterError("pooling=None gives one array a text, which has no columns to be named")
        names: np.ndarray = super().get_feature_names_out(input_features)
        return names

    def _check(self, X: Any, *, reset: bool) -> Documents:
        return check_documents(self, X, tokenizer=self.tokenizer, lowercase=self.lowercase, reset=reset)

    def _cased(self, word: str) -> str:
        return word.lower() if self.lowercase else word

    def _embedding(self, documents: Documents) -> WordVectors:
        trains = isinstance(self.model, str) and self.model in _TRAINED
        if not trains:
            if self.continue_from is not None:
                raise InvalidParameterError(
                    f"continue_from is where training starts, and model={self.model!r} is not trained: set "
                    'model="fasttext" or model="word2vec"'
                )
            return load_vectors(self.model)
        start = None if self.continue_from is None else load_vectors(self.continue_from)
        return train(documents, self._training(), start)

    def _training(self) -> Training:
        if self.architecture not in _ARCHITECTURES:
            near = did_you_mean(str(self.architecture), _ARCHITECTURES)
            raise InvalidParameterError(f"architecture={self.architecture!r}: one of {_ARCHITECTURES}.{near}")
        for name in ("vector_size", "window", "min_count", "epochs", "min_n", "max_n"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise InvalidParameterError(f"{name}={value!r} must be a whole number of at least 1")
        if self.min_n > self.max_n:
            raise InvalidParameterError(f"min_n={self.min_n} is above max_n={self.max_n}")
        parts = (int(self.min_n), int(self.max_n)) if self.model == "fasttext" else (0, 0)
        return Training(
            n_dims=int(self.vector_size),
            window=int(self.window),
            min_count=int(self.min_count),
            epochs=int(self.epochs),
            architecture=self.architecture,
            min_n=parts[0],
            max_n=parts[1],
            n_threads=effective_n_jobs(self.n_jobs),
            seed=int(check_random_state(self.random_state).randint(1, 2**31 - 1)),
        )

    def _features(self, documents: Documents) -> tuple[np.ndarray, int, int]:
        """Return the features, and how many words were unknown of how many."""
        if self.pooling is None:
            features = np.empty(len(documents), dtype=object)
        else:
            features = np.empty((len(documents), self._n_features_out), np.float32)
        n_unknown = n_tokens = 0
        lookup = Lookup(self.embedding_, self.oov_)
        for start, texts in documents.blocks(_BLOCK):
            block = lookup(texts, start)
            pooled = pool(lookup, block, self.pooling, self._weights)
            rows = slice(start, start + len(texts))
            features[rows] = pooled if self.pooling is not None else _objects(pooled)
            n_unknown, n_tokens = n_unknown + block.n_unknown, n_tokens + block.n_seen
        if self._common is not None:
            features -= (features @ self._common)[:, None] * self._common  # (n_samples, n_dims)
        return features, n_unknown, n_tokens

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = []  # features are float32, whatever comes in
        set_input_tags(tags, "text")
        return tags


def _objects(arrays: Any) -> np.ndarray:
    """Return arrays as one object array, not as an array of numbers where all have the same length."""
    held = np.empty(len(arrays), dtype=object)
    for row, array in enumerate(arrays):
        held[row] = array
    return held
