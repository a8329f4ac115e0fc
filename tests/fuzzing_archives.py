"""Hostile archives by the rules of fuzzing.py: records, manifests and files changed, and their digests made to fit."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from fuzzing import FuzzError, Ground, changed, said, texts, to_toml, values
from helpers import document
from rib.execute.run import execute
from rib.identity import digest, key_of_spec
from rib.plan import make_plan
from rib.steps import How
from rib.store.record import encode_record
from rib.store.store import Store
from rib.suite.load import load_suite
from rib.upkeep.archive import MANIFEST, pack

STRANGE = (
    "records/../../evil",
    "../evil",
    "/tmp/evil",
    "records",
    "records/ab",
    "",
    ".",
    "store.json",
    "leases/x",
    "packs/x.npy",
    "a" * 300,
    "records/ab/" + "ab" * 20 + ".json/x",
    "suite.toml\n",
    "page.html",
    "\x1b[2J",
)
"""Names that no file of an archive has, or only one."""

KINDS = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE,
         tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, b"\xff")  # fmt: skip


@dataclass(repr=False)
class Parts:
    """What an archive is made of.

    Attributes:
        manifest: as JSON types; its list of files is made of `files` unless `sealed` is false.
        files: content by name.
        sealed: whether manifest and records are given the digests of what is there.
        kinds: types of members that are no plain files, by name.
        raw: bytes of the whole, to change, where it is not made of the parts.
    """

    manifest: dict[str, Any]
    files: dict[str, bytes]
    sealed: bool = True
    kinds: dict[str, bytes] = field(default_factory=dict)

    def packed(self) -> bytes:
        """As a file."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w|") as tar:
            manifest = dict(self.manifest)
            if self.sealed and "files" in manifest:
                manifest["files"] = [[name, len(data), digest(data)] for name, data in self.files.items()]
            for name, data in ((MANIFEST, json.dumps(manifest).encode()), *self.files.items()):
                member = tarfile.TarInfo(name)
                member.size, member.type = len(data), self.kinds.get(name, tarfile.REGTYPE)
                if member.type in (tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
                    tar.addfile(member, io.BytesIO(data))
                else:
                    member.linkname, member.size = "/etc/passwd", 0
                    tar.addfile(member)
        return gzip.compress(out.getvalue(), 1)


@cache
def _whole(folder: Path) -> bytes:
    """An archive that RIB made of a finished suite of the ground, as `s.toml` has it; made once."""
    store, file = folder / "finished", folder / "whole.toml"
    plan = make_plan(load_suite(file))
    failed = execute(plan, Store(store), How(workers=1)).failed
    assert failed == {}, failed
    target = folder / "whole.tar.gz"
    page = folder / "page.html"
    page.write_text("<title>x</title>")
    pack(Store(store), plan, {"suite.toml": file, "page.html": page}, target)
    content = target.read_bytes()
    shutil.rmtree(store)
    for made in (target, page):
        made.unlink()
    return content


def whole(place: Ground) -> Parts:
    """The parts of a good archive of the ground's suite."""
    made = document(place.root, per_class=8)
    made["recipe"]["epochs"] = 1
    made["method"] = {"mixed": {"kind": "wise_ft", "alpha": 0.5}}
    made["runs"] = [{"methods": ["finetune", "mixed"], "downstream": ["whole"]}]
    made["analyses"] = [{"names": ["drift", "forgetting", "connectivity", "cka"], "methods": ["finetune"]}]
    (place.root / "whole.toml").write_text(to_toml(made))
    files = {}
    packed = io.BytesIO(_whole(place.root))
    with pa.input_stream(packed, compression="gzip") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            files[member.name] = content.read()
    return Parts(json.loads(files.pop(MANIFEST)), files)


@st.composite
def archives(draw: st.DrawFn, base: Parts) -> bytes:
    """An archive: a good one whose records, manifest, files or bytes were changed."""
    made = deepcopy(base)
    for _ in range(draw(st.integers(1, 2))):
        match draw(st.sampled_from(("record",) * 6 + ("manifest", "file", "name", "kind", "seal"))):
            case "record":
                _change_record(draw, made)
            case "manifest":
                _change(draw, made.manifest)
            case "file":
                name = draw(st.sampled_from(sorted(made.files)))
                made.files[name] = draw(changed(made.files[name]))
                if name.startswith("predictions/"):
                    _reseal(made, name)
            case "name":
                name = draw(st.sampled_from(sorted(made.files)))
                made.files[draw(st.one_of(st.sampled_from(STRANGE), texts))] = made.files.pop(name)
            case "kind":
                made.kinds[draw(st.sampled_from(sorted(made.files)))] = draw(st.sampled_from(KINDS))
            case _:
                made.sealed = False
    try:
        content = made.packed()
    except (ValueError, TypeError, tarfile.TarError):  # no archive has such a name
        content = b""
    return draw(changed(content)) if draw(st.integers(0, 9)) == 0 else content


def _change_record(draw: st.DrawFn, made: Parts) -> None:
    """Change a record of any kind; its digest fits, and mostly its key does too."""
    names = sorted(name for name in made.files if name.startswith("records/"))
    if not names:
        return
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(str(_document(made.files[name]).get("kind")), []).append(name)
    name = draw(st.sampled_from(kinds[draw(st.sampled_from(sorted(kinds)))]))
    document = _document(made.files[name])
    document.pop("digest", None)
    part = draw(st.sampled_from(("values", "values", "values", "whole", "made_by", "spec", "files")))
    _change(draw, document if part == "whole" else document.setdefault(part, {}))
    if part == "spec" and isinstance(document.get("kind"), str) and draw(st.booleans()):
        document["key"] = key_of_spec(document["kind"], document["spec"])
        del made.files[name]
        name = f"records/{document['key'][:2]}/{document['key']}.json"
    made.files[name] = encode_record(document)


def _document(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _change(draw: st.DrawFn, holder: Any) -> None:
    """Replace, take out, add or rename something, at any depth."""
    if not isinstance(holder, dict | list):
        return
    places = list(_places(holder))
    what = draw(st.sampled_from(("replace", "replace", "replace", "delete", "add", "deep")))
    if not places or what == "add":
        if isinstance(holder, dict):
            holder[draw(texts)] = draw(values)
        return
    own, name = draw(st.sampled_from(places))
    if what == "delete":
        del own[name]
    elif what == "deep":
        nested: Any = "x"
        for _ in range(draw(st.sampled_from((5, 99, 101, 900)))):
            nested = [nested]
        own[name] = nested
    else:
        own[name] = draw(st.one_of(values, st.sampled_from((None, [], {}, [None], [[1.0]], "1", -1, 1e308))))


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    items = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
    for name, item in list(items)[:40]:
        yield holder, name
        yield from _places(item)


def _reseal(made: Parts, name: str) -> None:
    """Let the record of a file fit what the file holds now."""
    key = Path(name).stem
    record = f"records/{key[:2]}/{key}.json"
    document = _document(made.files.get(record, b""))
    if isinstance(document.get("files"), dict):
        document.pop("digest", None)
        document["files"]["predictions"] = [len(made.files[name]), digest(made.files[name])]
        made.files[record] = encode_record(document)


def try_archive(place: Ground, content: bytes) -> int:
    """Import an archive and look at what came of it, in every way; the exit code of the import. Raises FuzzError."""
    file, suite = place.root / "fuzzed.tar.gz", place.root / "whole.toml"
    file.write_bytes(content)
    shutil.rmtree(place.store, ignore_errors=True)
    where = ("--store", str(place.store))
    code, text = said(place, "store", "import", str(file), *where)
    if code == 1:
        raise FuzzError(f"an import into an empty store found differences: {text[-500:]}")
    kept = sorted(path.name for path in place.store.iterdir())
    if code == 2 and kept != ["store.json"]:
        raise FuzzError(f"a refused archive left {kept}")
    if code == 0:
        for words in (("store", "verify"), ("status", str(suite)), ("report", str(suite))):
            found, text = said(
                place, *words, *where, *(("--parquet", str(place.store / "p")) if words[0] == "report" else ())
            )
            if words[0] == "store" and found != 0:
                raise FuzzError(f"what was taken is not whole: {text[-500:]}")
    return code
