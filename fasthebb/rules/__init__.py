"""Learning rules: frozen objects that say what a unit makes of its response."""

from fasthebb.rules.base import Local, Rule, Terms
from fasthebb.rules.hebb import Hebb, Oja
from fasthebb.rules.instar import KWTA, HardWTA, Instar, SoftWTA
from fasthebb.rules.pca import HPCA, Subspace

__all__ = ["HPCA", "KWTA", "HardWTA", "Hebb", "Instar", "Local", "Oja", "Rule", "SoftWTA", "Subspace", "Terms"]
