"""Annotations of other tools, drawn."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hostile_parts import by_hand, noise, saved
from hostile_workers import Target
from PIL import Image

__all__ = ["TARGETS"]

TARGETS: dict[str, Target] = {}


def _converted(tool: str) -> Callable[[Any, Path], None]:
    def read(folder: Path, file: Path) -> None:
        from importlib import import_module

        from ducseg.data.convert.writing import write_folder
        from ducseg.data.files.reading import read_label

        source, out = file, folder / "converted"
        if tool == "yolo":
            shutil.copyfile(file, folder / "data.yaml")
            source = folder / "data.yaml"
        elif tool == "yolo labels":
            shutil.copyfile(file, folder / "labels" / "0.txt")
            source = folder / "good.yaml"
        elif tool == "labelme":
            shutil.copyfile(file, folder / "labelme" / "0.json")
            source = folder / "labelme"
        shutil.rmtree(out, ignore_errors=True)
        module = import_module(f"ducseg.data.convert.{MODULES.get(tool, tool)}")
        report = write_folder(out, module.read(source, folder / "images"))
        for mask in (out / "masks").rglob("*.png"):
            label = read_label(mask)
            assert ((label < len(report.classes)) | (label == 255)).all()

    return read


def _drawn_over(folder: Path, file: Path) -> None:
    from ducseg.data.convert.vectors import convert
    from ducseg.data.files.reading import read_label

    shutil.rmtree(folder / "converted", ignore_errors=True)
    shutil.copyfile(file, folder / "0.geojson")
    report = convert(folder / "0.geojson", folder / "converted", images=folder / "images", line_width=2.0)
    for mask in (folder / "converted" / "masks").iterdir():
        label = read_label(mask)
        assert ((label < len(report.classes)) | (label == 255)).all()


MODULES = {"coco": "coco_folder", "yolo labels": "yolo"}
_PICTURE = saved(Image.fromarray(noise(24, 32)), "png")


def _beside(folder: Path) -> Path:
    """Pictures that annotations may name, and YOLO's and labelme's folders."""
    for name in ("images", "labels", "labelme"):
        (folder / name).mkdir(exist_ok=True)
    for number in range(3):
        (folder / "images" / f"{number}.png").write_bytes(_PICTURE)
    (folder / "labelme" / "0.png").write_bytes(_PICTURE)
    (folder / "labels" / "0.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    (folder / "good.yaml").write_text("train: images\nval: images\nnames: [tree, track]\n")
    return folder


_CODE = "S36gd0"  # a column of six pixels in 24 x 32, as pycocotools writes it


def _coco_seeds(_folder: Path) -> Sequence[bytes]:
    images = [{"id": n, "file_name": f"{n}.png", "height": 24, "width": 32} for n in range(3)]
    rle = {"size": [24, 32], "counts": [100, 50, 618]}
    annotations = [
        {"id": 0, "image_id": 0, "category_id": 1, "segmentation": [[2, 2, 20, 2, 20, 15]], "bbox": [2, 2, 18, 13],
        "area": 100, "iscrowd": 0},
        {"id": 1, "image_id": 1, "category_id": 2, "segmentation": rle, "bbox": [0, 0, 9, 9], "area": 50, "iscrowd": 1},
        {"id": 2, "image_id": 2, "category_id": 2, "segmentation": {"size": [24, 32], "counts": _CODE}, "bbox": [0,
        0, 9, 9], "area": 5, "iscrowd": 0},
    ]  # fmt: skip
    categories = [{"id": 1, "name": "tree", "color": [0, 140, 0]}, {"id": 2, "name": "track"}]
    return [json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()]


def _labelme_seeds(_folder: Path) -> Sequence[bytes]:
    kinds = {
        "polygon": [[2, 2], [20, 2], [20, 15]], "rectangle": [[1, 1], [9, 9]], "circle": [[9, 9], [12, 9]], "line": [[1,
        1], [9, 9]], "linestrip": [[1, 1], [9, 9], [9, 1]],
        "point": [[3, 3]],
    }  # fmt: skip
    shapes = [
        {"label": "tree", "shape_type": kind, "points": points, "group_id": None, "flags": {}}
        for kind, points in kinds.items()
    ]
    import base64

    mask = base64.b64encode(saved(Image.fromarray(np.eye(5, dtype=np.uint8) * 255), "png")).decode()
    shapes.append({"label": "track", "shape_type": "mask", "points": [[2, 2], [6, 6]], "mask": mask})
    return [
        json.dumps(
            {
                "version": "5.0",
                "imagePath": "0.png",
                "imageData": None,
                "imageHeight": 24,
                "imageWidth": 32,
                "shapes": shapes,
            }
        ).encode()
    ]


def _brush(height: int, width: int) -> list[int]:
    """Label Studio's code of a mask that is all set: sizes, then one run."""
    count = 4 * height * width
    bits = f"{count:032b}" + f"{7:05b}" + f"{15:04b}" * 4 + "1" + "00" + f"{count - 1:016b}" + f"{255:08b}"
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def _studio_seeds(_folder: Path) -> Sequence[bytes]:
    def region(kind: str, **value: Any) -> dict[str, Any]:
        return {
            "type": kind,
            "original_width": 32,
            "original_height": 24,
            "image_rotation": 0,
            "value": {kind: ["tree"], **value},
        }

    regions = [
        region("polygonlabels", points=[[5, 5], [50, 5], [50, 60]]), region("rectanglelabels", x=5, y=5, width=30,
        height=30, rotation=10),
        region("ellipselabels", x=50, y=50, radiusX=10, radiusY=20, rotation=0), region("brushlabels", format="rle",
        rle=_brush(24, 32)),
    ]  # fmt: skip
    task = {
        "id": 1,
        "data": {"image": "/data/upload/1/0.png"},
        "annotations": [{"id": 1, "result": regions, "was_cancelled": False}],
    }
    return [json.dumps([task]).encode()]


_CVAT = b"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels><label><name>tree</name><color>#008c00</color></label>
<label><name>track</name><color>#c8c8c8</color></label></labels></task></meta>
<image id="0" name="0.png" width="32" height="24">
<polygon label="tree" occluded="0" points="2.0,2.0;20.0,2.0;20.0,15.0" z_order="0"></polygon>
<box label="track" xtl="1" ytl="1" xbr="9" ybr="9" rotation="30.0" z_order="1"></box>
<ellipse label="track" cx="9" cy="9" rx="3" ry="4" z_order="0"></ellipse>
<polyline label="tree" points="1,1;9,9" z_order="0"></polyline>
<mask label="tree" rle="2, 3, 2, 3" left="4" top="4" width="5" height="2" z_order="0"></mask>
</image></annotations>
"""


_LEADING_OUT = (b"../../outside", b"/tmp/ducseg-outside", b"a/../../../b", b"..", b"a\\..\\..\\b", b"x" * 300)


def _evil_xml(_folder: Path) -> dict[str, bytes]:
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    return {
        "laughs": f'<!DOCTYPE a [<!ENTITY l0 "lol">{lol}]><annotations>&l11;</annotations>'.encode(),
        "external": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations><version>&x;</version></annotations>',
        "external dtd": b'<?xml version="1.0"?><!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><annotations/>',
        "quadratic": b'<!DOCTYPE a [<!ENTITY x "' + b"A" * 50_000 + b'">]><a>' + b"&x;" * 5000 + b"</a>",
        **{f"subset {name}": _CVAT.replace(b'<image ',
        b'<image subset="%s" ' % name) for name in _LEADING_OUT},
        **{f"name {name}": _CVAT.replace(b'name="0.png"', b'name="%s"' % name) for name in _LEADING_OUT},
        "deep": b"<a>" * 100_000, "empty": b"", "text": b"hello",
        "attributes": b"<annotations " + b" ".join(b'a%d="1"' % n for n in range(20_000)) + b"/>",
        "utf-7": b'<?xml version="1.0" encoding="utf-7"?><annotations/>', "huge runs": _CVAT.replace(b"2, 3, 2, 3",
        b"999999999999, 3"),
        "huge size": _CVAT.replace(b'width="32"', b'width="999999999"'), "negative": _CVAT.replace(b'left="4"',
        b'left="-40000"'), "nan": _CVAT.replace(b'"1,1;9,9"', b'"nan,inf;1e300,9"'),
    }  # fmt: skip


def _evil_yaml(_folder: Path) -> dict[str, bytes]:
    bomb = "a: &a [x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
    )
    return {
        "object": b"!!python/object/apply:os.system ['touch /tmp/ducseg-was-run']", "aliases": bomb.encode(),
        "aliases as names": (bomb + "names: *m\ntrain: images\n").encode(),
        "deep": b"[" * 20_000, "self": b"&a [*a]", "list": b"[]", "path": b"path: ../../..\ntrain: /etc\nnames: [a]\n",
        "huge": b"names: " + b"[a" * 3000, "nul": b"\0", "date": b"names: 2020-99-99\ntrain: images",
        "many": b"train: images\nnames: [" + b"a," * 5000 + b"]",
        "numbers": b"train: images\nnames: {99999999999: a, -1: b}\n",
    }  # fmt: skip


TARGETS["annotations, COCO"] = Target(_coco_seeds, _converted("coco"), ".json", "json", _beside, by_hand)
TARGETS["annotations, labelme"] = Target(_labelme_seeds, _converted("labelme"), ".json", "json", _beside, by_hand)
TARGETS["annotations, Label Studio"] = Target(
    _studio_seeds, _converted("label_studio"), ".json", "json", _beside, by_hand
)
TARGETS["annotations, CVAT"] = Target(lambda _folder: [_CVAT], _converted("cvat"), ".xml", "lines", _beside, _evil_xml)
TARGETS["annotations, YOLO's data.yaml"] = Target(
    lambda _folder: [b"path: .\ntrain: images\nval: images\nnames:\n  0: tree\n  1: track\n",
    b"train: [images]\nnames: [tree, track]\nnc: 2\n"],
    _converted("yolo"), ".yaml", "lines", _beside, _evil_yaml,
)  # fmt: skip
TARGETS["annotations, YOLO's labels"] = Target(
    lambda _folder: [b"0 0.1 0.1 0.9 0.1 0.9 0.9\n1 0.2 0.2 0.4 0.2 0.3 0.5 0.1 0.1\n"],
    _converted("yolo labels"),
    ".txt",
    "lines",
    _beside,
)
TARGETS["annotations, GeoJSON"] = Target(
    lambda _folder: [
        json.dumps({"type": "FeatureCollection", "features": [
            {"type": "Feature", "properties": {"class": "road", "label": 1, "color": "#ff0000"}, "geometry": one}
            for one in (
                {"type": "MultiPolygon", "coordinates": [[[[2, 3], [20, 3], [20, 20], [2, 3]]]]},
                {"type": "LineString", "coordinates": [[1, 1], [9.5, 20, 7]]},
                {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [3, 3]}]},
                None,
            )
        ]}).encode()
    ],
    _drawn_over, ".json", "json", _beside, by_hand,
)  # fmt: skip
