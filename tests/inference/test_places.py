"""The same results wherever pictures come from and go to: tars, memory, and a server that speaks S3."""

import io
import json
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import cv2
import fsspec
import numpy as np
import pytest

from ducseg.classes import CAMVID
from ducseg.errors import UserError
from ducseg.inference import places
from ducseg.inference.manifest import file_digest, read_rows
from ducseg.inference.many import ShardReport, predict_shard
from ducseg.inference.places import is_url, local_path
from ducseg.inference.shards import Shard
from ducseg.inference.tars import list_members

WHOLE = Shard(0, 1)


class Stripes:
    """Classes by the green of a pixel."""

    classes, record = CAMVID, {}

    def __call__(self, image: Any, /) -> Any:
        return image[..., 1] % len(self.classes)

    def probabilities(self, image: Any, /) -> Any:
        return np.eye(len(self.classes), dtype=np.float32)[self(image)].transpose(2, 0, 1)


def png(number: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
    return bytes(cv2.imencode(".png", noise)[1])


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    for number in range(6):
        place = tmp_path / "in" / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(number))
    return tmp_path / "in"


def predict(given: Any, out: Any, part: Shard = WHOLE, settings: str = "s", **options: Any) -> ShardReport:
    given = given if isinstance(given, list) else [given]
    kinds = options.pop("kinds", ("labels", "color"))
    return predict_shard(Stripes, given, out, kinds=kinds, shard=part, settings=settings, progress=False, **options)


def tree(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".jsonl")
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in files}


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


class Bucket(BaseHTTPRequestHandler):
    """As much of S3 as a client needs to list, get and put; whoever asks is let in."""

    objects: dict[str, bytes]
    parts: dict[str, dict[int, bytes]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/")

    def _answer(self, status: int, body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("ETag", '"etag"')
        self.send_header("Last-Modified", "Thu, 26 Nov 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return data

    def do_PUT(self) -> None:
        data = self._body()
        if self.headers.get("x-amz-decoded-content-length"):  # in signed chunks
            plain, rest = b"", data
            while (match := re.match(rb"([0-9A-Fa-f]+)[^\r]*\r\n", rest)) and (size := int(match[1], 16)):
                plain, rest = plain + rest[match.end() :][:size], rest[match.end() + size + 2 :]
            data = plain
        query = parse_qs(urlsplit(self.path).query)
        if "partNumber" in query:
            self.parts.setdefault(query["uploadId"][0], {})[int(query["partNumber"][0])] = data
        else:
            self.objects[self._key()] = data
        self._answer(200)

    def do_POST(self) -> None:
        """Begin and end an upload in parts."""
        self._body()
        query, (name, _, key) = parse_qs(urlsplit(self.path).query, keep_blank_values=True), self._key().partition("/")
        if "uploads" in query:
            about = f"<Bucket>{name}</Bucket><Key>{key}</Key><UploadId>{self._key()}</UploadId>"
            self._answer(200, f"<InitiateMultipartUploadResult>{about}</InitiateMultipartUploadResult>".encode())
            return
        parts = self.parts.pop(query["uploadId"][0])
        self.objects[self._key()] = b"".join(parts[number] for number in sorted(parts))
        about = f"<Bucket>{name}</Bucket><Key>{key}</Key><ETag>etag</ETag>"
        self._answer(200, f"<CompleteMultipartUploadResult>{about}</CompleteMultipartUploadResult>".encode())

    def do_HEAD(self) -> None:
        key = self._key()
        known = key in self.objects or "/" not in key.rstrip("/")
        self._answer(200 if known else 404, length=len(self.objects.get(key, b"")))

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" not in query:
            data, asked = self.objects.get(self._key()), self.headers.get("Range", "")
            if data is None:
                self._answer(404)
                return
            span = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
            self._answer(206 if span else 200, data[int(span[1]) : int(span[2]) + 1] if span else data)
            return
        bucket, prefix = self._key().rstrip("/"), query.get("prefix", [""])[0]
        keys = [key.removeprefix(f"{bucket}/") for key in sorted(self.objects) if key.startswith(f"{bucket}/{prefix}")]
        if query.get("delimiter"):
            inside = {key[len(prefix) :].partition("/")[0] for key in keys if "/" in key[len(prefix) :]}
            keys = [key for key in keys if "/" not in key[len(prefix) :]]
            folders = "".join(f"<CommonPrefixes><Prefix>{prefix}{one}/</Prefix></CommonPrefixes>" for one in inside)
        else:
            folders = ""
        entries = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-11-26T00:00:00.000Z</LastModified><ETag>e</ETag>"
            f"<Size>{len(self.objects[f'{bucket}/{key}'])}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in keys
        )
        head = f"<Name>{bucket}</Name><Prefix>{prefix}</Prefix><KeyCount>{len(keys)}</KeyCount><MaxKeys>1000</MaxKeys>"
        text = f"<ListBucketResult>{head}<IsTruncated>false</IsTruncated>{entries}{folders}</ListBucketResult>"
        self._answer(200, text.encode())


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """The objects of a server on the loopback, which s3:// means."""
    arrow = pytest.importorskip("pyarrow.fs")
    from fsspec.implementations.arrow import ArrowFSWrapper

    objects: dict[str, bytes] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Bucket,), {"objects": objects, "parts": {}}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    client = arrow.S3FileSystem(
        access_key="key", secret_key="secret", endpoint_override=f"127.0.0.1:{server.server_port}", scheme="http",
        region="local", allow_bucket_creation=False,
    )  # fmt: skip

    class Local(ArrowFSWrapper):  # type: ignore[misc]
        protocol = "s3"

        def __init__(self, **_: Any) -> None:
            super().__init__(client)

    fsspec.register_implementation("s3", Local, clobber=True)
    places._system.cache_clear()
    yield objects
    server.shutdown()
    thread.join()
    server.server_close()
    places._system.cache_clear()


@pytest.mark.slow
def test_to_and_from_an_s3_server(inputs: Path, tmp_path: Path, bucket: dict[str, bytes]) -> None:
    predict(inputs, tmp_path / "one")
    for file in inputs.rglob("*.png"):
        bucket[f"photos/set/{file.relative_to(inputs).as_posix()}"] = file.read_bytes()
    there_and_back(
        "s3://photos/set", "s3://photos/out", tmp_path / "one",
        read=lambda: {key.removeprefix("photos/out/"): data for key, data in bucket.items() if "photos/out/" in key},
    )  # fmt: skip


def there_and_back(source: str, out: str, one: Path, *, read: Any) -> None:
    done = [predict(source, out, Shard(index, 2)) for index in range(2)]
    assert [len(part.report.written) for part in done] == [3, 3]
    assert all(str(name).startswith(f"{source.partition(':')[0]}://") for part in done for name in part.report.written)
    found = read()
    results = {name: data for name, data in found.items() if name and not name.endswith((".jsonl", "/"))}
    assert results == {name: (one / name).read_bytes() for name in tree(one)}
    lines = [json.loads(line) for name, data in found.items() if name.endswith(".jsonl") for line in data.splitlines()]
    assert sorted(line["name"] for line in lines) == ["a/0", "a/2", "a/4", "b/1", "b/3", "b/5"]
    again = predict(source, out)
    assert (again.labelled, again.skipped) == (0, 6)
    assert predict(source, out, settings="other").changed == 6


def test_to_and_from_memory(inputs: Path, tmp_path: Path) -> None:
    predict(inputs, tmp_path / "one")
    system = fsspec.filesystem("memory")
    system.put(str(inputs), "/photos", recursive=True)
    try:
        there_and_back(
            "memory://photos", "memory://out", tmp_path / "one",
            read=lambda: {name.removeprefix("/out/"): system.cat_file(name) for name in system.find("/out")},
        )  # fmt: skip
        system.pipe_file("/out/a/0_labels.png", b"cut")
        assert predict("memory://photos", "memory://out", settings="other").damaged == 1
        assert predict("memory://photos/*/0.png", tmp_path / "glob").report.written == ("memory:///photos/a/0.png",)
        with pytest.raises(UserError, match="memory://nowhere: found no file there"):
            predict("memory://nowhere", tmp_path / "out")
        with pytest.raises(UserError, match="both be written as 0"):
            predict([str(inputs / "a" / "0.png"), "memory://photos/*/0.png"], tmp_path / "out")
    finally:
        system.rm("/photos", recursive=True)
        system.rm("/out", recursive=True)


def test_a_file_url_is_the_disk(inputs: Path, tmp_path: Path) -> None:
    predict(inputs, tmp_path / "one")
    predict(f"file://{inputs}", f"file://{tmp_path}/two")
    assert tree(tmp_path / "two") == tree(tmp_path / "one")


def test_a_drive_of_windows_is_no_protocol() -> None:
    assert not is_url("C://pictures") and is_url("s3://pictures")
    assert local_path("file:///C:/pictures") == Path("C:/pictures")
    assert local_path("file:///srv/C:/pictures") == Path("/srv/C:/pictures")


def test_a_url_that_nothing_reads_is_one_line(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a protocol that fsspec knows"):
        predict("nothing://x", tmp_path / "out")
    with pytest.raises(UserError, match="pip install"):
        predict("gcs://bucket/x", tmp_path / "out")


def test_pictures_of_tars_to_files_and_to_tars(inputs: Path, tmp_path: Path) -> None:
    predict(inputs, tmp_path / "one")
    files = {file.relative_to(inputs).as_posix(): file.read_bytes() for file in inputs.rglob("*.png")}
    for index, side in enumerate("ab"):
        members = {"a.json": b"{}"} | {name: data for name, data in files.items() if name.startswith(side)}
        tar_of(tmp_path / "tars" / f"set-{index}.tar", members)
    glob = str(tmp_path / "tars" / "*.tar")
    done = [predict(glob, tmp_path / "files", Shard(index, 2)) for index in range(2)]
    assert [part.report.failed for part in done] == [(), ()]
    wanted = {f"set-{'ab'.index(name[0])}/{name}": digest for name, digest in tree(tmp_path / "one").items()}
    assert tree(tmp_path / "files") == wanted
    assert predict(glob, tmp_path / "files").skipped == 6
    (tmp_path / "files" / "set-0" / "a" / "0_color.png").unlink()
    again = predict(glob, tmp_path / "files")
    assert (again.labelled, again.skipped, again.damaged) == (1, 5, 1)

    predict(glob, tmp_path / "packed", per_tar=1000)
    assert sorted(tree(tmp_path / "packed")) == ["set-0.tar", "set-1.tar"]
    with tarfile.open(tmp_path / "packed" / "set-1.tar") as archive:
        assert archive.getnames() == [f"b/{number}.{kind}.png" for number in (1, 3, 5) for kind in ("color", "labels")]
        packed = archive.extractfile("b/3.labels.png")
        assert packed is not None and packed.read() == (tmp_path / "one" / "b" / "3_labels.png").read_bytes()
    before = tree(tmp_path / "packed")
    assert predict(glob, tmp_path / "packed", per_tar=1000).labelled == 0
    (tmp_path / "packed" / "set-0.tar").write_bytes(b"cut")
    again = predict(glob, tmp_path / "packed", per_tar=1000)
    assert (again.labelled, again.damaged) == (3, 1)
    assert tree(tmp_path / "packed") == before, "bit for bit"


def test_that_a_place_is_lost_out_of_a_tar_is_said(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    image, where = (
        np.zeros((3, 16, 16), np.uint8),
        {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 5e5, 0, -2, 4e6)},
    )
    with rasterio.open(
        tmp_path / "x.tif", "w", driver="GTiff", width=16, height=16, count=3, dtype="uint8", **where
    ) as x:
        x.write(image)
    tar_of(tmp_path / "x.tar", {"x.tif": (tmp_path / "x.tif").read_bytes()})
    report = predict(str(tmp_path / "x.tar"), tmp_path / "out", kinds=("labels",)).report
    assert [text for _, text in report.notes] == ["where it lies is not kept out of tars and URLs"]
    assert list(tree(tmp_path / "out")) == ["x/x_labels.png"]


def test_results_in_tars_are_the_same_however_they_are_split(inputs: Path, tmp_path: Path) -> None:
    predict(inputs, tmp_path / "one", per_tar=4)
    for index in range(3):
        predict(inputs, tmp_path / "parts", Shard(index, 3), per_tar=4)
    assert sorted(tree(tmp_path / "one")) == ["000000.tar", "000001.tar"]
    assert tree(tmp_path / "parts") == tree(tmp_path / "one")
    assert predict(inputs, tmp_path / "one", per_tar=4).labelled == 0
    (inputs / "a" / "0.png").write_bytes(png(99))
    assert predict(inputs, tmp_path / "one", per_tar=4).labelled == 4, "the tar that it goes into"


def test_webdataset_reads_and_writes_them(inputs: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "w.tar")) as writer:
        for number in range(3):
            writer.write({"__key__": f"street/{number:04d}", "png": png(number), "cls": number})
    predict(str(tmp_path / "w.tar"), tmp_path / "out", per_tar=1000)
    with (tmp_path / "out" / "w.tar").open("rb") as tar:
        files = webdataset.tariterators.tar_file_expander([{"stream": tar, "url": "w.tar"}])
        samples = list(webdataset.tariterators.group_by_keys(files))
    assert [sample["__key__"] for sample in samples] == [f"street/{number:04d}" for number in range(3)]
    labels = cv2.imdecode(np.frombuffer(png(2), np.uint8), cv2.IMREAD_COLOR)[..., 1] % len(CAMVID)
    found = cv2.imdecode(np.frombuffer(samples[2]["labels.png"], np.uint8), cv2.IMREAD_UNCHANGED)
    assert (found == labels).all()


def hostile(tar: Path) -> list[str]:
    """A tar that would write or read elsewhere if it were believed; the names that are to be refused."""
    entries: list[tuple[str, dict[str, Any]]] = [
        ("../up.png", {}),
        ("/absolute.png", {}),
        ("a/../../up.png", {}),
        ("..\\up.png", {}),
        ("C:/drive.png", {}),
        ("link.png", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("hard.png", {"type": tarfile.LNKTYPE, "linkname": "good.png"}),
        ("pipe.png", {"type": tarfile.FIFOTYPE}),
        ("device.png", {"type": tarfile.CHRTYPE}),
        ("good.png", {}),
    ]
    with tarfile.open(tar, "w") as archive:
        for name, given in [("good.png", {}), *entries]:
            info = tarfile.TarInfo(name)
            for key, value in given.items():
                setattr(info, key, value)
            info.size = 0 if given else len(png(0))
            archive.addfile(info, None if given else io.BytesIO(png(0)))
    return [name for name, _ in entries]


@pytest.mark.parametrize("per_tar", [None, 10])
def test_hostile_members_are_refused_one_by_one(tmp_path: Path, per_tar: int | None) -> None:
    refused = hostile(tmp_path / "x.tar")
    before = set(tmp_path.parent.rglob("*"))
    done = predict(str(tmp_path / "x.tar"), tmp_path / "out", kinds=("labels",), per_tar=per_tar)
    assert [Path(str(name)).name for name in done.report.written] == ["good.png"]
    assert [str(name).removeprefix(f"{tmp_path}/x.tar/") for name, _ in done.report.failed] == refused
    made = {file.relative_to(tmp_path).as_posix() for file in set(tmp_path.parent.rglob("*")) - before}
    result = {"out/x", "out/x/good_labels.png"} if per_tar is None else {"out/x.tar"}
    assert made == {"out", "out/manifest-00000-of-00001.jsonl"} | result


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.62, 0.95])
def test_a_damaged_tar_is_said_and_what_came_before_done(tmp_path: Path, ending: str, share: float) -> None:
    tar = tar_of(tmp_path / f"x{ending}", {f"{number}.png": png(number) for number in range(9)})
    whole = tar.read_bytes()
    used = len(whole) if ending == ".tar.gz" else 9 * 512 + sum(-(-len(png(n)) // 512) * 512 for n in range(9))
    tar.write_bytes(whole[: int(min(used, len(whole)) * share)])
    tar_of(tmp_path / "y.tar", {"y.png": png(1)})
    done = predict([str(tar), str(tmp_path / "y.tar")], tmp_path / "out", kinds=("labels",))
    assert 1 <= len(done.report.written) < 10
    assert done.report.written[-1] == f"{tmp_path}/y.tar/y.png"
    ((name, message),) = done.report.failed
    assert name == str(tar) and "needed a whole tar" in message and "\n" not in message


@pytest.mark.parametrize("per_tar", [None, 10])
def test_a_cut_tar_leaves_no_line_once_it_is_done_whole(tmp_path: Path, per_tar: int | None) -> None:
    tar = tar_of(tmp_path / "x.tar", {f"{number}.png": png(number) for number in range(5)})
    predict(str(tar), tmp_path / "once", per_tar=per_tar)
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole) // 3])
    cut = predict(str(tar), tmp_path / "out", per_tar=per_tar)
    assert [name for name, _ in cut.report.failed] == [str(tar)]
    tar.write_bytes(whole)
    again = predict(str(tar), tmp_path / "out", per_tar=per_tar)
    assert not again.report.failed and tree(tmp_path / "out") == tree(tmp_path / "once")
    rows, wanted = read_rows(tmp_path / "out"), read_rows(tmp_path / "once")
    assert {name: row.sha256 for name, row in rows.items()} == {name: row.sha256 for name, row in wanted.items()}
    assert not any(row.error for row in rows.values())


def test_damage_inside_a_tar_is_not_its_end(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "x.tar", {f"{number}.png": png(number) for number in range(3)})
    data = bytearray(tar.read_bytes())
    second = 512 + -(-len(png(0)) // 512) * 512
    data[second : second + 100] = b"?" * 100
    tar.write_bytes(data)
    with pytest.raises(UserError, match="needed a whole tar"):
        list(list_members(tar))


def test_a_manifest_at_a_url_goes_there_every_few_seconds(
    inputs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(places, "_FLUSH_AFTER", 0.0)
    try:
        predict(inputs, "memory://parts")
        assert len([name for name in fsspec.filesystem("memory").find("/parts") if name.endswith(".jsonl")]) == 6
        assert predict(inputs, "memory://parts").skipped == 6
    finally:
        fsspec.filesystem("memory").rm("/parts", recursive=True)
