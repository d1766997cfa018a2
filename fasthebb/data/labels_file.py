"""A folder of images whose classes, and perhaps parts, a CSV file gives."""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fasthebb.data.folders import Classes, hold_out, label_items, list_images
from fasthebb.data.layout import PARTS
from fasthebb.data.listing import Item, Listing


class _Row(NamedTuple):
    path: str
    label: str
    split: str


def list_labelled(spec: str, root: Path, labels_file: Path) -> Listing:
    """The images below `root`, of the classes that a labels file gives them; those it does not name are unlabelled.

    The file is UTF-8 CSV with the columns `path` (below root) and `label` (a class name), and perhaps `split` (train,
    val or test); other columns do not count. Class names are its distinct labels, sorted. Without a test image in it,
    a fixed fifth of every class is held out.

    Raises ValueError for a folder or a file that cannot be read, a missing or repeated column, a quote that nothing
    closes, a line with more fields than columns, a path or label of several lines, an empty label, another split, a
    path that is not below root or has two labels, no training image, a class that train lacks.
    """
    found = {item.name: item for item in list_images(root)}
    rows = {row.path: row for row in _distinct(labels_file, _read_rows(labels_file))}
    if unknown := sorted(rows.keys() - found.keys()):
        raise ValueError(
            f"{labels_file}: {len(unknown)} of its {len(rows)} paths are no image below {root}: {_few(unknown)}: "
            "mend them; they are relative to that folder"
        )
    parts = _group(rows.values(), found)
    _check_parts(labels_file, parts)
    if "test" not in parts:
        parts["train"], parts["test"] = hold_out(spec, parts["train"])
    classes = tuple(sorted({row.label for row in rows.values()}))
    items = {part: label_items(classes, parts[part]) for part in parts}
    items["train"] = sorted(items["train"] + [item for name, item in found.items() if name not in rows])
    return Listing(classes, items)


def _read_rows(file: Path) -> Iterator[_Row]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            _check_columns(file, columns)
            reader.fieldnames = columns
            for row in reader:
                yield _check_row(f"{file}, line {reader.line_num}", row)
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror}): check the path of the labels file") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not UTF-8: save the labels file as UTF-8 text") from None
    except csv.Error as error:
        raise ValueError(
            f"{file} is no CSV file after line {reader.line_num} ({error}): save it as comma-separated text, and close "
            "or double every quote"
        ) from None


def _check_columns(file: Path, columns: list[str]) -> None:
    if twice := [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]:
        raise ValueError(f"{file} has the column {twice[0]!r} more than once: keep one")
    if {"path", "label"} <= set(columns):
        return
    hint = ""
    if {"path", "label"} <= {name.lower() for name in columns}:
        hint = ", in lower case"
    elif separator := next((sign for sign in ";\t" if any(sign in name for name in columns)), None):
        hint = f", separated by commas, not by {'tabs' if separator == chr(9) else repr(separator)}"
    raise ValueError(f"{file} has the columns {columns}: its first line must name path and label{hint}")


def _check_row(where: str, row: Mapping[str | None, Any]) -> _Row:
    if any(map(str.strip, row.get(None, ()))):
        fields = len(row) - 1 + len(row[None])
        raise ValueError(f"{where} has {fields} fields for {len(row) - 1} columns: quote what has a comma in it")
    for name in ("path", "label"):
        if len(lines := (row[name] or "").splitlines()) > 1:
            raise ValueError(
                f"{where}: a {name} of {len(lines)} lines, beginning with {lines[0]!r}: a quote may be one too many; "
                "keep it on one line"
            )
    path, label, split = ((row.get(name) or "").strip() for name in _Row._fields)
    if not label:
        raise ValueError(f"{where}: the label of {path!r} is empty: give its class, or leave the line out")
    if "split" in row and split not in PARTS:
        raise ValueError(f"{where}: the split {split!r} of {path!r} is unknown: choose from {', '.join(PARTS)}")
    return _Row(posixpath.normpath(path), label, split or PARTS[0])


def _distinct(file: Path, rows: Iterable[_Row]) -> Iterator[_Row]:
    seen: dict[str, _Row] = {}
    for row in rows:
        other = seen.setdefault(row.path, row)
        if other != row:
            what = "labels" if other.label != row.label else "splits"
            pair = " and ".join(
                f"{a!r}" for a in ((other.label, row.label) if what == "labels" else (other.split, row.split))
            )
            raise ValueError(f"{file}: {row.path!r} has two {what}, {pair}: keep one")
        yield row


def _group(rows: Iterable[_Row], found: Mapping[str, Item]) -> dict[str, Classes]:
    parts: dict[str, Classes] = {}
    for row in sorted(rows):
        parts.setdefault(row.split, {}).setdefault(row.label, []).append(found[row.path])
    return parts


def _check_parts(file: Path, parts: Mapping[str, Classes]) -> None:
    if "train" not in parts:
        raise ValueError(f"{file} has no training images: name some, with the split train")
    for part, classes in parts.items():
        if apart := sorted(classes.keys() - parts["train"].keys()):
            raise ValueError(f"{file}: {part} has images of {_few(apart)}, train has none: make them agree")


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
