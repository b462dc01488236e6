"""Class weights together with ignored labels in mmseg's own cross-entropy."""

import importlib
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from paif_mm.compat.ignored_labels import MODULE, _mend, weight_sum

losses = importlib.import_module('mmseg.models.losses')
CrossEntropyLoss, cross_entropy = losses.CrossEntropyLoss, importlib.import_module(MODULE).cross_entropy
WEIGHTS = [0.5, 1.0, 4.0]


def logits_and_labels(ignored: bool = True):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    labels = torch.randint(0, 3, (2, 4, 5), generator=generator)
    if ignored:
        labels[0, :2] = 255
    return logits, labels


def test_the_weights_of_ignored_pixels_are_left_out_or_are_one():
    labels = torch.tensor([[0, 2, 255], [255, 1, 2]])
    assert weight_sum(torch.tensor(WEIGHTS), labels, 255, avg_non_ignore=True) == 0.5 + 4 + 1 + 4
    assert weight_sum(torch.tensor(WEIGHTS), labels, 255, avg_non_ignore=False) == 0.5 + 4 + 1 + 4 + 2


def test_the_sum_of_half_precision_weights_does_not_overflow():
    labels = torch.zeros(1, 512, 512, dtype=torch.long)
    assert weight_sum(torch.tensor([1.0], dtype=torch.half), labels, 255, True) == 512 * 512


def test_mmsegs_loss_over_labelled_pixels_is_torchs():
    logits, labels = logits_and_labels()
    loss = CrossEntropyLoss(class_weight=WEIGHTS, avg_non_ignore=True)(logits, labels, ignore_index=255)
    expected = F.cross_entropy(logits, labels, torch.tensor(WEIGHTS), ignore_index=255)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize('avg_non_ignore', [True, False])
def test_weights_of_one_change_nothing(avg_non_ignore):
    logits, labels = logits_and_labels()
    weighted, plain = (
        CrossEntropyLoss(class_weight=w, avg_non_ignore=avg_non_ignore)(logits, labels, ignore_index=255)
        for w in ([1.0] * 3, None)
    )
    assert weighted.item() == pytest.approx(plain.item(), rel=1e-6)


@pytest.mark.parametrize('avg_non_ignore', [True, False])
def test_without_ignored_labels_the_loss_is_what_mmseg_makes_it(avg_non_ignore):
    logits, labels = logits_and_labels(ignored=False)
    settings = {'class_weight': torch.tensor(WEIGHTS), 'ignore_index': 255, 'avg_non_ignore': avg_non_ignore}
    former = cross_entropy.__wrapped__(logits, labels, **settings)
    assert cross_entropy(logits, labels, **settings).item() == pytest.approx(former.item(), rel=1e-6)


def test_an_image_without_labels_has_no_loss():
    logits, labels = logits_and_labels()
    labels[:] = 255
    assert CrossEntropyLoss(class_weight=WEIGHTS, avg_non_ignore=True)(logits, labels, ignore_index=255) == 0


def test_all_names_of_the_function_are_mended_once():
    assert losses.cross_entropy is cross_entropy
    module = SimpleNamespace(cross_entropy=cross_entropy.__wrapped__)
    _mend(module)
    mended = module.cross_entropy
    _mend(module)
    assert module.cross_entropy is mended is not cross_entropy.__wrapped__
