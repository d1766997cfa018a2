"""Where the official files of the named sets come from, where they belong, and their checksums."""

from __future__ import annotations

from typing import NamedTuple


class Official(NamedTuple):
    """One file. place: below the data folder. md5: of its bytes. urls: mirrors, first choice first.

    top: the folder that is in the archive and is unpacked, "" for a file that is read as it is.
    """

    place: str
    md5: str
    urls: tuple[str, ...]
    top: str = ""


def _same_name(folder: str, mirrors: tuple[str, ...], sums: dict[str, str]) -> tuple[Official, ...]:
    """Files that have the same name on every mirror and in `folder`."""
    return tuple(
        Official(f"{folder}/{name}", md5, tuple(mirror + name for mirror in mirrors)) for name, md5 in sums.items()
    )


OFFICIAL: dict[str, tuple[Official, ...]] = {
    # first mirror and sums: torchvision.datasets.MNIST; second mirror: tensorflow-datasets
    "mnist": _same_name(
        "MNIST/raw",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    # first mirror and sums: torchvision.datasets.FashionMNIST; others: the authors' repository, keras
    "fashion-mnist": _same_name(
        "FashionMNIST/raw",
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    # torchvision.datasets.CIFAR10
    "cifar10": (
        Official(
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
        ),
    ),
    # torchvision.datasets.CIFAR100
    "cifar100": (
        Official(
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
        ),
    ),
    # torchvision.datasets.STL10; second mirror: the set's own page
    "stl10": (
        Official(
            "stl10_binary.tar.gz",
            "91f7769df0f17e558f3565bffb0c7dfb",
            (
                "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
                "https://cs.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            ),
            top="stl10_binary",
        ),
    ),
    # address: the set's own page (CS231n); sum: avalanche.benchmarks.datasets.TinyImagenet
    "tiny-imagenet": (
        Official(
            "tiny-imagenet-200.zip",
            "90528d7ca1a48142e341f4ef8d21d0de",
            (
                "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
            ),
            top="tiny-imagenet-200",
        ),
    ),
    # torchvision.datasets.Imagenette, its smallest size: 160 px on the shorter side
    "imagenette": (
        Official(
            "imagenette2-160.tgz",
            "e793b78cc4c9e9a4ccc0c1155377a412",
            ("https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",),
            top="imagenette2-160",
        ),
    ),
}
