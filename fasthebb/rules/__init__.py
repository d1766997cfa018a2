"""Learning rules: frozen objects that say what a unit makes of its response."""

from fasthebb.rules.base import Local, Rule, Terms
from fasthebb.rules.bcm import BCM
from fasthebb.rules.covariance import Covariance
from fasthebb.rules.hebb import Hebb, Oja
from fasthebb.rules.ica import HICA, ICA
from fasthebb.rules.instar import KWTA, HardWTA, Instar, SoftWTA
from fasthebb.rules.krotov import Krotov
from fasthebb.rules.pca import HPCA, Subspace, WeightedSubspace
from fasthebb.rules.softhebb import SoftHebb
from fasthebb.rules.som import SOM
from fasthebb.rules.supervised import Modulated, Prototypes, Taught
from fasthebb.rules.trace import Trace

__all__ = [
    "BCM",
    "HICA",
    "HPCA",
    "ICA",
    "KWTA",
    "SOM",
    "Covariance",
    "HardWTA",
    "Hebb",
    "Instar",
    "Krotov",
    "Local",
    "Modulated",
    "Oja",
    "Prototypes",
    "Rule",
    "SoftHebb",
    "SoftWTA",
    "Subspace",
    "Taught",
    "Terms",
    "Trace",
    "WeightedSubspace",
]
