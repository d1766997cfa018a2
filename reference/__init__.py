"""The literal reference of every Hebbian update: what a fast implementation must equal.

One equation, one file per rule family, and nothing but loops:

    ΔW_i = 1/norm_i · Σ_m ( post_mi · x_m − what unit i already explains )

The sum runs over m, every output location of every sample; each sample, location and unit is one turn of a Python
loop, and only the sum over the fan-in of a unit is a vector operation. Nothing here is fast, and nothing here is shared
with the package it checks. All arithmetic is float64 on the CPU.

Shapes, for one group of a layer:

    patches  [M, K]   what a unit sees: M = samples · output locations, K its fan-in
    w, ΔW    [C, K]   one row per unit
    y        [M, C]   the responses, never with a bias

Files, in reading order:

    patches.py    a layer as a list of groups of patches and units, and back
    responses.py  what a unit answers to a patch
    hebb.py       Hebb, Oja
    pca.py        Oja's subspace, Hebbian PCA
    instar.py     hard, k-winner and soft winner-take-all
    ica.py        ICA and its hierarchical variant
    adaptive.py   nonlinearities that remember
    softhebb.py   SoftHebb
    krotov.py     Krotov and Hopfield
    bcm.py        Bienenstock, Cooper and Munro
    covariance.py the covariance rule
    trace.py      Földiák's trace rule
    som.py        the self-organising map
    competition.py  what goes around a competition
    supervised.py labels, teacher and third factor
    finishes.py   what may be done to ΔW once it is summed
    update.py     all of these, in order

>>> import torch
>>> from reference import update
>>> from reference.hebb import oja
>>> layer = torch.nn.Linear(2, 1, bias=False)
>>> layer.weight.data = torch.tensor([[1.0, 0.0]])
>>> update(layer, torch.tensor([[2.0, 3.0]]), oja)
tensor([[0., 6.]], dtype=torch.float64)
"""

from reference.update import update

__all__ = ["update"]
