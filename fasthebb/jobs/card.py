"""The model card of an exported net: what it is, what it saw, how good it is, how to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from fasthebb.evaluation.results import Record, load
from fasthebb.jobs.net import Net
from fasthebb.jobs.trained import is_exported
from fasthebb.models.ready import WHITENING
from fasthebb.models.registry import is_own
from fasthebb.tables import markdown
from fasthebb.training.run import read_metrics

MOST = 100  # names of classes that are listed

CODE = """\
import torch
from fasthebb.models import load

net = load("."{trust})  # this folder
images = torch.rand(2, {channels}, {side}, {side})  # in [0, 1]
with torch.no_grad():
    {outputs} = net(images)  # {size}
"""


def card(net: Net, run: Path, dataset: str, differences: Mapping[str, float]) -> str:
    """The card as Markdown.

    dataset: the net's data set as the run's results name it; those of others are left out. differences: by file, how
    far its outputs are from the net's, relative to the largest.
    """
    kind = "image-classification" if net.classifier else "image-feature-extraction"
    parts = [
        f"---\nlibrary_name: fasthebb\npipeline_tag: {kind}\ntags:\n- fasthebb\n- hebbian-learning\n---",
        f"# {net.model} on {net.dataset}",
        _purpose(net),
        markdown(("fact", "value"), _facts(net, run)),
        f"Classes: {_classes(net)}" if net.classes else "",
        "## Results",
        _earlier(run) or _results([r for r in _records(run) if r.dataset == dataset]),
        "## Files",
        markdown(("file", "differs from the net by"), [(name, f"{value:.1e}") for name, value in differences.items()]),
        "Differences are the largest of a few random images, relative to the largest output. `model.pt2` and "
        f"`model.onnx`, if they are there, take float32 [N, {len(net.mean)}, {net.image_size}, {net.image_size}] in "
        f"[0, 1], normalise themselves and give {'scores' if net.classifier else 'the features that enter the head'}.",
        "## Use",
        f"```python\n{_code(net)}```",
        _command(net),
        "## Limits",
        "It knows images of the kind that it was trained on, and its results are those of one data set. Softmax scores "
        "are no calibrated probabilities. No licence is chosen: the one who publishes these files does so, in keeping "
        "with that of the data set.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _purpose(net: Net) -> str:
    hidden = f"Its hidden layers were pre-trained without labels by {net.rule}" if net.rule else "It was trained"
    if not net.classifier:
        return f"{hidden}, with fasthebb. It has no classifier: it gives features."
    what = "its head alone was" if net.classifier == "head" else "it was"
    return f"{hidden}, with fasthebb; then {what} trained on labels ({net.labels})."


def _facts(net: Net, run: Path) -> list[tuple[str, str]]:
    last = {name: value for record in read_metrics(run) for name, value in record.items()}
    facts = {
        "net": f"{net.model}, width {net.width}, forward {net.forward}",
        "depth": f"cut before {net.cut}, which features of depth {net.depth} enter" if net.cut else "",
        "rule": net.rule,
        "data set": net.dataset,
        "images": f"{net.image_size} x {net.image_size}, {len(net.mean)} channels, resized by {net.resize}",
        "training": f"{last['epoch']} epochs, {last['step']} steps, {last['seconds']:.0f} s" if last else "",
        "label budget": _budget(net),
        "mean of the channels": ", ".join(f"{value:.6g}" for value in net.mean),
        "deviation of the channels": ", ".join(f"{value:.6g}" for value in net.std),
        "whitening": f"ZCA, in `{WHITENING}`" if net.whitened else "none",
        "seed": str(net.seed),
    }
    return [(name, value) for name, value in facts.items() if value]


def _budget(net: Net) -> str:
    if net.labels is None:
        return "no labels"
    return f"{net.labels}, {'balanced' if net.balanced else 'drawn plainly'}, seed {net.label_seed}"


def _classes(net: Net) -> str:
    listed = ", ".join(" ".join(name.split()) for name in net.classes[:MOST])
    more = len(net.classes) - MOST
    return f"{listed} and {more} more, see config.json." if more > 0 else f"{listed}."


def _results(records: Sequence[Record]) -> str:
    if not records:
        return "Not measured."
    rows = [
        (r.method, "–" if r.depth is None else str(r.depth), str(r.labels), _percent(r.top1), _percent(r.top5))
        for r in records
    ]
    return markdown(("method", "depth", "labels", "top-1 %", "top-5 %"), rows)


def _earlier(run: Path) -> str:
    # The results on the card of a net that was exported before.
    card = run / "README.md"
    if not is_exported(run) or not card.is_file():
        return ""
    return card.read_text(encoding="utf-8").partition("## Results\n\n")[2].partition("\n\n## Files")[0]


def _records(run: Path) -> list[Record]:
    # Of a run, or of a study's cell that pre-trained: what its features are worth, as the study measured.
    if (run / "results.json").exists():
        return load(run)[0]
    cell, method = run.resolve(), run.resolve().name.removeprefix("pretrain-")
    frozen = cell.with_name(f"frozen-{method}") / "records.json"
    if cell.parent.name != "cells" or not frozen.is_file():
        return []
    return [found for row in json.loads(frozen.read_text()) if (found := Record(**row)).depth is not None]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _code(net: Net) -> str:
    """Python that reads the files and uses the net as far as it is trained."""
    outputs, size = (
        ("scores", f"[2, {len(net.classes)}]") if net.classifier else ("features", "[2, F], what enters the head")
    )
    trust = ", trust=True" if is_own(net.model) else ""  # to run the code that builds it
    return CODE.format(channels=len(net.mean), side=net.image_size, outputs=outputs, size=size, trust=trust)


def _command(net: Net) -> str:
    if not net.classifier:
        return ""
    return "`fasthebb predict --run FOLDER IMAGES`, with this folder, writes the classes of a folder of images."
