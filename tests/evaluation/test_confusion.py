"""Predictions are the net's own in eval mode; the matrix counts them one by one."""

import pytest
import tiny
import torch
from sklearn import metrics
from torch import nn

from fasthebb.evaluation import confusion_matrix, predictions


def test_predictions_are_the_nets_in_eval_mode() -> None:
    torch.manual_seed(0)
    net = tiny.net().train()
    net[2].eval()
    batches = list(tiny.loader(23, shuffle=False))
    scores, labels = predictions(net, batches)
    assert net.training
    assert not net[2].training
    assert int(net[6].num_batches_tracked) == 0
    assert not scores.requires_grad
    net.eval()
    assert torch.equal(scores, torch.cat([net(x) for x, _ in batches]))
    assert labels.tolist() == [i % 3 for i in range(23)]


def test_predictions_of_unlabelled_images_and_in_half_precision() -> None:
    batch = (torch.randn(2, 3).bfloat16(), torch.tensor([-1, -1]))
    scores, labels = predictions(nn.Linear(3, 4).bfloat16(), [batch])
    assert scores.dtype == torch.float32
    assert scores.shape == (2, 4)
    assert labels.tolist() == [-1, -1]
    assert torch.equal(predictions(nn.Identity(), [batch])[0], batch[0].float())


def test_nothing_to_predict_and_scores_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="the loader gave no batch"):
        predictions(tiny.net(), [])
    net = tiny.nan_net().train()
    with pytest.raises(FloatingPointError, match="scores are not finite"):
        predictions(net, tiny.loader())
    assert net.training


def test_the_matrix_counts_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, labels = torch.randint(0, 4, (2, 200), generator=generator)
    expected = [[0] * 5 for _ in range(5)]  # the last class is neither seen nor said
    for said, true in zip(predicted.tolist(), labels.tolist()):
        expected[true][said] += 1
    found = confusion_matrix(predicted, labels, 5)
    assert found.dtype == torch.int64
    assert found.tolist() == expected
    assert found.tolist() == metrics.confusion_matrix(labels, predicted, labels=range(5)).tolist()
    assert int(found.trace()) == int((predicted == labels).sum())
    assert confusion_matrix(predicted.to(torch.uint8), labels.to(torch.uint8), 100)[:5, :5].tolist() == expected


def test_numbers_outside_the_classes() -> None:
    labels = torch.tensor([0, 1, -1, 3])
    with pytest.raises(ValueError, match="2 of 4 labels lie outside 0 to 2"):
        confusion_matrix(torch.zeros(4, dtype=torch.int64), labels, 3)
    with pytest.raises(ValueError, match="2 of 4 predictions lie outside 0 to 2"):
        confusion_matrix(labels, torch.zeros(4, dtype=torch.int64), 3)
    with pytest.raises(ValueError, match=r"predictions are \[4\], labels \[3\]"):
        confusion_matrix(labels, labels[:3], 4)
