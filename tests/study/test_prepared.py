"""What a study does to a net after its pre-training, without labels: cells of their own, on which the rest stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import NET, QUIET, equal, fails, weights
from torch.nn import functional as F

from fasthebb.cli import main
from fasthebb.data import load
from fasthebb.jobs.trained import read_net
from fasthebb.study.bench import Bench
from fasthebb.training.checkpoint import seed_everything
from fasthebb.training.run import read_metrics

OWN = {
    "scaled": {"is": "hpca", "rescale": True, "renew": True},
    "revived": {"is": "hpca", "revive": True},
    "few": {"is": "hpca", "pretrain_images": 100},
    "fives": {"is": "hpca", "finetune_batch_size": 5, "finetune_steps": 4},
    "small": {"is": "hpca", "initial_scale": 0.5, "lr": 1e-12},
}
WORDS = (
    "--data", "digits", "--budgets", "20", "--seeds", "0", "--epochs", "1", "--no-knn", "--batch-size", "100", "--lr",
    "0.01", "--finetune-steps", "2", "--head-steps", "2", "--quiet", "--validation", "0",
)  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A study, and its cells in the order in which they were measured."""
    out, measured = tmp_path_factory.mktemp("prepared"), []
    (out / "options.yaml").write_text(yaml.safe_dump({"methods": ["hpca", *OWN], "own": OWN}, sort_keys=False))
    once = Bench.once

    def noted(bench: Bench, name: str, measure: Callable[[Path], Any]) -> Any:
        return once(bench, name, lambda path: (measured.append(name), measure(path))[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bench, "once", noted)
        words = ("--config", str(out / "options.yaml"), "--out", str(out / "study"))
        assert main(["study", *NET, *WORDS, *words]) == 0
    return out / "study", measured


def test_cells_stand_on_each_other(study: tuple[Path, list[str]]) -> None:
    folder, measured = study
    assert measured == [
        "pretrain-hpca", "frozen-hpca", "finetune-hpca-20",
        "prepare-scaled", "frozen-scaled", "finetune-scaled-20",
        "revive-revived", "frozen-revived", "finetune-revived-20",
        "pretrain-few", "frozen-few", "finetune-few-20",
        "frozen-fives", "finetune-fives-20",
        "pretrain-small", "frozen-small", "finetune-small-20",
    ]  # fmt: skip
    begin = {"hpca": "pretrain-hpca", "scaled": "prepare-scaled", "revived": "revive-revived", "few": "pretrain-few",
             "small": "pretrain-small"}  # fmt: skip
    for name, cell in begin.items():  # in the head's steps nothing else moves
        before, after = (weights(folder / "cells" / f"{c}-s0") for c in (cell, f"finetune-{name}-20"))
        same = {key: torch.equal(value, after[key]) for key, value in before.items() if "num_batches" not in key}
        assert [key for key, equal_ in same.items() if not equal_] == ["8.weight", "8.bias"], name


def test_scales_and_statistics(study: tuple[Path, list[str]]) -> None:
    folder, _ = study
    before, after = (weights(folder / "cells" / f"{cell}-s0") for cell in ("pretrain-hpca", "prepare-scaled"))
    for layer in ("0", "4"):
        a, b = (part[f"{layer}.weight"].flatten(1) for part in (before, after))
        torch.testing.assert_close(F.cosine_similarity(a, b), torch.ones(len(a)), msg="scaled alone")
    net, model = read_net(folder / "cells" / "prepare-scaled-s0", QUIET)
    ((x, _),) = list(net.loader(load("digits", image_size=12).train, 2000, torch.device("cpu"), shuffle=False))
    with torch.no_grad():
        first = model.eval()[0](x)
        torch.testing.assert_close(first.std(dim=(0, 2, 3)), torch.ones(6), rtol=0.05, atol=0)
        mean, renewed = first.relu().mean(dim=(0, 2, 3)), model[2].running_mean
    torch.testing.assert_close(renewed, mean, rtol=0.02, atol=1e-3)


def test_seconds_are_of_all_cells(study: tuple[Path, list[str]]) -> None:
    folder, _ = study
    spent = {p.name: list(read_metrics(p))[-1]["seconds"] for p in (folder / "cells").glob("[pr]*-s0")}
    found = {r["method"]: r["pretrain_seconds"] for r in json.loads((folder / "results.json").read_text())}
    assert found["HPCA probe"] == spent["pretrain-hpca-s0"]
    assert found["scaled probe"] == pytest.approx(spent["pretrain-hpca-s0"] + spent["prepare-scaled-s0"])
    assert found["revived fine-tuned"] == pytest.approx(spent["pretrain-hpca-s0"] + spent["revive-revived-s0"])


def test_fewer_images(study: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = study
    steps = {name: list(read_metrics(folder / "cells" / f"pretrain-{name}-s0"))[-1]["step"] for name in ("hpca", "few")}
    assert steps == {"hpca": 15, "few": 1}
    assert not equal(*(weights(folder / "cells" / f"pretrain-{name}-s0") for name in steps))
    words = ("--methods", "hpca", "--pretrain-images", "2000", "--out", tmp_path / "x")
    assert "--pretrain-images 2000: there are 1437" in fails(capsys, 1, "study", *NET, *WORDS, *words)


def test_images_a_step_of_fine_tuning_alone(study: tuple[Path, list[str]]) -> None:
    epochs = {
        name: len(list(read_metrics(study[0] / "cells" / f"finetune-{name}-20-s0"))) for name in ("hpca", "fives")
    }
    assert epochs == {"hpca": 2, "fives": 1}  # of 20 images: 2 steps of all, 4 steps of 5


def test_initial_weights_are_scaled(study: tuple[Path, list[str]]) -> None:
    cell = study[0] / "cells" / "pretrain-small-s0"
    seed_everything(0)
    initial = dict(read_net(cell, QUIET)[0].build().named_parameters())
    for name, found in weights(cell).items():
        if name.startswith("conv") and name.endswith("weight"):
            torch.testing.assert_close(found, initial[name].detach() / 2, rtol=1e-4, atol=1e-6)
