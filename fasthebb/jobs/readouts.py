"""Options of the read-outs of frozen features, which evaluate and study share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ReadOutOptions:
    """Which read-outs of frozen features are measured, and how.

    Args:
        probe: train a linear classifier on the frozen features of every depth.
        probe_method: ridge in closed form, sgd, or adam behind a dropout of a half.
        probe_epochs: passes of sgd and adam over the labelled images; 20 and 50 by default.
        probe_depths: read the features of these depths alone; of all by default.
        pool: average maps to at most so many cells a side; by default as many as leave 4096 features.
        together: train a ridge classifier on the features of all those depths side by side.
        mirror: a probe also learns from mirrored images, and its scores are those of both views together.
        shifts: a probe also learns from images moved by so many pixels up, down, left and right, as with mirror.
        knn: classify by the nearest labelled images, at every depth.
        propagate: let labels spread along nearest neighbours among labelled and test images, at every depth.
        svm: train a linear support vector machine on the frozen features of every depth.
        retrieval: rank test images by likeness to others of them, at every depth.
        k: how many neighbours vote, as far as there are as many labels of a class; of propagation, in any case; of
            retrieval, how many of the first images count for its precision.
    """

    probe: bool = False
    probe_method: Literal["ridge", "sgd", "adam"] = "ridge"
    probe_epochs: int | None = None
    probe_depths: list[int] = field(default_factory=list)
    pool: int | None = None
    together: bool = False
    mirror: bool = False
    shifts: int = 0
    knn: bool = False
    propagate: bool = False
    svm: bool = False
    retrieval: bool = False
    k: int = 10

    def named(self, read_out: str) -> str:
        """What a read-out is called that differs from the default one, such as "probe adam pool 2"."""
        said = [read_out]
        if read_out == "probe" and self.probe_method != "ridge":
            said += [self.probe_method, *([f"{self.probe_epochs} epochs"] if self.probe_epochs else [])]
        if read_out == "probe together" and self.probe_depths:
            said.append(f"of {' '.join(map(str, sorted(self.probe_depths)))}")
        if read_out.startswith("probe"):
            said += ["mirrored"] if self.mirror else []
            said += [f"shifted {self.shifts}"] if self.shifts else []
        if read_out.startswith("knn") and self.k != ReadOutOptions.k:
            said.append(f"k {self.k}")
        return " ".join([*said, *([f"pool {self.pool}"] if self.pool else [])])

    @property
    def wanted(self) -> bool:
        """Whether there is a read-out to measure."""
        return self.probe or self.together or self.knn or self.propagate or self.svm or self.retrieval

    def unread(self) -> dict[str, str]:
        """Options that no read-out wanted reads, and why."""
        probed, neighbours = self.probe or self.together, self.knn or self.propagate or self.retrieval
        return {
            **({} if self.probe else dict.fromkeys(("probe_method", "probe_epochs"), "without --probe")),
            **({"probe_epochs": "with --probe-method ridge"} if self.probe and self.probe_method == "ridge" else {}),
            **({} if probed else dict.fromkeys(("mirror", "shifts"), "without --probe or --together")),
            **({} if neighbours else {"k": "without --knn, --propagate or --retrieval"}),
            **({} if self.wanted else dict.fromkeys(("probe_depths", "pool"), "without a read-out such as --probe")),
        }
