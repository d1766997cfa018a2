"""How good features are: extraction, linear read-outs, nearest neighbours, retrieval; what a classifier confuses."""

from fasthebb.evaluation.confusion import confusion_matrix, predictions
from fasthebb.evaluation.features import extract, extract_many
from fasthebb.evaluation.knn import knn_accuracy, knn_left_out, topk_accuracy
from fasthebb.evaluation.probe import Probe, linear_probe
from fasthebb.evaluation.propagation import propagate
from fasthebb.evaluation.retrieval import nearest, precision_at_k, retrieval_map
from fasthebb.evaluation.svm import Svm, linear_svm

__all__ = [
    "Probe", "Svm", "confusion_matrix", "extract", "extract_many", "knn_accuracy", "knn_left_out", "linear_probe",
    "linear_svm", "nearest", "precision_at_k", "predictions", "propagate", "retrieval_map", "topk_accuracy",
]  # fmt: skip
