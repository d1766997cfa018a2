"""How good features are: extraction, linear probes, nearest neighbours."""

from fasthebb.evaluation.features import extract, extract_many
from fasthebb.evaluation.knn import knn_accuracy, knn_left_out, topk_accuracy
from fasthebb.evaluation.probe import Probe, linear_probe

__all__ = ["Probe", "extract", "extract_many", "knn_accuracy", "knn_left_out", "linear_probe", "topk_accuracy"]
