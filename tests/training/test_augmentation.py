"""Samples changed anew in each epoch, by the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from skorch.callbacks import Callback
from torchvision.transforms import v2

from sktransfer import FineTuneClassifier, FineTuneRegressor, cache_info, clear_cache, load_backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.images import check_images
from sktransfer.testing.samples import make_samples
from sktransfer.training.augmentation import Augmentation, check_augment, drop_words
from tests.helpers.small_bert import small_bert

IMAGES, LABELS = make_samples("image", 12)
TEXTS, _ = make_samples("text", 12)
BERT = "hf/" + small_bert()
WORDS = ["good", "bad", "film", "plot"]
LONG = [" ".join(WORDS[(row + place * (1 + row % 3)) % 4] for place in range(16)) for row in range(12)]


class Seen(Callback):
    """What the trained part is given, batch by batch, a sum a sample."""

    def on_batch_begin(self, net, batch, training, **kwargs):
        values = batch[0].get("values", batch[0].get("fixed")).double()
        found = values.flatten(1).sum(1).tolist()
        store = self.__dict__.setdefault("train_" if training else "valid_", {})
        store.setdefault(len(net.history), []).extend(found)


def seen(backbone, X, part="train_", **parameters):
    options = {"max_epochs": 2, "random_state": 0, "freeze_depth": 2, **parameters}
    clf = FineTuneClassifier(backbone, callbacks=[Seen], **options).fit(X, LABELS)
    found = vars(dict(clf.net_.callbacks_)["Seen"]).get(part, {})
    return clf, {epoch: sorted(values) for epoch, values in found.items()}


@pytest.mark.parametrize(
    ("backbone", "X", "augment"),
    [("tiny/cnn", IMAGES, "light"), ("tiny/cnn", IMAGES, "strong"), (BERT, LONG, "word_dropout")],
)
@pytest.mark.parametrize("freeze_depth", [0, 2, "all"])
def test_augment_gives_new_views_per_epoch_determined_by_random_state(backbone, X, augment, freeze_depth):
    clf, found = seen(backbone, X, augment=augment, freeze_depth=freeze_depth)
    again, same = seen(backbone, X, augment=augment, freeze_depth=freeze_depth)
    _, other = seen(backbone, X, augment=augment, freeze_depth=freeze_depth, random_state=1)
    assert found == same
    assert found[1] != found[2]
    assert found[1] != other[1]
    np.testing.assert_array_equal(clf.predict_proba(X), again.predict_proba(X))


def test_augment_takes_a_transform_of_torchvision():
    _, mirrored = seen("tiny/cnn", IMAGES, augment=v2.RandomHorizontalFlip(1.0), freeze_depth=0)
    flipped = [np.asarray(image)[:, ::-1] if isinstance(image, np.ndarray) else image for image in IMAGES]
    _, expected = seen("tiny/cnn", flipped, freeze_depth=0)
    np.testing.assert_allclose(mirrored[1], expected[1], rtol=1e-4, atol=1e-2)


def test_augment_stores_no_views_and_keeps_frozen_stages():
    clear_cache()
    seen("tiny/cnn", IMAGES, freeze_depth=3, max_epochs=0)
    before = cache_info().n_bytes
    clear_cache()
    clf, _ = seen("tiny/cnn", IMAGES, freeze_depth=3, augment="light", max_epochs=3)
    assert cache_info().n_bytes <= before
    for source, tuned in zip(load_backbone("tiny/cnn").stages[:3], clf.backbone_.stages[:3]):
        assert all(one.equal(other) for one, other in zip(source.state_dict().values(), tuned.state_dict().values()))


def test_augment_does_not_change_held_out_samples():
    options = {"early_stopping": True, "validation_fraction": 0.25, "part": "valid_"}
    _, found = seen("tiny/cnn", IMAGES, augment="strong", **options)
    _, plain = seen("tiny/cnn", IMAGES, **options)
    np.testing.assert_allclose(found[1], found[2])
    np.testing.assert_allclose(found[1], plain[1], rtol=1e-5)


def test_augment_leaves_the_global_random_state_unchanged():
    before = torch.get_rng_state()
    FineTuneRegressor(augment="light", max_epochs=1, random_state=0).fit(IMAGES, np.arange(12.0))
    assert torch.equal(before, torch.get_rng_state())


def test_drop_words_leaves_out_a_tenth_of_the_words_but_never_all():
    torch.manual_seed(0)
    text = " ".join(map(str, range(2000)))
    assert 1740 < len(drop_words(text).split()) < 1860
    assert all(drop_words("word") == "word" for _ in range(100))
    assert drop_words("") == ""


def test_views_depend_only_on_seed_epoch_and_row():
    samples = check_images([Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))] * 3)
    augmentation = Augmentation(check_augment("strong", "image"), 0)
    alone, together = augmentation.views(samples, [2], 0).load(0), augmentation.views(samples, [0, 2], 0)
    np.testing.assert_array_equal(alone, together.load(1))
    assert np.abs(together.load(0) - together.load(1)).max() > 1e-3
    assert len(together.take([1])) == 1
    assert np.abs(augmentation.views(samples, [2], 1).load(0) - alone).max() > 1e-3


@pytest.mark.parametrize(
    ("backbone", "X", "augment", "match"),
    [
        ("tiny/cnn", IMAGES, "word_dropout", "X holds images"),
        ("tiny/cnn", IMAGES, "heavy", "'light', 'strong'"),
        (BERT, TEXTS, "light", "X holds texts"),
        ("tiny/cnn", IMAGES, v2.Grayscale(), "must return a tensor"),
    ],
)
def test_augment_rejects_values_for_another_modality(backbone, X, augment, match):
    with pytest.raises(InvalidParameterError, match=match):
        FineTuneClassifier(backbone, augment=augment).fit(X, LABELS)
