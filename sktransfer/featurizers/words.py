"""Word vectors as a transformer from texts to pooled vectors of their words."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from sktransfer._utils import all_or_nothing, progress, title_of
from sktransfer._validation import check_int, check_option
from sktransfer.exceptions import InvalidParameterError, did_you_mean
from sktransfer.samples.labels import labelled_rows
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
_BLOCK = 32_768  # tokens per lookup, which bounds memory


class WordEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Transform texts into features by pooling the vectors of their words, trained on the texts or loaded.

    Parameters
    ----------
    model : str, path, WordVectors, KeyedVectors or spaCy vectors, default="fasttext"
        "fasttext" trains vectors of words and of their character n-grams on X, "word2vec" vectors of words alone. Both
        use the package fasttext, `pip install "fasttext>=0.9.3"`. A path loads vectors, as `load_vectors` does:
        fastText's `.bin` and `.ftz`, word2vec's text and binary formats, GloVe's text format. `embedding_` of a fitted
        `WordEmbedder` reuses its vectors. Objects of gensim or spaCy can be passed directly, but `sklearn.clone`, and
        with it every grid search, copies them. `model=load_vectors(keyed_vectors)` is shared.
    vector_size : int, default=100
        Length of the vectors. This parameter and the following ones, up to `continue_from`, are for training only.
    window : int, default=5
        Largest distance between a word and its neighbours.
    min_count : int, default=5
        Words that occur less often get no vector of their own.
    epochs : int, default=5
        Number of passes over the texts.
    architecture : {"skipgram", "cbow"}, default="skipgram"
        Predict the neighbours from a word, or a word from its neighbours; "cbow" is faster.
    min_n : int, default=3
        Length of the shortest character n-gram, including the marks of the word's boundaries. For "fasttext" only.
    max_n : int, default=6
        Length of the longest character n-gram.
    continue_from : path, WordVectors, KeyedVectors or spaCy vectors, default=None
        General vectors of length `vector_size` to start from. Words of X that they contain start there and stay near.
        Words that they lack get vectors among them. Words that are not in X keep their vectors.
    oov : {"auto", "subword", "unk", "zero", "skip", "error"}, default="auto"
        Treatment of words without a vector. "subword" uses the mean of the vectors of the word's n-grams, "unk" the
        mean of the vectors of the rarest tenth of all words, "zero" zeros, which count in a mean. "skip" drops the
        word, and "error" raises an error that names word and row. "auto" is "subword" if the vectors have subwords,
        else "skip".
    pooling : {"mean", "tfidf", "sif", "max", "mean+max", None}, default="mean"
        Pooling of the vectors of a text. "tfidf" weights words by inverse document frequency. "sif" weights them by
        a / (a + p), where p is a word's share and a = 0.001, and removes the first principal direction of the training
        texts. Both are computed from the X of `fit` alone. A text without any vector gives zeros. None gives an object
        array with one array (n_tokens, vector_size) per text, for a network of your own. Estimators of scikit-learn
        raise a `ValueError` of NumPy for it, "setting an array element with a sequence". Choose another pooling there.
    tokenizer : callable, default=None
        Function from a `str` to a list of `str`. None finds runs of letters and digits with their combining marks, with
        "n't", "'s" and similar endings separate, and drops punctuation. It puts texts into Unicode's form NFC. A word
        without a vector is also looked up in NFC and NFD, whatever the tokenizer, because files of vectors have words
        in either. Languages without blanks between words, such as Thai, need their own tokenizer.
    lowercase : bool, default=True
        Whether words are lowercased before lookup. Set False if the vectors distinguish capital letters.
    n_jobs : int, default=None
        Number of threads for training; -1 uses all. With more than one, the vectors differ from run to run even with an
        int as `random_state`, because threads write to shared memory without synchronisation.
    random_state : int, RandomState or None, default=None
        Seed of the start vectors and of the sampling in training. An int makes training with one thread reproducible.
    verbose : int, default=0
        1 shows a progress bar for the pooling, and when the training ends.

    Attributes
    ----------
    embedding_ : WordVectors
        The vectors, shared and read-only. `WordEmbedder(model=other.embedding_)` uses them for another task.
        `embedding_.to_word2vec(path)` writes them for other libraries, and `embedding_.to_gensim()` returns gensim's
        `KeyedVectors`.
    vocabulary_ : dict of str to int
        Row in `vectors_` of each word.
    vectors_ : ndarray of shape (n_words, vector_size), float32
        Vectors of the words.
    oov_ : str
        The policy in use, with "auto" resolved.
    n_features_in_, feature_names_in_
        Present if X is a frame with one column.

    Notes
    -----
    A pickle contains trained vectors. For vectors that were loaded from a file, it contains the path and a hash of the
    content instead. If the file has been moved, `config_context(weights_path=...)` finds it when the pickle is loaded.

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
        verbose: int = 0,
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
        self.verbose = verbose

    @all_or_nothing
    def fit(self, X: Any, y: Any = None) -> Self:
        """Train or load the vectors, and fit the weights of the pooling.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or array of n_samples
            Texts (`str`) or lists of tokens.
        y : ignored
            Present for compatibility with `Pipeline`.

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
            raise InvalidParameterError(f"pooling={self.pooling!r} must be one of {POOLINGS}.{near}")
        with labelled_rows(documents.labels):
            embedding = self._embedding(documents)
        self.oov_ = resolve_policy(self.oov, embedding)
        self.embedding_ = embedding
        weightings = {"tfidf": idf_weights, "sif": sif_weights}
        self._weights = weightings[self.pooling](documents) if self.pooling in weightings else None
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
            For `pooling=None`, an object array of shape (n_samples,) of arrays (n_tokens, vector_size).

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used, or contains a word without a vector and `oov="error"`.

        Warns
        -----
        UnknownWordsWarning
            If more than a fifth of at least 100 words have no vector, or more than a fifth of the texts, and at least
            two, hold no word that has one, and the policy is not "subword".
        """
        check_is_fitted(self)
        documents = self._check(X, reset=False)
        features, n_unknown, n_tokens, n_uncovered = self._features(documents)
        of_texts = {"n_texts": len(documents), "n_uncovered": n_uncovered}
        warn_of_unknown(n_unknown, n_tokens, self.oov_, self.embedding_, lowercase=self.lowercase, **of_texts)
        return features

    def similar_words(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """Return the k words nearest to a word, with their cosines.

        Parameters
        ----------
        word : str
            A word with a vector, or with known n-grams if the vectors have subwords.
        k : int, default=10
            Number of words.

        Raises
        ------
        InvalidParameterError
            If the word has no vector.
        """
        check_is_fitted(self)
        return self.embedding_.similar(self._cased(word), k)

    def analogy(self, a: str, b: str, c: str, k: int = 1) -> list[tuple[str, float]]:
        """Return the k words nearest to b - a + c, with their cosines.

        Parameters
        ----------
        a, b, c : str
            Words of the analogy "a is to b as c is to d". For "man", "king" and "woman", d is "queen".
        k : int, default=1
            Number of words.

        Raises
        ------
        InvalidParameterError
            If one of the words has no vector.
        """
        check_is_fitted(self)
        return self.embedding_.analogy(self._cased(a), self._cased(b), self._cased(c), k)

    def oov_report(self, X: Any, k: int = 20) -> OovReport:
        """Return the coverage of texts by the vocabulary.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or array of n_samples
            Texts (`str`) or lists of tokens.
        k : int, default=20
            Number of unknown words to list, most frequent first.

        Returns
        -------
        report : OovReport
            Shares of unknown words and of texts without any known word, and the most frequent unknown words.
        """
        check_is_fitted(self)
        return report(self._check(X, reset=False), self.embedding_, k)

    @property
    def vocabulary_(self) -> dict[str, int]:
        """Row in `vectors_` of each word."""
        check_is_fitted(self, "embedding_")
        return self.embedding_.index

    @property
    def vectors_(self) -> np.ndarray:
        """Vectors of the words, (n_words, vector_size)."""
        check_is_fitted(self, "embedding_")
        return self.embedding_.matrix

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features: "wordembedder0", "wordembedder1", ...

        Parameters
        ----------
        input_features : ignored
            Present for compatibility with scikit-learn.

        Raises
        ------
        InvalidParameterError
            If `pooling` is None, because arrays of different length have no columns.
        """
        check_is_fitted(self)
        if self.pooling is None:
            raise InvalidParameterError(
                "pooling=None gives one array per text and no columns to name. Choose another pooling"
            )
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
                    f"continue_from applies to training, and model={self.model!r} is not trained. Set "
                    'model="fasttext" or model="word2vec", or continue_from=None'
                )
            return load_vectors(self.model)
        start = None if self.continue_from is None else load_vectors(self.continue_from)
        title = f"{title_of(self)} training" if self.verbose else ""
        with progress(len(documents), title, "text", self.verbose) as bar:
            trained = train(documents, self._training(), start)
            bar.update(len(documents))  # fastText tells nothing before the end
        return trained

    def _training(self) -> Training:
        check_option("architecture", self.architecture, _ARCHITECTURES)
        names = ("vector_size", "window", "min_count", "epochs", "min_n", "max_n")
        numbers = {name: check_int(name, getattr(self, name), 1) for name in names}
        if self.min_n > self.max_n:
            raise InvalidParameterError(
                f"min_n={self.min_n} is greater than max_n={self.max_n}. Lower min_n or raise max_n"
            )
        has_subwords = self.model == "fasttext"
        return Training(
            n_dims=numbers["vector_size"],
            window=numbers["window"],
            min_count=numbers["min_count"],
            epochs=numbers["epochs"],
            architecture=self.architecture,
            min_n=numbers["min_n"] if has_subwords else 0,
            max_n=numbers["max_n"] if has_subwords else 0,
            n_threads=effective_n_jobs(self.n_jobs),
            seed=int(check_random_state(self.random_state).randint(1, 2**31 - 1)),
        )

    def _features(self, documents: Documents) -> tuple[np.ndarray, int, int, int]:
        """Return the features, and the numbers of unknown words, of all words and of texts without a known word."""
        if self.pooling is None:
            features = np.empty(len(documents), dtype=object)
        else:
            features = np.empty((len(documents), self._n_features_out), np.float32)
        n_unknown = n_tokens = n_uncovered = 0
        lookup = Lookup(self.embedding_, self.oov_)
        with progress(len(documents), self, "text", self.verbose) as bar:
            for start, texts in documents.blocks(_BLOCK):
                with labelled_rows(documents.labels):
                    block = lookup(texts, start)
                pooled = pool(lookup, block, self.pooling, self._weights)
                rows = slice(start, start + len(texts))
                features[rows] = pooled if self.pooling is not None else _as_object_array(pooled)
                n_unknown, n_tokens = n_unknown + block.n_unknown, n_tokens + block.n_seen
                n_uncovered += block.n_uncovered
                bar.update(len(texts))
        if self._common is not None:
            features -= (features @ self._common)[:, None] * self._common  # (n_samples, n_dims)
        return features, n_unknown, n_tokens, n_uncovered

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = []  # features are float32 for every input
        set_input_tags(tags, "text")
        return tags


def _as_object_array(arrays: Any) -> np.ndarray:
    """Return arrays as an object array of shape (n_samples,), even if all have the same shape."""
    objects = np.empty(len(arrays), dtype=object)
    for row, array in enumerate(arrays):
        objects[row] = array
    return objects
