"""Read-outs of moved and mirrored images, of all depths together, of labels that spread; scores for others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import NET, QUIET, fails, timeless, write_images
from torch import Tensor, nn

from fasthebb.cli import main
from fasthebb.data import Dataset, load
from fasthebb.evaluation import extract, linear_probe, topk_accuracy
from fasthebb.evaluation.propagation import propagate
from fasthebb.evaluation.results import Record
from fasthebb.jobs import frozen
from fasthebb.jobs.net import Net
from fasthebb.jobs.readouts import ReadOutOptions
from fasthebb.jobs.trained import read_net

INPUTS = {1: "4", 2: "8"}  # by depth, what the features enter
FEW = torch.tensor([3, 30, 8, 14, 21, 40, 2, 9, 37, 16, 5, 28])  # the labelled images
Kept = dict[tuple[str, int, int], Tensor]
View = tuple[tuple[int, int], bool]  # moved down and to the right, mirrored


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{write_images(tmp_path_factory.mktemp('images'), each=20)}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["pretrain", *NET, "--data", data, "--max-steps", "4", "--batch-size", "16", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def there(run: Path, data: str) -> tuple[Net, nn.Module, Dataset]:
    net, model = read_net(run, QUIET)
    return net, model, load(data, image_size=net.image_size)


def read(there: tuple[Net, nn.Module, Dataset], **wanted: Any) -> tuple[list[Record], Kept]:
    """The records of read-outs, and the scores that were handed on, by name, labels and depth."""
    kept: Kept = {}

    def keep(name: str, labels: int, depth: int, error: float, scores: Tensor) -> None:
        assert error >= 0
        kept[name, labels, depth] = scores

    budgets = {12: FEW, 6: FEW[:6]}
    options = ReadOutOptions(**wanted)
    return frozen.frozen(*there, budgets, 0, torch.device("cpu"), QUIET, options, batch_size=16, keep=keep), kept


def features(
    there: tuple[Net, nn.Module, Dataset], images: Tensor, depths: Sequence[int], views: Sequence[View]
) -> Tensor:
    """Of all views, one after the other, the features of some depths: images padded, cut and mirrored by hand."""
    net, model, _ = there
    mean, std = (torch.tensor(values)[:, None, None] for values in (net.mean, net.std))
    rows = []
    for (down, right), flip in views:
        wide = nn.functional.pad(images / 255, (3, 3, 3, 3), mode="reflect")
        seen = wide[:, :, 3 - down : 15 - down, 3 - right : 15 - right]
        x = ((seen.flip(3) if flip else seen) - mean) / std
        rows.append(torch.cat([extract(model, INPUTS[depth], [(x, x[:, 0, 0, 0])])[0] for depth in depths], 1))
    return torch.cat(rows)


SIDES: tuple[tuple[bool, ...], ...] = ((False,), (False, True))
MOVES = ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))


@pytest.mark.parametrize("shifts", [0, 2])
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("together", [False, True])
def test_probes_learn_from_all_views_and_average_them(
    there: tuple[Net, nn.Module, Dataset], shifts: int, sides: tuple[bool, ...], together: bool
) -> None:
    views = [(move, flip) for move in (MOVES if shifts else MOVES[:1]) for flip in sides]
    how = {"together": True} if together else {"probe": True}
    _, kept = read(there, shifts=shifts, mirror=len(sides) == 2, **how)
    dataset, name = there[2], "probe together" if together else "probe"
    assert set(kept) == {(name, n, d) for n in (12, 6) for d in ((0,) if together else (1, 2))}
    for (_, labels, depth), scores in kept.items():
        depths = (1, 2) if together else (depth,)
        few = features(there, dataset.train.images[FEW[:labels]], depths, views)
        known = dataset.train.labels[FEW[:labels]].repeat(len(views))
        fitted = linear_probe(few, known, copies=len(views))
        each = fitted.scores(features(there, dataset.test.images, depths, views)).view(len(views), 12, -1)
        torch.testing.assert_close(scores, each.mean(0), rtol=1e-4, atol=1e-4)
        assert len(views) == 1 or not torch.allclose(scores, each[0], atol=1e-2), "another view says something else"


def test_records_say_what_scores_say(there: tuple[Net, nn.Module, Dataset]) -> None:
    records, kept = read(there, probe=True, together=True, mirror=True, knn=True, propagate=True)
    found = {(r.method, r.labels, r.depth): r.top1 for r in records}
    assert len(found) == len(records)
    for (name, labels, depth), scores in kept.items():
        assert found[name, labels, depth or None] == pytest.approx(topk_accuracy(scores, there[2].test.labels))
    assert {r.method for r in records} == {"probe", "probe together", "knn", "knn propagated"}
    assert {r.depth for r in records if r.method == "probe together"} == {None}


def test_depths_side_by_side_need_no_common_pass(
    there: tuple[Net, nn.Module, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    records, kept = read(there, together=True, probe=True)
    monkeypatch.setattr(frozen, "HELD", 1)
    again, same = read(there, together=True, probe=True)
    assert again == records
    assert all(torch.equal(scores, same[key]) for key, scores in kept.items())


def test_one_depth_together_is_that_depth(there: tuple[Net, nn.Module, Dataset]) -> None:
    _, kept = read(there, together=True, probe=True, probe_depths=[2])
    assert torch.equal(kept["probe together", 12, 0], kept["probe", 12, 2])


def test_labels_spread_to_test_images(there: tuple[Net, nn.Module, Dataset]) -> None:
    """Not one of their labels is read, and other views do not come in."""
    _, kept = read(there, propagate=True, mirror=True, shifts=1, k=4)
    net, model, dataset = there
    for (name, labels, depth), scores in kept.items():
        assert name == "knn propagated"
        images = torch.cat([dataset.train.images[FEW[:labels]], dataset.test.images])
        known = torch.cat([dataset.train.labels[FEW[:labels]], torch.full((12,), -1)])
        rows = features(there, images, (depth,), [((0, 0), False)])
        torch.testing.assert_close(scores, propagate(rows, known, k=4)[labels:], rtol=1e-4, atol=1e-6)
    blind = Dataset(dataset.name, dataset.classes, dataset.train, _turned(dataset), dataset.val, dataset.skipped)
    _, same = read((net, model, blind), propagate=True, k=4)
    assert all(torch.equal(scores, same[key]) for key, scores in kept.items())


def _turned(dataset: Dataset) -> Any:
    """The test images under the labels of others."""
    return type(dataset.test)(dataset.test.images, dataset.test.labels.roll(1))


def test_the_depth_of_propagation_is_that_of_the_probe(
    there: tuple[Net, nn.Module, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    spread = iter([10.0, 20.0, 30.0, 40.0])  # two depths of two budgets, depth by depth
    monkeypatch.setattr(frozen, "topk_accuracy", lambda scores, truth, k=1: next(spread) if k == 1 else 0.0)
    records, _ = read(there, propagate=True)
    errors = {}
    for depth in (1, 2):
        few = features(there, there[2].train.images[FEW], (depth,), [((0, 0), False)])
        errors[depth] = linear_probe(few, there[2].train.labels[FEW]).left_out
    found = {r.depth: r.top1 for r in records if r.labels == 12}
    best = min(errors, key=lambda depth: errors[depth] or 0.0)
    assert found[None] == found[best]
    assert found[1] != found[2]


def measured(run: Path, *words: str) -> dict[tuple[str, int | None], dict[str, Any]]:
    (run / "results.json").unlink(missing_ok=True)
    assert main(["evaluate", "--run", str(run), "--quiet", "--labels", "12", *words]) == 0
    return {(row["method"], row["depth"]): row for row in timeless(json.loads((run / "results.json").read_text()))}


def test_what_they_are_called(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = ("--probe", "--together", "--mirror", "--shifts", "1", "--pool", "2", "--propagate")
    for depths in ((1, 2, None), (2,)):
        chosen, of = ((), "") if None in depths else (("--probe-depths", "2"), " of 2")
        assert set(measured(run, *every, *chosen)) == {
            (f"probe together{of} mirrored shifted 1 pool 2", None),
            *(("probe mirrored shifted 1 pool 2", depth) for depth in depths),
            *(("knn propagated pool 2", depth) for depth in depths),
        }, "without a depth only where it was chosen among all"
    capsys.readouterr()
    assert main(["evaluate", "--run", str(run), "--labels", "12", "--together"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "together" in line)
    assert line.split()[:3] == ["probe", "together", "all"]


def test_shifts_that_make_no_sense(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--shifts -1: give 0 or more" in fails(capsys, 2, "evaluate", "--run", run, "--probe", "--shifts", -1)
    assert "shift 12: images of 12 × 12" in fails(capsys, 1, "evaluate", "--run", run, "--probe", "--shifts", 12)
