"""Image data sets, label budgets, and loaders that resume exactly."""

from fasthebb.data.datasets import Dataset, ImageSet, load
from fasthebb.data.decode import decode_image
from fasthebb.data.labels import few_labels, holdout, parse_budget
from fasthebb.data.loader import Loader, channel_statistics

__all__ = [
    "Dataset",
    "ImageSet",
    "Loader",
    "channel_statistics",
    "decode_image",
    "few_labels",
    "holdout",
    "load",
    "parse_budget",
]
