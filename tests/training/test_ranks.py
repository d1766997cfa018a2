"""Stages on two ranks: as in one process, and resumed on another number of ranks."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from cases import error
from pool import Ranks
from tiny import HEAD, QUIET, images, metrics, net, state
from torch import Tensor, nn

import fasthebb
from fasthebb.data import Loader
from fasthebb.distributed import LostRankError, gathered, rank, shared, world_size
from fasthebb.models import VariancePreservingBatchNorm2d
from fasthebb.training import checkpoint
from fasthebb.training.finetune import accuracies, finetune
from fasthebb.training.pretrain import pretrain
from fasthebb.training.run import RunFolder
from fasthebb.training.stop import Interrupted
from fasthebb.training.sync_norms import synchronised

EVERY = 4  # steps between checkpoints


def loader(batch_size: int = 8) -> Loader:
    """This rank's share of 45 images in batches of 8: the last batch has 5."""
    return Loader(images(45), batch_size, seed=1, augment="light", part=(rank(), world_size()))


def calm() -> nn.Sequential:
    """The tiny net in float64, without random numbers."""
    model = net().double()
    model[7] = nn.Identity()
    return model


def first_layer_in(model: nn.Module) -> None:
    """Images are float32."""
    model.register_forward_pre_hook(lambda _, args: (args[0].double(),))


def preserving(model: nn.Sequential) -> nn.Sequential:
    """The net with batch norms that look at running variances in training."""
    for name, norm in list(model.named_children()):
        if isinstance(norm, nn.BatchNorm2d):
            model.set_submodule(name, VariancePreservingBatchNorm2d(norm.num_features).double())
    return model


def stage(
    kind: str, folder: Path | None = None, stop: int = 0, rate: float = 0.02, together: bool = True
) -> dict[str, Tensor]:
    """Weights and statistics at the end of a stage, in a run folder or none, stopped after some steps or not."""
    torch.manual_seed(0)
    model = calm() if together else preserving(calm())
    first_layer_in(model)
    if folder is None:
        with synchronised(model):
            train(kind, model, rate, None)
        return copy.deepcopy(model.state_dict())
    with RunFolder(folder, {"kind": kind}, resume=True, console=QUIET) as run, synchronised(model, on=together):
        run.write_config()
        checkpoint.seed_everything(0)
        watcher = run.watcher({}, EVERY)
        stepped = watcher.stepped

        def watched(parts: object, progress: object) -> None:
            run.stop.requested = progress.step == stop  # type: ignore[attr-defined]
            watcher._steps_left = 0
            stepped(parts, progress)  # type: ignore[arg-type]

        watcher.stepped = watched  # type: ignore[method-assign]
        try:
            train(kind, model, rate, watcher)
        except Interrupted:
            pass
        else:
            run.finish(model, {})
    return copy.deepcopy(model.state_dict())


def train(kind: str, model: nn.Module, rate: float, watcher: object) -> None:
    if kind in ("joint", "layerwise"):
        hebb = fasthebb.attach(model, {HEAD: None, "*": fasthebb.SoftWTA(0.02)})
        optimizer = torch.optim.SGD(hebb.parameters(), lr=rate, momentum=0.9)
        pretrain(model, hebb, loader(), optimizer, epochs=3, order=kind, watcher=watcher)  # type: ignore[arg-type]
        hebb.detach()
        return
    more = {"head": {"head_only": True}, "staged": {"head_steps": 5, "hidden_rate": 0.5}}.get(kind, {})
    hebb = fasthebb.attach(model, {HEAD: None, "*": fasthebb.Prototypes()}) if kind == "hybrid" else None
    held = Loader(images(11, seed=5), 4, indices=shared(torch.arange(11)), shuffle=False)
    finetune(
        model, loader(), epochs=3, lr=rate, hebb=hebb, local=0.1 if hebb else 0.0, validation=held,
        watcher=watcher, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def same(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-10) -> bool:
    return all(error(a[name].double(), b[name].double()) <= tolerance for name in b if b[name].any())


def as_recorded(want: Path, got: Path) -> None:
    for one, two in zip(metrics(want), metrics(got), strict=True):
        for name in one.keys() - {"seconds"}:
            assert two[name] == pytest.approx(one[name], rel=1e-6), name


@pytest.mark.parametrize("kind", ["joint", "layerwise", "finetune", "head", "staged", "hybrid"])
def test_two_ranks_end_as_one(kind: str, ranks: Ranks, tmp_path: Path) -> None:
    want = stage(kind, tmp_path / "one")
    first, second = ranks(stage, kind, tmp_path / "two")
    assert same(first, want)
    assert all(torch.equal(first[name], second[name]) for name in want)
    as_recorded(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("kind", ["joint", "layerwise", "staged"])
@pytest.mark.parametrize("stop", [3, 7, 13])
def test_a_stage_goes_on_with_another_number_of_ranks(kind: str, stop: int, ranks: Ranks, tmp_path: Path) -> None:
    want = stage(kind, tmp_path / "whole")
    stage(kind, tmp_path / "grows", stop)
    ranks(stage, kind, tmp_path / "shrinks", stop)
    assert same(ranks(stage, kind, tmp_path / "grows")[0], want)
    assert same(stage(kind, tmp_path / "shrinks"), want)
    as_recorded(tmp_path / "whole", tmp_path / "grows")


@pytest.mark.parametrize(
    ("kind", "together"), [("joint", True), ("staged", True), ("joint", False), ("layerwise", False)]
)
def test_ranks_that_were_stopped_end_as_if_they_never_were(
    kind: str, together: bool, ranks: Ranks, tmp_path: Path
) -> None:
    rate = 0.02
    want, _ = ranks(stage, kind, tmp_path / "whole", 0, rate, together)
    ranks(stage, kind, tmp_path / "stopped", 7, rate, together)
    assert state(tmp_path / "stopped")["progress"]["sums"] == {}, "those of one rank would count for each"
    got, _ = ranks(stage, kind, tmp_path / "stopped", 0, rate, together)
    assert all(torch.equal(got[name], want[name]) for name in want)


def reduced(order: str) -> float:
    """Megabytes a step that two ranks sum."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 7), nn.Flatten(), nn.Linear(4 * 36, 1000), nn.ReLU(), nn.Linear(1000, 3))
    hebb = fasthebb.attach(model, {"4": None, "*": fasthebb.Oja()})
    history = pretrain(model, hebb, loader(), torch.optim.SGD(hebb.parameters(), lr=1e-3), epochs=1, order=order)  # type: ignore[arg-type]
    return min(record["reduce_mb"] for record in history)


def test_ranks_sum_what_learns(ranks: Ranks) -> None:
    joint, first_layer = (ranks(reduced, order)[0] for order in ("joint", "layerwise"))
    assert joint > 0.576  # 1000 units of 144 inputs, in float32
    assert first_layer < 0.05


def elsewhere(folder: Path) -> str:
    """What a rank says whose run folder is another one than the first rank's."""
    try:
        stage("joint", folder / str(rank()))
    except (ValueError, LostRankError) as problem:
        return str(problem)
    return "nothing"


def test_a_folder_that_not_all_ranks_see_is_told(ranks: Ranks, tmp_path: Path) -> None:
    for number in (0, 1):
        stage("joint", tmp_path / str(number), stop=(3, 9)[number])
    assert all("Ranks begin at steps 3, 9: put the run folder where all" in said for said in ranks(elsewhere, tmp_path))


def broken() -> str:
    """What finetune says when rank 1's images are NaN."""
    model = net()
    model.register_forward_pre_hook(lambda _, args: (args[0] * (torch.nan if rank() == 1 else 1),))
    try:
        finetune(model, loader(), epochs=1, lr=0.1)
    except FloatingPointError as problem:
        return str(problem)
    return "nothing"


def test_a_loss_that_is_not_finite_ends_all_ranks_with_its_place(ranks: Ranks) -> None:
    first, second = ranks(broken)
    assert first.startswith("The loss is not finite on rank 1 in step 1, from layer")
    assert second.startswith("The loss is nan on rank 1 in step 1, from layer")


def own(views: int) -> tuple[dict[str, Tensor], Tensor]:
    """The net after training on loaders of a rank's own images, or alone of all; what is drawn after it."""
    torch.manual_seed(0)
    model = calm()
    first_layer_in(model)
    each = images(8 * 2)
    mine = each if world_size() == 1 else each.subset(torch.arange(8) + 8 * rank())
    with synchronised(model):
        finetune(model, Loader(mine, 16, shuffle=False, views=views), epochs=3, lr=0.05)
    return copy.deepcopy(model.state_dict()), torch.rand(3)


@pytest.mark.parametrize("views", [1, 2])
def test_ranks_may_have_loaders_of_their_own(views: int, ranks: Ranks) -> None:
    want, _ = own(views)
    (first, one), (second, two) = ranks(own, views)
    assert same(first, want)
    assert all(torch.equal(first[name], second[name]) for name in want)
    assert torch.equal(one, two), "after a stage ranks draw the same numbers again"


def apart() -> tuple[Tensor, dict[str, Tensor], list[float]]:
    """After training whose batch norms see a rank's own images: the first norm's mean, the net, how good it is."""
    torch.manual_seed(0)
    model = calm()
    first_layer_in(model)
    train("layerwise", model, 0.02, None)
    mean = model[2].running_mean.clone()
    model[6].running_mean += 9 * rank()  # a net that classifies otherwise
    held = Loader(images(11, seed=5), 4, indices=shared(torch.arange(11)), shuffle=False)
    return mean, copy.deepcopy(model.state_dict()), accuracies(model, held, (1, 2))


def test_without_synchronised_norms_the_first_ranks_statistics_count(ranks: Ranks) -> None:
    (first, kept, measured), (second, other, _) = ranks(apart)
    assert torch.equal(first, second), "the second layer learns behind the same batch norm"
    assert not torch.equal(kept["6.running_mean"], other["6.running_mean"])
    model = calm()
    first_layer_in(model)
    model.load_state_dict(kept)
    assert accuracies(model, Loader(images(11, seed=5), 4, shuffle=False), (1, 2)) == measured


def parts(rows: int) -> tuple[Tensor, Tensor, list[float]]:
    """A rank's share of some rows, all of them again, and the accuracy over all."""
    torch.manual_seed(0)
    every = torch.arange(3 * rows).view(rows, 3)
    own = shared(every)
    model = net().eval()
    held = Loader(images(rows + 2), 4, indices=shared(torch.arange(rows + 2)), shuffle=False)
    return own, gathered(own), accuracies(model, held, (1, 2))


@pytest.mark.parametrize("rows", [2, 3, 7])
def test_what_ranks_share_comes_together_in_order(rows: int, ranks: Ranks) -> None:
    own, every, accuracy = parts(rows)
    assert torch.equal(own, every)
    (one, all_one, measured), (two, all_two, _) = ranks(parts, rows)
    assert torch.equal(torch.cat([one, two]), every)
    assert torch.equal(all_one, every)
    assert torch.equal(all_two, every)
    assert measured == accuracy
