"""Where frozen features are taken, at which depths, how they are pooled, and read from both views of an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import NET, QUIET, fails, timeless, write_images
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from fasthebb.cli import main
from fasthebb.data import load
from fasthebb.evaluation import extract, linear_probe, topk_accuracy
from fasthebb.jobs import frozen
from fasthebb.jobs.net import layer_at, spot_of
from fasthebb.jobs.trained import read_net
from fasthebb.models import build


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{write_images(tmp_path_factory.mktemp('images'), each=20)}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["pretrain", *NET, "--data", data, "--max-steps", "4", "--batch-size", "16", "--out", str(out)]) == 0
    return out


def measured(run: Path, *words: str) -> dict[tuple[str, int | None], dict[str, Any]]:
    (run / "results.json").unlink(missing_ok=True)
    assert main(["evaluate", "--run", str(run), "--quiet", *words]) == 0
    return {(row["method"], row["depth"]): row for row in timeless(json.loads((run / "results.json").read_text()))}


def test_only_the_depths_that_are_asked_for(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    every = measured(run, "--probe", "--knn")
    assert set(every) == {(method, depth) for method in ("probe", "knn") for depth in (1, 2, None)}
    taken: list[str] = []
    extract_many = frozen.extract_many

    def spy(model: nn.Module, layers: list[str], *words: Any, **more: Any) -> Any:
        taken.extend(layers)
        return extract_many(model, layers, *words, **more)

    monkeypatch.setattr(frozen, "extract_many", spy)
    two = measured(run, "--probe", "--knn", "--probe-depths", "2")
    assert set(two) == {("probe", 2), ("knn", 2)}, "no choice among all"
    assert two["probe", 2] == every["probe", 2]
    assert taken == ["8", "8"], "of training and of test images, what enters the head"
    assert "depths 1 to 2" in fails(capsys, 1, "evaluate", "--run", run, "--probe", "--probe-depths", 3)
    assert "counted from 1" in fails(capsys, 2, "evaluate", "--run", run, "--probe", "--probe-depths", 0)


def test_depths_that_fit_share_a_pass(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[list[str]] = []
    extract_many = frozen.extract_many

    def spy(model: nn.Module, layers: list[str], *words: Any, **more: Any) -> Any:
        passes.append(layers)
        return extract_many(model, layers, *words, **more)

    monkeypatch.setattr(frozen, "extract_many", spy)
    together = measured(run, "--probe", "--svm", "--retrieval")
    assert passes == [["3", "8"]] * 2
    monkeypatch.setattr(frozen, "HELD", 1)
    assert measured(run, "--probe", "--svm", "--retrieval") == together
    assert passes[2:] == [["3"]] * 2 + [["8"]] * 2


def test_maps_are_pooled_before_they_are_flattened() -> None:
    model = build("deephebb", classes=10, width=0.1)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert spot_of(model, "fc4", x)[:3] == ("flatten", None, 154 * 16)
    assert spot_of(model, "fc4", x, 2)[:3] == ("flatten", 2, 154 * 4)
    assert spot_of(model, "fc4", x, 9)[:3] == ("flatten", 9, 154 * 16)
    assert spot_of(model, "conv2", x, limit=100)[:3] == ("conv2", 3, 10 * 9)
    assert spot_of(build("sixlayer", classes=10, width=0.1), "fc6", x)[:3] == ("fc6", None, 410)
    spot = spot_of(model, "fc4", x, 2)
    flat, _ = extract(model, "fc4", [(x, torch.zeros(2))])
    pooled, _ = extract(model, spot.module, [(x, torch.zeros(2))], pool=spot.pool)
    torch.testing.assert_close(pooled, adaptive_avg_pool2d(flat.view(2, 154, 4, 4), 2).flatten(1))
    assert extract(model, "flatten", [(x, torch.zeros(2))])[0].equal(flat)


def test_a_spot_in_front_of_inputs_that_are_no_tensor() -> None:
    class Odd(nn.Module):
        def forward(self, x: object) -> torch.Tensor:
            return torch.ones(2, 3)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd, self.head = Odd(), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.odd([x]))
            return out

    assert spot_of(Net(), "head", torch.zeros(2, 1, 4, 4))[:3] == ("head", None, 3)


@pytest.mark.parametrize("method", ["ridge", "adam"])
def test_mirrored_images_are_added_and_averaged(run: Path, data: str, method: str) -> None:
    epochs = ("--probe-epochs", "3") if method == "adam" else ()
    found = measured(
        run, "--probe", "--mirror", "--pool", "2", "--probe-method", method, *epochs, "--labels", "12",
        "--probe-depths", "1",
    )  # fmt: skip
    net, model = read_net(run, QUIET)
    dataset = load(data, image_size=net.image_size)
    layer = layer_at(net, model, 1)
    spot = spot_of(model, layer, torch.zeros(2, 3, net.image_size, net.image_size), 2)
    mean, std = (torch.tensor(values)[:, None, None] for values in (net.mean, net.std))

    def features(part: torch.Tensor) -> torch.Tensor:
        return extract(model, spot.module, [((part / 255 - mean) / std, torch.zeros(len(part)))], pool=2)[0]

    chosen = frozen_labels(run, data)
    few, known = dataset.train.images[chosen], dataset.train.labels[chosen]
    both = torch.cat([features(few), features(few.flip(3))])
    more = {"copies": 2} if method == "ridge" else {"method": "adam", "epochs": 3, "seed": 0}
    fitted = linear_probe(both, known.repeat(2), **more)  # type: ignore[arg-type]
    test = dataset.test.images
    scores = (fitted.scores(features(test)) + fitted.scores(features(test.flip(3)))) / 2
    name = "probe mirrored pool 2" if method == "ridge" else "probe adam 3 epochs mirrored pool 2"
    assert found[name, 1]["top1"] == pytest.approx(topk_accuracy(scores, dataset.test.labels))


def frozen_labels(run: Path, data: str) -> torch.Tensor:
    """The images of a budget of 12, seed 0."""
    from fasthebb.jobs.setup import budget, set_aside

    net, _ = read_net(run, QUIET)
    dataset = load(data, image_size=net.image_size)
    return budget(dataset, 12, set_aside(dataset, net.validation, net.seed), seed=0, balanced=True)[0]


def test_mirroring_is_for_probes_alone(run: Path) -> None:
    plain = measured(run, "--probe", "--knn", "--svm", "--retrieval", "--labels", "12")
    both = measured(run, "--probe", "--knn", "--svm", "--retrieval", "--labels", "12", "--mirror")
    assert {name for name, _ in both} - {name for name, _ in plain} == {"probe mirrored"}
    same = {key for key in plain if plain[key] == both.get(key)}
    assert {(method, depth) for method in ("knn",) for depth in (1, 2)} <= same
    assert {key for key in plain if "retrieval" in key[0] or (key[0] == "svm" and key[1])} <= same


def test_records_of_other_neighbours_and_draws_stay(run: Path) -> None:
    words = ("--knn", "--propagate", "--retrieval", "--labels", "12")
    first = measured(run, *words)
    for more in (("--k", "1"), ("--k", "1", "--no-balanced")):
        assert main(["evaluate", "--run", str(run), "--quiet", *words, *more]) == 0
    rows = [(row["method"], row["depth"], row) for row in timeless(json.loads((run / "results.json").read_text()))]
    names = {name for name, _, _ in rows if name.startswith("knn")}
    assert names == {f"knn{way}{k}" for way in ("", " propagated") for k in ("", " k 1", " k 1 drawn plainly")}
    assert len(rows) == len({(name, depth) for name, depth, _ in rows}) == len(first) + 2 * 2 * 3 + 2, (
        "two more of two read-outs at two depths and the chosen one; precision at 1 once, at two depths"
    )
    assert {(name, depth): row for name, depth, row in rows}.items() >= first.items()


def test_the_slow_choice_of_depths_is_left_out_where_there_is_none(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods: list[str] = []

    def spy(*words: Any, method: str = "ridge", **more: Any) -> Any:
        methods.append(method)
        return linear_probe(*words, method=method, **more)

    monkeypatch.setattr(frozen, "linear_probe", spy)
    measured(run, "--probe", "--probe-method", "adam", "--probe-epochs", "2", "--probe-depths", "2")
    assert methods == ["adam"]
    measured(run, "--probe", "--probe-method", "adam", "--probe-epochs", "2")
    assert methods[1:] == ["ridge", "adam"] * 2
