"""The only place where the equation is evaluated: ΔW = (postᵀ·X − decay·W) / norm.

`accumulate` adds what one forward says of a layer to its `Sums`; `delta` turns the sums, over micro-batches and ranks,
into ΔW. A large batch is worked through in parts that stay in the cache: every term is a sum over samples, so this is
exact and bounds the memory of a layer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fasthebb.decay import Decay, Diagonal, Gram, LowerGram, Narrow, Sum
from fasthebb.finish import Finish
from fasthebb.layers import LinearPatches, Units
from fasthebb.ops import count, reciprocal
from fasthebb.response import Patches
from fasthebb.rules.base import Rule, Terms
from fasthebb.rules.checks import check_finished, check_terms

# Bytes of one layer's response worked on at a time: what stays in a CPU's cache; on an accelerator what bounds memory.
PART_BYTES = {"cpu": 4 << 20}
PART_BYTES_ELSEWHERE = 256 << 20


@dataclass
class Sums:
    """What a layer's batches add up to; views of the flat buffer that ranks reduce.

    numerator [G, C, K] without the part of a diagonal decay, which is kept apart as decay [G, C]; norm [G, C];
    count [] samples × locations; broken [ranks] not 0 where a rank's sums are not finite; stats by name. A fresh
    numerator holds garbage, not yet zeros; `decays` says whether a diagonal decay was ever added.
    """

    numerator: Tensor
    decay: Tensor
    norm: Tensor
    count: Tensor
    broken: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)
    fresh: bool = True
    decays: bool = False

    def settle(self) -> None:
        """Make a numerator that nothing was added to zero."""
        if self.fresh:
            self.numerator.zero_()
            self.fresh = False


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer: batched input x and output out, its weight w [G, C, K], and a bias to take off.

    products: the number format of the factors of its matrix products, that of the sums if None.
    """

    units: Units
    x: Tensor
    out: Tensor
    weight: Tensor
    bias: Tensor | None = None
    signal: Tensor | None = None
    products: torch.dtype | None = None


def said(
    rule: Rule, y: Tensor, w: Tensor, patches: Patches, state: Mapping[str, Tensor], signal: Tensor | None
) -> Terms:
    """What a rule says of layer outputs y [N, G, C, L] without their bias: pure, so that torch.compile may take it."""
    return rule.terms(rule.response(y, w, patches), state, signal)


Say = Callable[[Rule, Tensor, Tensor, Patches, Mapping[str, Tensor], "Tensor | None"], Terms]


def accumulate(sums: Sums, rule: Rule, call: Call, state: Mapping[str, Tensor], say: Say = said) -> None:
    """Add the terms of one call of a layer to its sums; `say` is `said`, or the same compiled."""
    dtype = sums.numerator.dtype

    def narrow(t: Tensor) -> Tensor:
        return t.to(call.products or dtype)

    weight = call.weight.to(dtype)
    w = call.units.weight(weight)
    samples = call.units.view(call.out).shape[3] * call.out.shape[0]
    rest: Decay | None = None
    fits = call.signal is None or call.signal.shape[:1] == call.out.shape[:1]
    for part in parts(call.out) if fits else [slice(None)]:  # a rule that wants a signal complains of the whole
        x, out = call.x[part] if call.products else call.x[part].to(dtype), call.out[part]
        patches = call.units.patches(x, out, weight)
        y = call.units.view(out).to(dtype)
        if call.bias is not None:
            y = y - call.bias.to(dtype).view(*w.shape[:2], 1)
        signal = call.signal if call.signal is None or not fits else call.signal[part]
        terms = _asked(say, rule, y, w, patches, state, signal)
        sums.count.add_(count(y))
        sums.norm.add_(terms.norm)
        for name, value in (terms.stats or {}).items():
            sums.stats[name].add_(value)
        beta = 0.0 if sums.fresh else 1.0
        once: Narrow = functools.cache(narrow)  # what the rule names twice stays one
        post = None if terms.post is None else once(terms.post)
        decay = None if terms.decay is None else terms.decay.rounded(once)
        if post is not None and _merges(decay, post, patches, w.shape[2], samples):
            decay.correlate(sums.numerator, patches.dense(), w, beta)  # type: ignore[union-attr]
            sums.fresh = False
            continue
        if post is not None:
            patches.correlate(post, sums.numerator, beta)
            sums.fresh = False
        whole = out.shape[0] == call.out.shape[0]
        for piece in _pieces(decay):
            if whole or _factored(piece, w.shape[2], samples):
                _take(sums, piece, w)
            else:
                rest = piece.summed() if rest is None else (rest + piece.summed()).summed()
    for piece in _pieces(rest):
        _take(sums, piece.rounded(narrow), w)


def _asked(say: Say, rule: Rule, y: Tensor, *given: Any) -> Terms:
    state = given[2]
    before = _versions(y, state)
    terms = say(rule, y, *given)
    check_terms(rule, terms, y, state)
    changed = [name for name, version in _versions(y, state).items() if version != before[name]]
    if changed:
        raise ValueError(
            f"{type(rule).__name__}.terms changed {changed[0]} in place, which others see too: work on a copy"
        )
    return terms


def _versions(y: Tensor, state: Mapping[str, Tensor]) -> dict[str, int]:
    # How often y and the state were changed in place, where that is counted.
    named = {"y": y, **{f"state[{name!r}]": value for name, value in state.items()}}
    return {name: value._version for name, value in named.items() if not value.is_inference()}


def parts(out: Tensor) -> Iterator[slice]:
    """Slices of the batch of `out` [N, ...] whose responses stay in the cache: one or more, of one sample or more."""
    n = out.shape[0]
    sample = max(1, out[0].numel() * out.element_size()) if n else 1
    number = -(-n // max(1, _part_bytes(out) // sample)) or 1
    size = -(-n // number) or 1  # even parts
    yield from (slice(start, min(start + size, n)) for start in range(0, max(n, 1), size))


def delta(sums: Sums, w: Tensor, finish: Finish | None, out: Tensor, scale: float) -> Tensor:
    """out ← scale·ΔW, for w and out [G, C, K], and its norm []; a dead unit (norm 0) gets 0."""
    inverse = reciprocal(sums.norm).unsqueeze(-1)
    decay = sums.decay.unsqueeze(-1)
    if finish is not None:
        torch.mul(sums.numerator, inverse, out=out).addcmul_(decay * inverse, w, value=-1)
        finished = finish(out, w)
        check_finished(finish, finished, out)
        torch.mul(finished, scale, out=out)
        return _norm(out)
    norms = []
    for block in _unit_blocks(w):
        out_k = torch.mul(sums.numerator[:, block], inverse[:, block] * scale, out=out[:, block])
        if sums.decays:
            out_k.addcmul_(decay[:, block] * inverse[:, block], w[:, block], value=-scale)
        norms.append(_norm(out_k))
    return norms[0] if len(norms) == 1 else _norm(torch.stack(norms))


def _norm(t: Tensor) -> Tensor:
    if t.is_contiguous():
        flat = t.view(-1)
        return torch.dot(flat, flat).sqrt_()  # thrice as fast on a CPU
    norm: Tensor = torch.linalg.vector_norm(t)
    return norm


def _unit_blocks(w: Tensor) -> Iterator[slice]:
    # Units whose rows stay in the cache while they are read, scaled and measured.
    size = max(1, _part_bytes(w) // (4 * w.shape[0] * w.shape[2] * w.element_size()))
    yield from (slice(start, start + size) for start in range(0, w.shape[1], size))


def _part_bytes(t: Tensor) -> int:
    return PART_BYTES.get(t.device.type, PART_BYTES_ELSEWHERE)


def _merges(decay: Decay | None, post: Tensor, patches: object, fan_in: int, samples: int) -> bool:
    if not isinstance(decay, Gram | LowerGram) or not isinstance(patches, LinearPatches):
        return False
    return decay.a is post and decay.factored(fan_in, samples)


def _factored(decay: Decay, fan_in: int, samples: int) -> bool:
    return isinstance(decay, Gram | LowerGram) and decay.factored(fan_in, samples)


def _pieces(decay: Decay | None) -> tuple[Decay, ...]:
    if decay is None:
        return ()
    return decay.parts if isinstance(decay, Sum) else (decay,)


def _take(sums: Sums, decay: Decay, w: Tensor) -> None:
    if isinstance(decay, Diagonal):
        sums.decay.add_(decay.d)
        sums.decays = True
    else:
        sums.settle()
        decay.subtract(sums.numerator, w)
