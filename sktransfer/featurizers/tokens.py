"""A frozen text backbone as a transformer from sentences of words to features per word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from sklearn.utils import Tags

from sktransfer._parameters import with_parameters
from sktransfer._utils import all_or_nothing, progress
from sktransfer._validation import check_option
from sktransfer.backbones.loading import load_backbone
from sktransfer.cache.policy import prefetch_for_layers
from sktransfer.cache.resolve import resolve_store
from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.choose_layers import CandidateOutputs, candidate_layers, choice_rows, choose_layers
from sktransfer.engine.compute import check_finite_outputs
from sktransfer.engine.forward import forward
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layers import LayerOutput
from sktransfer.engine.parameters import BACKBONE, COMPUTE, LAYER, MAX_LENGTH, SUBWORD, TARGET, VERBOSE, WEIGHTS
from sktransfer.featurizers.base import Featurizer
from sktransfer.sentences.checks import Sentences, check_sentences, check_word_values
from sktransfer.sentences.values import SUBWORDS, collect_words
from sktransfer.sentences.windows import Windows, read_sentences

if TYPE_CHECKING:
    from sktransfer.backbones.backbone import Backbone

__all__ = ["TokenFeaturizer"]


@with_parameters(
    BACKBONE.replace(
        default="tiny/bert",
        description="""A name or a loaded backbone, such as `tagger.backbone_` of a fitted tagger. "tiny/bert" is
        shipped, and `"hf/<hub id>"` or `"hf/<local folder>"` loads a model of transformers.""",
    ),
    WEIGHTS,
    MAX_LENGTH.replace(
        description="""Number of tokens that the network reads at once, including special ones. None is as many as the
        model accepts. Longer sentences are read in overlapping windows, and no word is lost.""",
    ),
    LAYER,
    TARGET,
    SUBWORD,
    COMPUTE,
    VERBOSE,
)
class TokenFeaturizer(Featurizer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Turn sentences of words into features per word by a frozen pretrained language model.

    The words of a sentence pass through the backbone's stages together. The outputs of a stage for the tokens of a word
    give its features. By default, the outputs of all stages are joined, weighed by how well they predict y. Otherwise
    `layer` names the stages (0 is the embeddings, k the k-th layer).

    `stack_words` makes one table of the words of all sentences, for any classifier of scikit-learn.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    backbone_ : Backbone
        The network, which is shared and never changed.
    layer_ : Series
        Only with `layer="auto"` and y: weight of each layer, by stage, summing to one.
    strength_ : float
        Only with `layer="auto"` and y: C of a logistic regression, or alpha of a ridge regression, on features of total
        variance 1. `transform` gives features on which 1 is right.
    report_ : str
        The choice and the errors that decided it, in a few lines.
    n_features_in_, feature_names_in_
        Present if X is a frame with one column.

    See Also
    --------
    stack_words : Stacks the words of all sentences to one table.
    TextFeaturizer : Gives one vector per text.

    Notes
    -----
    No word is lost: each sentence gets as many rows as it has words. The words are read as a text with blanks between
    them. The unknown token stands for a word that the tokenizer gives no token, such as an empty one or one of control
    characters. A sentence longer than `max_length` is read in windows of whole words that overlap by a quarter. Each
    word has the features of the window in which it is farthest from a border. Of a word longer than a window, the first
    tokens are read.

    The features of a word depend neither on the batch nor on the other sentences. The cache keeps the outputs for all
    tokens of a window, so that a search over layers and `subword` runs the network once if they fit. Such outputs are
    large. 10,000 sentences of 20 tokens take 300 MB per layer of 384 features. `set_config(cache_dtype="float16")`
    halves them.

    With y, `layer="auto"` chooses as `TextFeaturizer` does, by at most 1,000 words at equal distances. Without y it is
    `layer=-1`, which is seldom the best layer for tags.

    Features are a list, because sentences differ in length. `set_output` and steps of scikit-learn that take tables do
    not apply to it. Stack the words first.

    Examples
    --------
    >>> from sktransfer import TokenFeaturizer
    >>> sentences = [["EU", "rejects", "German", "call"], ["Peter", "Blackburn"], []]
    >>> features = TokenFeaturizer(layer=2).fit_transform(sentences)
    >>> [part.shape for part in features]
    [(4, 160), (2, 160), (0, 160)]
    >>> tags = [["ORG", "O", "MISC", "O"], ["PER", "PER"], []]
    >>> TokenFeaturizer().fit(sentences, tags).layer_.index.name
    'layer'
    """

    _modality = "text"
    pooling = None
    missing = "raise"
    _missing_options = ("raise", "empty")
    max_length: int | None
    subword: str

    @all_or_nothing
    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the backbone, validate the sentences and choose layers if `layer="auto"`, without training.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or object array of n_samples lists of str
            Words of each sentence.
        y : list, Series or object array of n_samples lists, default=None
            Labels or numbers, one per word, that `layer="auto"` chooses by. None is a word whose label is not known.
            Otherwise ignored.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sentence cannot be used.
        ValueError
            If `layer="auto"` and y does not fit X.
        """
        return super().fit(X, y)

    def transform(self, X: Any) -> list[np.ndarray]:  # type: ignore[override]
        """Return the features of the words of sentences.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or object array of n_samples lists of str
            Words of each sentence.

        Returns
        -------
        features : list of n_samples ndarray of shape (n_words, n_features), float32
            As many rows as the sentence has words. Parts of one array.

        Raises
        ------
        InvalidSampleError
            If a sentence cannot be used.
        """
        features: Any = super().transform(X)
        return list(features)

    @all_or_nothing
    def fit_transform(self, X: Any, y: Any = None) -> list[np.ndarray]:  # type: ignore[override]
        """Fit and return the features of the same sentences, which are validated once.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or object array of n_samples lists of str
            Words of each sentence.
        y : list, Series or object array of n_samples lists, default=None
            Labels or numbers, one per word, that `layer="auto"` chooses by. None is a word whose label is not known.
            Otherwise ignored.

        Returns
        -------
        features : list of n_samples ndarray of shape (n_words, n_features), float32
            As many rows as the sentence has words. Parts of one array.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sentence cannot be used.
        ValueError
            If `layer="auto"` and y does not fit X.
        """
        features: Any = super().fit_transform(X, y)
        return list(features)

    def _load(self) -> Backbone:
        check_option("subword", self.subword, SUBWORDS)
        return load_backbone(self.backbone, weights=self.weights, max_length=self.max_length)

    def _check(self, X: Any, *, reset: bool) -> Sentences:
        return check_sentences(X, self, reset=reset)

    def _inputs(self, samples: Any) -> PreprocessedSamples:
        return read_sentences(samples, self.backbone_)

    def _count_features(self, inputs: PreprocessedSamples) -> list[int]:
        """Return the number of features of each layer, from the first window. Its output is cached."""
        if not len(inputs):
            return self._count_features_of_blank()
        outputs = self._forward(inputs, rows=[0])
        ((_, vectors),) = collect_words(outputs, inputs.samples, self.subword)
        return [one.shape[1] for one in vectors]

    def _count_features_of_blank(self) -> list[int]:
        return self._count_features(self._inputs(Sentences([("",)])))

    def _prefetch(self) -> list[LayerOutput]:
        """Return the values of all lower stages, which a search over layers asks for. One pass computes them all."""
        if self._choice is not None:
            return self._candidates
        top = max(layer.stop for layer in self._layers())
        outputs = prefetch_for_layers(top, None, len(self.backbone_.stages), cheap=True)
        return [LayerOutput(*output) for output in reversed(outputs)]

    def _choose(self, inputs: PreprocessedSamples, y: Any, context: Any = None) -> Any:
        """Choose layers by some of the words. The values of their windows are cached if there is a store."""
        windows: Windows = inputs.samples
        values = [value for one in check_word_values(y, windows.n_words, windows.labels) for value in one]
        known = np.flatnonzero([value is not None for value in values])  # (n_known,)
        if not len(known):
            raise ValueError("layer='auto' weighs layers by how well they predict y, and y has no value that is known")
        words = known[choice_rows(len(known))]  # (n_chosen,)
        selected = np.zeros(len(values), bool)
        selected[words] = True
        layers = self._layers_of_tokens(inputs)
        rows = np.unique(windows.window[words]).tolist()
        parts: list[tuple[np.ndarray, list[torch.Tensor]]] = []
        outputs = forward(
            self.backbone_, inputs, layers, rows=rows, compute=self._compute(), store=resolve_store(self.cache)
        )
        with progress(len(words), self, "word", self.verbose) as bar:
            for some, vectors in collect_words(outputs, windows, self.subword, selected):
                parts.append((some, vectors))
                bar.update(len(some))
                self._report_batch(context)
        order = np.argsort(np.concatenate([some for some, _ in parts]))  # (n_chosen,)
        features = [torch.cat(one)[order].numpy() for one in zip(*(vectors for _, vectors in parts))]
        found = CandidateOutputs(layers, words.tolist(), features)
        targets = ChoiceTargets.of([values[word] for word in words], self.target)
        self._candidates, self._choice = layers, choose_layers(found, targets)
        self._set_widths(list(self._choice.widths))

    def _layers_of_tokens(self, inputs: PreprocessedSamples) -> list[LayerOutput]:
        """Return the outputs of the stages that do not pool, as the first window shows."""
        layers = candidate_layers(self.backbone_, inputs, None, self._compute())
        store = resolve_store(self.cache)
        ((_, outputs),) = forward(self.backbone_, inputs, layers, rows=[0], compute=self._compute(), store=store)
        return [layer for layer, (values,) in zip(layers, outputs) if values.ndim == 2]

    def _features(  # type: ignore[override]
        self, inputs: PreprocessedSamples, widths: list[int] | None = None, *, known: Any = None, context: Any = None
    ) -> tuple[list[np.ndarray], list[int]]:
        """Return the features of the words of each sentence, and the number of features of each layer."""
        windows: Windows = inputs.samples
        features: np.ndarray | None = None
        with progress(len(windows.window), self, "word", self.verbose) as bar:
            for words, vectors in collect_words(self._forward(inputs), windows, self.subword):
                values = torch.cat(vectors, 1).numpy()  # (n, n_features)
                if features is None:
                    widths = [one.shape[1] for one in vectors]
                    features = np.empty((len(windows.window), values.shape[1]), np.float32)
                features[words] = values
                bar.update(len(words))
                self._report_batch(context)
        inputs.warn_of_unread()
        widths = widths or self._count_features_of_blank()
        if features is None:
            features = np.empty((0, sum(widths)), np.float32)
        check_finite_outputs(features, self._compute())
        return windows.split(self._postprocess(features, widths)), widths

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.two_d_array = False
        return tags
