"""Options of what nets learn beyond their labels, once a probe or training end to end has made use of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class OnwardOptions:
    """What is learnt of images without labels after the read-outs.

    Args:
        student: train a fresh net on the probe's scores of pre-training's images; measured alone and together with it.
        student_model: that net.
        student_width: its width.
        fixmatch_steps: train students and whole nets so many steps more by FixMatch, on pre-training's images as well.
        fixmatch_ratio: its images without labels, for each of the 64 labelled ones of a step.
        fixmatch_lr: its learning rate.
        fixmatch_hidden_rate: that of its hidden layers, relative to fixmatch-lr.
    """

    student: bool = False
    student_model: str = "sixlayer"
    student_width: float = 1.0
    fixmatch_steps: int = 0
    fixmatch_ratio: int = 7
    fixmatch_lr: float = 1e-3
    fixmatch_hidden_rate: float = 1.0
