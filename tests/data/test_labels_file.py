"""A labels file gives images their classes and parts; what it may not say is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from painted import paint

from fasthebb.data import load
from fasthebb.data.labels_file import list_labelled
from fasthebb.data.listing import Listing

NAMES = [f"{letter}/{number}.png" for letter in "ab" for number in range(5)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        paint(tmp_path / "images" / name, number)
    return tmp_path / "images"


def listed(root: Path, text: str | bytes) -> Listing:
    file = root.parent / "labels.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list_labelled("folder:x", root, file)


def refused(root: Path, text: str | bytes) -> str:
    with pytest.raises(ValueError) as error:
        listed(root, text)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(root.parent / "labels.csv"))
    return message


def labels(listing: Listing, part: str) -> dict[str, str | None]:
    classes = dict(enumerate(listing.classes))
    return {item.name: classes.get(item.label) for item in listing.parts[part]}


def test_a_split_column_makes_the_parts(root: Path) -> None:
    found = listed(
        root,
        "split,note,label, path\n"
        'train,"x, y\n""z""",dog,a/0.png\ntrain,,cat,./a/1.png,,\nval,,cat,a/2.png\n'
        "test,,dog,b/0.png\ntest,,cat,b/1.png\n",
    )
    assert found.classes == ("cat", "dog")
    rest = dict.fromkeys(["a/3.png", "a/4.png", "b/2.png", "b/3.png", "b/4.png"])
    assert labels(found, "train") == {"a/0.png": "dog", "a/1.png": "cat", **rest}
    assert labels(found, "val") == {"a/2.png": "cat"}
    assert labels(found, "test") == {"b/0.png": "dog", "b/1.png": "cat"}
    assert list(labels(found, "train")) == sorted(labels(found, "train"))


def test_without_a_split_a_fixed_fifth_of_every_class_is_test(root: Path) -> None:
    rows = "".join(f"{name},{'odd' if int(name[2]) % 2 else 'even'}\n" for name in NAMES[:9])
    found = listed(root, "path,label\n" + rows)
    assert sorted(labels(found, "test").values(), key=str) == ["even", "odd"]
    assert len(found.parts["train"]) == 8
    assert labels(found, "train")["b/4.png"] is None
    assert listed(root, "path,label\n" + rows) == found
    split = "path,label,split\n" + rows.replace("\n", ",train\n")
    assert listed(root, split) == found


def test_a_byte_order_mark_unicode_and_equal_lines_are_fine(root: Path) -> None:
    paint(root / "ünï 😀.png")
    found = listed(root, "\ufeffpath,label\nünï 😀.png,Käse\na/0.png,Käse\na/0.png,Käse\n")
    assert found.classes == ("Käse",)
    assert {**labels(found, "train"), **labels(found, "test")}["ünï 😀.png"] == "Käse"


def test_loading_with_a_labels_file(root: Path) -> None:
    (root.parent / "labels.csv").write_text("path,label\na/0.png,x\na/1.png,x\nb/0.png,y\nb/1.png,y\n")
    data = load(f"folder:{root}", image_size=4, labels_file=root.parent / "labels.csv")
    assert data.classes == ("x", "y")
    assert data.train.labels.tolist().count(-1) == 6
    assert data.test.labels.tolist() == [0, 1]
    for path, pixels in zip(data.train.paths, data.train.images):
        assert NAMES.index(path) == pixels[0, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns []: its first line must name path and label"),
        ("a/0.png,cat\n", "has the columns ['a/0.png', 'cat']: its first line must name path and label"),
        ("path,label\na/9.png,x\na/0.png,x\n", "1 of its 2 paths are no image below"),
        ("path,label\n" + "".join(f"{n},x\n" for n in range(7)), "0, 1, 2, 3, 4 and 2 more: mend them"),
        ("path,label\n../images/a/0.png,x\n", "1 of its 1 paths are no image below"),
        ("path,label\na/0.png,x\na/./0.png,y\n", "'a/0.png' has two labels, 'x' and 'y': keep one"),
        ("path,label,split\na/0.png,x,train\na/0.png,x,test\n", "'a/0.png' has two splits, 'train' and 'test'"),
        ("path,label\na/0.png,x\na/1.png, \n", "line 3: the label of 'a/1.png' is empty"),
        ("path,label\na/0.png\n", "line 2: the label of 'a/0.png' is empty"),
        ("path,label,split\na/0.png,x,dev\n", "line 2: the split 'dev' of 'a/0.png' is unknown: choose from train,"),
        ("path,label,split\na/0.png,x,\n", "line 2: the split '' of 'a/0.png' is unknown"),
        ("path,label,split\na/0.png,x,test\n", "has no training images"),
        ("path,label\n", "has no training images"),
        ("path,label,split\na/0.png,x,train\na/1.png,y,test\n", "test has images of y, train has none"),
        ("path,label,split\na/0.png,x,train\na/1.png,y,val\n", "val has images of y, train has none"),
        ("path,label\na/0.png,Käse\n".encode("latin-1"), "is not UTF-8"),
        ('path,label\na/0.png,"x\na/1.png,y\n', "is no CSV file after line 1 (unexpected end of data): save it"),
        ('path,label\na/0.png,"x\na/1.png,"y\na/2.png,z\n', "is no CSV file after line 1 (',' expected after '\"')"),
        ('path,label\na/0.png,"x\na/1.png,y"\n', "line 3: a label of 2 lines, beginning with 'x': a quote may be"),
        ('path,label\n"a/0.png,x\na/1.png",y\n', "line 3: a path of 2 lines, beginning with 'a/0.png,x': a quote"),
        ("path,label\na/0.png,x,y\n", "line 2 has 3 fields for 2 columns: quote what has a comma in it"),
        ("path,label,label\na/0.png,x,y\n", "has the column 'label' more than once: keep one"),
        ("path;label\na/0.png;x\n", "its first line must name path and label, separated by commas, not by ';'"),
        ("path\tlabel\na/0.png\tx\n", "its first line must name path and label, separated by commas, not by tabs"),
        ("Path,Label\na/0.png,x\n", "['Path', 'Label']: its first line must name path and label, in lower case"),
        (b"path,label\na/0.png," + b"x" * 200_000, "is no CSV file after line 1 (field larger than field limit"),
    ],
)
def test_what_a_labels_file_may_not_say(root: Path, text: str | bytes, message: str) -> None:
    assert message in refused(root, text)


def test_a_labels_file_that_is_not_there(root: Path) -> None:
    for path, why in (("none.csv", "No such file or directory"), ("images", "Is a directory")):
        with pytest.raises(ValueError, match=rf"{path} cannot be read \({why}\): check the path of the labels file"):
            list_labelled("folder:x", root, root.parent / path)
    with pytest.raises(ValueError, match=r"^digits has its own labels: a labels file \(x.csv\) goes with folder:PATH"):
        load("digits", labels_file="x.csv")


def test_nothing_to_test_on(root: Path) -> None:
    with pytest.raises(ValueError, match="one image in each class, none to test on"):
        listed(root, "path,label\na/0.png,x\nb/0.png,y\n")
