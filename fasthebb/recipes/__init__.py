"""Recipes: one Python function per published or shipped experiment; a variant calls another and changes a field."""

from __future__ import annotations

from collections.abc import Callable

from fasthebb.recipes.few_labels import few_labels_cifar10, few_labels_fashion_mnist, few_labels_tiny_imagenet
from fasthebb.recipes.large import large_cifar10, large_fashion_mnist, large_tiny_imagenet
from fasthebb.recipes.paper import PAPER
from fasthebb.recipes.reproductions import cifar10_depths, softhebb_cifar10
from fasthebb.recipes.shipped import cifar10, digits, fashion_mnist
from fasthebb.recipes.transfer import transfer_cifar10
from fasthebb.study.options import StudyOptions

RECIPES: dict[str, Callable[[], StudyOptions]] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "softhebb_cifar10": softhebb_cifar10,
    "cifar10_depths": cifar10_depths,
    "few_labels_cifar10": few_labels_cifar10,
    "few_labels_fashion_mnist": few_labels_fashion_mnist,
    "few_labels_tiny_imagenet": few_labels_tiny_imagenet,
    "large_cifar10": large_cifar10,
    "large_fashion_mnist": large_fashion_mnist,
    "large_tiny_imagenet": large_tiny_imagenet,
    "transfer_cifar10": transfer_cifar10,
    **PAPER,
}
