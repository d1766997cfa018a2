"""Which image files a folder of class sub-folders holds, and which of them are test images."""

from __future__ import annotations

from pathlib import Path

import torch

from fasthebb.data.decode import SUFFIXES

PARTS = ("train", "val", "test")
TEST_SHARE = 0.2  # of every class, where there is no test/


def list_files(spec: str, root: Path) -> tuple[tuple[str, ...], dict[str, list[tuple[Path, int]]]]:
    """Class names in label order, and for each part ("train", "test" and perhaps "val") its (file, label), sorted.

    root/CLASS/… is a training part; root/train/CLASS/… with val/ and test/ beside it are parts. Without test/, a fixed
    fifth of every class is held out. Hidden files and folders, and folders without images, do not count.

    Raises ValueError, beginning with `spec`, for a folder that does not hold this.
    """
    if not root.is_dir():
        raise ValueError(f"{spec}: {root} is {'not a folder' if root.exists() else 'missing'}: check the path")
    parts = {part: _list_classes(spec, folder) for part, folder in _part_folders(spec, root).items()}
    classes = tuple(sorted(parts["train"]))
    for part, found in parts.items():
        if apart := sorted(set(classes) ^ set(found)):
            names = ", ".join(apart[:5]) + (f" and {len(apart) - 5} more" if len(apart) > 5 else "")
            raise ValueError(f"{spec}: only one of train/ and {part}/ has images of {names}: make them agree")
    if "test" not in parts:
        parts["train"], parts["test"] = _hold_out(spec, parts["train"])
    labelled = {
        part: sorted((path, label) for label, name in enumerate(classes) for path in found[name])
        for part, found in parts.items()
    }
    return classes, labelled


def _part_folders(spec: str, root: Path) -> dict[str, Path]:
    """Where each part is: `train` and so on are parts if they have sub-folders or stand alone, else classes."""
    below = {folder.name for folder in _sub_folders(root)}
    present = [part for part in PARTS if part in below]
    beside = below.difference(PARTS)
    if not present or (beside and not any(_sub_folders(root / part) for part in present)):
        return {"train": root}
    if "train" not in present:
        raise ValueError(
            f"{spec} has {present[0]}/ but no train/: put the training images into {root / 'train' / 'CLASS'}/, "
            f"or name a folder of classes ({spec}/{present[0]})"
        )
    return {part: root / part for part in present}


def _list_classes(spec: str, folder: Path) -> dict[str, list[Path]]:
    """The image files below each sub-folder that has any."""
    classes = {sub.name: images for sub in _sub_folders(folder) if (images := _images_below(sub))}
    if classes:
        return classes
    if loose := _images_below(folder):
        raise ValueError(
            f"{spec}: {folder} holds {len(loose)} images but no class sub-folders: "
            f"put them into one folder per class ({folder / 'CLASS' / loose[0].name})"
        )
    kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))
    raise ValueError(f"{spec}: {folder} holds no images: put them into {folder / 'CLASS'}/ ({kinds})")


def _sub_folders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))


def _images_below(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(name.startswith(".") for name in path.relative_to(folder).parts)
        and path.is_file()
    )


def _hold_out(spec: str, classes: dict[str, list[Path]]) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Train and test files: of every class the same seeded share, at least one where there are two."""
    train, test = {}, {}
    generator = torch.Generator().manual_seed(0)
    for name, paths in sorted(classes.items()):
        count = min(max(1, int(TEST_SHARE * len(paths) + 0.5)), len(paths) - 1)
        order = torch.randperm(len(paths), generator=generator).tolist()
        test[name] = [paths[i] for i in order[:count]]
        train[name] = [paths[i] for i in order[count:]]
    if not any(test.values()):
        raise ValueError(f"{spec} has one image in each class, none to test on: add images, or a test/ folder")
    return train, test
