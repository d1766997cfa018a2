"""Learning rules: frozen objects that say what a unit makes of its response."""

from fasthebb.rules.base import Rule, Terms
from fasthebb.rules.hebb import Hebb, Oja
from fasthebb.rules.instar import KWTA, HardWTA, SoftWTA
from fasthebb.rules.pca import HPCA, Subspace

__all__ = ["HPCA", "KWTA", "HardWTA", "Hebb", "Oja", "Rule", "SoftWTA", "Subspace", "Terms"]
