"""Ensembles of frozen probes: methods whose scores on test images are averaged, seed by seed and budget by budget.

The frozen cell of a method keeps its probe's scores in scores.safetensors: by number of labels, float32 [M, classes],
at the depth that the budget's own labels chose, or of all depths together where that is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from fasthebb.evaluation import topk_accuracy
from fasthebb.evaluation.results import Record
from fasthebb.files import atomic_write
from fasthebb.study.bench import Bench
from fasthebb.study.options import StudyOptions

FILE = "scores.safetensors"


@dataclass
class Scores:
    """Hears of every read-out of a cell, and keeps the scores of its probe; as of `fasthebb.jobs.frozen`.

    name: of the read-out that is kept.
    """

    name: str
    _best: dict[int, tuple[float, int, Tensor]] = field(default_factory=dict)

    def __call__(self, name: str, labels: int, depth: int, error: float, scores: Tensor) -> None:
        """Take note of scores [M, classes] if they are of the read-out of least leave-one-out error so far."""
        if name == self.name and (labels not in self._best or error < self._best[labels][0]):
            self._best[labels] = error, depth, scores

    def save(self, path: Path) -> None:
        """Write what was kept into a cell; nothing if no probe was heard of."""
        if not self._best:
            return
        kept = {str(labels): scores.float().cpu().contiguous() for labels, (_, _, scores) in self._best.items()}
        depths = {str(labels): str(depth) for labels, (_, depth, _) in self._best.items()}
        atomic_write(path / FILE, to_safetensors(kept, metadata=depths))


def probe_of(options: StudyOptions) -> str:
    """The read-out whose scores are kept."""
    return "probe together" if options.together else "probe"


def depth_of(path: Path, labels: int) -> int:
    """The depth that a budget chose for the scores in a cell; 0 for all of them together."""
    with safe_open(path / FILE, "pt") as file:
        return int(file.metadata()[str(labels)])


def ensembles(benches: Sequence[Bench], records: Sequence[Record]) -> list[Record]:
    """The records of a seed's ensembles; its methods and what was measured of them.

    The seconds are those of all members. The rule is that of all members, and none if one of them follows no rule.
    """
    by_name = {bench.method.name: bench for bench in benches}
    found = []
    for name, members in benches[0].options.ensembles.items():
        some = [by_name[member] for member in members]
        for labels in sorted(set.intersection(*(set(bench.budgets) for bench in some))):
            found.append(_together(name, some, labels, records))
    return found


def _together(name: str, members: Sequence[Bench], labels: int, records: Sequence[Record]) -> Record:
    def of(member: Bench) -> Record:
        wanted = f"{member.method.title} {probe_of(member.options)}", labels, member.seed, None
        return next(r for r in records if (r.method, r.labels, r.seed, r.depth) == wanted)

    own = [of(member) for member in members]
    scores = [load_file(member.cell(f"frozen-{member.method.name}") / FILE)[str(labels)] for member in members]
    mean, truth = torch.stack(scores).mean(0), members[0].dataset.test.labels
    seconds = [r.pretrain_seconds for r in own if r.pretrain_seconds is not None]
    rules = dict.fromkeys(r.rule for r in own)
    return replace(
        own[0],
        method=f"{name} probe",
        rule="+".join(rules) if all(rules) else "",
        top1=topk_accuracy(mean, truth),
        top5=None if own[0].top5 is None else topk_accuracy(mean, truth, 5),
        pretrain_seconds=sum(seconds) if seconds else None,
        peak_memory_mb=max((r.peak_memory_mb for r in own if r.peak_memory_mb is not None), default=None),
    )
