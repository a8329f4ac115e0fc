"""User code: every module of the user's own that a builder or method imports is in the key."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from helpers import document, toml
from rib.errors import UserError
from rib.execute.run import execute
from rib.identity import digest, source_digest
from rib.models.build import build
from rib.models.catalogue import Architecture, ModelRow
from rib.models.describe import describe
from rib.plan import make_plan
from rib.steps import How
from rib.store.store import Store
from rib.suite.load import load_suite
from rib.usercode import sources as user_sources


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's on Python's path; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    forget(tmp_path)


def forget(folder: Path) -> None:
    """As in a new process."""
    for name, module in list(sys.modules.items()):
        if type(module) is not ModuleType:
            continue
        places = [getattr(module, "__file__", None) or "", *map(str, getattr(module, "__path__", []))]
        if any(place.startswith(str(folder)) for place in places):
            del sys.modules[name]
    user_sources._known.clear()
    importlib.invalidate_caches()


def changes(folder: Path, module: str, edited: str, text: str = "VALUE = 2\n") -> bool:
    """Whether the digest of a module changes with a file."""
    before = source_digest(module)
    (folder / edited).write_text(text)
    forget(folder)
    return source_digest(module) != before


def test_a_module_alone_has_the_digest_of_its_text(own: Path) -> None:
    """As in all records so far."""
    (own / "alone.py").write_bytes(b"import os\r\nimport torch\r\nfrom rib.methods import Method")
    assert source_digest("alone") == digest(b"import os\nimport torch\nfrom rib.methods import Method\n")
    assert source_digest("rib.models.small") is None


@pytest.mark.parametrize(
    "text",
    [
        "import part",
        "import part as p",
        "from part import VALUE",
        "from part import *",
        "def build():\n    from part import VALUE\n",
        "if False:\n    import part\n",
        "try:\n    import fast\nexcept ImportError:\n    import part\n",
        "import between",
        "from importlib import import_module\npart = import_module('part')\n",
        "class A:\n    import part\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import part\n",
    ],
)
def test_an_imported_module_is_part_of_the_digest(own: Path, text: str) -> None:
    (own / "entry.py").write_text(text + "\n")
    (own / "part.py").write_text("VALUE = 1\n")
    (own / "between.py").write_text("from part import VALUE\n")
    (own / "other.py").write_text("VALUE = 1\n")
    assert not changes(own, "entry", "other.py")
    assert changes(own, "entry", "part.py")


@pytest.mark.parametrize(
    ("module", "text", "edited"),
    [
        ("pack.entry", "from . import part", "pack/part.py"),
        ("pack.entry", "from .part import VALUE", "pack/part.py"),
        ("pack.entry", "from .deep.part import VALUE", "pack/deep/part.py"),
        ("pack.entry", "import pack.deep.part", "pack/deep/part.py"),
        ("pack.entry", "from pack.deep import part", "pack/deep/part.py"),
        ("pack.entry", "from pack.deep import *", "pack/deep/part.py"),
        ("pack.entry", "from importlib import import_module\nx = import_module('.part', __package__)", "pack/part.py"),
        ("pack.entry", "", "pack/__init__.py"),
        ("pack.deep.entry", "from .. import part", "pack/part.py"),
        ("pack.deep.entry", "from ..part import VALUE", "pack/part.py"),
        ("pack.deep.entry", "import plain.part", "plain/part.py"),
    ],
)
def test_packages(own: Path, module: str, text: str, edited: str) -> None:
    for folder in ("pack", "pack/deep", "plain"):
        (own / folder).mkdir()
        (own / folder / "part.py").write_text("VALUE = 1\n")
        if folder != "plain":  # a namespace
            (own / folder / "__init__.py").write_text("")
    (own / (module.replace(".", "/") + ".py")).write_text(text + "\n")
    assert changes(own, module, edited)


def test_modules_that_import_each_other(own: Path) -> None:
    (own / "entry.py").write_text("import part\n")
    (own / "part.py").write_text("import entry\nVALUE = 1\n")
    assert changes(own, "entry", "part.py")


@pytest.mark.parametrize(
    "text",
    [
        "import importlib\ndef build(name):\n    return importlib.import_module(name)\n",
        "from importlib import import_module as load\ndef build(name):\n    return load(name)\n",
        "load = __import__\n",
        "exec(open('x.py').read())\n",
        "import pkgutil\ndef build(name):\n    return pkgutil.resolve_name(name)\n",
        "import runpy\nx = runpy.run_path('part.py')\n",
        "import importlib.util as u\ns = u.spec_from_file_location('x', 'x.py')\n",
        "import torch\ndef build(n):\n    return torch.hub.load('a/b', 'c')\n",
        "import importlib\nload = getattr(importlib, 'import_' + 'module')\n",
        "import importlib as il\nfunctions = [il]\n",
        "import importlib.util\nload = vars(importlib)\n",
        "from importlib import util\nload = getattr(util, 'spec_from_' + 'file_location')\n",
        "import builtins\nrun = builtins.__dict__['ex' + 'ec']\nvars(builtins)\n",
        "load = getattr(__builtins__, '__imp' + 'ort__')\n",
        "import torch\nload = getattr(torch.hub, 'lo' + 'ad')\n",
        "import pydoc\nbuild = pydoc.locate('part.build')\n",
        "from pydoc import locate\nbuild = locate('part.build')\n",
        "from pydoc import locate as find\nbuild = find('part.build')\n",
        "import hydra\ndef build(n):\n    return hydra.utils.instantiate({'_target_': 'part.build'})\n",
        "import hydra.utils as hu\nbuild = hu.get_class('part.build')\n",
        "from hydra.utils import call\n",
        "from hydra import utils\nx = utils.get_method('part.build')\n",
    ],
)
def test_code_that_the_source_does_not_name_is_refused_unless_it_is_declared(own: Path, text: str) -> None:
    (own / "entry.py").write_text("import helper_module\n")
    (own / "helper_module.py").write_text(text)
    with pytest.raises(
        UserError, match=r"line \d+ of .*helper_module.py loads code that the source does not name"
    ) as caught:
        source_digest("entry")
    assert "RIB_FILES" in str(caught.value)
    (own / "part.py").write_text("VALUE = 1\n")
    (own / "helper_module.py").write_text('RIB_FILES = ("part.py",)\n' + text)
    forget(own)
    assert changes(own, "entry", "part.py")


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ndef build(n):\n    return torch.load('part.pth')\n",
        "import numpy as np\nTABLE = np.load('part.npy')\n",
        "import pickle\ndef build(n):\n    return pickle.loads(open('part.pkl', 'rb').read())\n",
        "from safetensors.torch import load_file\nW = load_file('part.safetensors')\n",
        "import torch\ndef build(n):\n    return torch.jit.load('part.pt')\n",
        "def build(n):\n    from transformers import AutoModel\n    return AutoModel.from_pretrained('folder')\n",
    ],
)
def test_weights_that_a_module_reads_are_declared(own: Path, text: str) -> None:
    (own / "entry.py").write_text(text)
    with pytest.raises(UserError, match=r"line \d+ of .*entry.py reads a file that the module does not declare"):
        source_digest("entry")
    (own / "part.bin").write_text("1")
    (own / "entry.py").write_text('RIB_FILES = ("part.bin",)\n' + text)
    forget(own)
    assert changes(own, "entry", "part.bin", "2")


HARMLESS = """
import importlib.resources
import importlib.metadata as metadata
import importlib
import json
VERSION = metadata.version("torch")
NAMES = importlib.resources.files("torch")
importlib.invalidate_caches()
class Registry:
    def locate(self, name): return self.get_class(name)
    def get_class(self, name): return json.loads(name)
    def load(self, x): return self.call(x)
    def call(self, x): return x
net = Registry()
net.load(1)
net.load_state_dict = net.instantiate = None
"""


def test_what_is_called_alike_is_not_refused(own: Path) -> None:
    (own / "entry.py").write_text(HARMLESS)
    assert source_digest("entry") == digest(HARMLESS.encode())


def test_what_only_looks_like_it_is_not_refused(own: Path) -> None:
    text = "import re\ndef build(model, pattern):\n    model.eval()\n    pattern.exec\n    return re.compile('x')\n"
    (own / "entry.py").write_text(text)
    assert source_digest("entry") == digest(text.encode())


def test_declared_files(own: Path) -> None:
    (own / "tables").mkdir()
    (own / "tables" / "a.csv").write_text("1")
    (own / "entry.py").write_text('RIB_FILES: tuple[str, ...] = ("tables/*.csv",)\n')
    assert changes(own, "entry", "tables/a.csv", "2")
    assert changes(own, "entry", "tables/b.csv", "3")
    for wrong, match in (('("none.csv",)', "names no file"), ("tuple(x)", "not a tuple"), ("'a.csv'", "not a tuple")):
        (own / "entry.py").write_text(f"RIB_FILES = {wrong}\n")
        forget(own)
        with pytest.raises(UserError, match=match):
            source_digest("entry")


def test_a_module_that_was_edited_after_its_import_is_refused(own: Path) -> None:
    """The process runs the old code, and would record it as the new."""
    (own / "entry.py").write_text("import part\n")
    (own / "part.py").write_text("VALUE = 1\n")
    importlib.import_module("entry")
    before = source_digest("entry")
    (own / "part.py").write_text("VALUE = 2\n")
    with pytest.raises(UserError, match="'part' was edited after this process had imported it"):
        source_digest("entry")
    forget(own)
    importlib.import_module("entry")
    assert source_digest("entry") != before


def test_code_without_a_file_is_refused(own: Path) -> None:
    with pytest.raises(UserError, match="no source file"):
        source_digest("sys")


NET = "from blocks import block\ndef build(num_classes):\n    return block(num_classes)\n"
BLOCKS = """
from torch import nn
def block(n):
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n))
"""


def test_an_edited_helper_makes_new_steps(own: Path) -> None:
    import torch

    made = document(own, runs=[{"methods": ["pretrained"]}])
    (own / "net.py").write_text(NET)
    (own / "blocks.py").write_text(BLOCKS)
    torch.manual_seed(0)
    torch.save(importlib.import_module("net").build(4).state_dict(), own / "net.pth")
    made["model"] = {
        "resnet": {"build": "net:build", "size": 12, "weights": "net.pth", "mean": [0.5] * 3, "std": [0.5] * 3}
    }
    (own / "s.toml").write_text(toml(made))
    store = Store(own / "store")
    plan = make_plan(load_suite(own / "s.toml"))
    assert execute(plan, store, How(workers=1)).failed == {}
    (own / "blocks.py").write_text(BLOCKS.replace("ReLU", "Tanh"))
    outcome = execute(plan, Store(own / "late"), How(workers=1))  # edited after it was planned
    assert outcome.failed
    assert all("edited after" in reason for reason in outcome.failed.values())
    assert not Store(own / "late").keys()
    forget(own)
    again = make_plan(load_suite(own / "s.toml"))
    assert not {step.key for step in again.steps} & {step.key for step in plan.steps}
    assert execute(again, store, How(workers=1)).done == len(again.steps)


def reimported(*modules: str) -> None:
    """As a notebook does it that wants a module's code as it is now."""
    for name in modules:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


@pytest.fixture
def two(own: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders, each with a module `part` of its own, the first on Python's path; `entry`, which imports it."""
    (own / "entry.py").write_text("def build():\n    import part\n    return part.VALUE\n")
    for place, name in enumerate(("first", "second")):
        (own / name).mkdir()
        (own / name / "part.py").write_text(f"VALUE = {place}\n")
    monkeypatch.setattr(sys, "path", [str(own / "first"), *sys.path])
    return own / "first", own / "second"


def test_a_helper_of_the_same_name_in_another_folder_has_another_digest(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = source_digest("entry")
    monkeypatch.setattr(sys, "path", [str(two[1]), *sys.path[1:]])
    assert importlib.import_module("entry").build() == 1
    assert source_digest("entry") != first


def test_a_module_that_is_imported_again_from_another_folder_has_another_digest(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    importlib.import_module("part")
    first = source_digest("part")
    monkeypatch.setattr(sys, "path", [str(two[1]), *sys.path[1:]])
    with pytest.raises(UserError, match="'part' was imported from one file, and Python's path now leads to another"):
        source_digest("entry")
    reimported("part")
    assert importlib.import_module("part").VALUE == 1
    assert source_digest("part") != first


def test_a_file_that_was_not_there_before_changes_the_digest(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "elsewhere").mkdir()
    (own / "tables").mkdir()
    (own / "tables" / "a.csv").write_text("1")
    (own / "entry.py").write_text('RIB_FILES = ("tables/*.csv",)\ntry:\n    import fast\nexcept ImportError: ...\n')
    monkeypatch.setattr(sys, "path", [*sys.path, str(own / "elsewhere")])
    seen = {source_digest("entry")}
    for count, new in enumerate(("tables/b.csv", "elsewhere/fast.py", "fast.py"), 2):
        (own / new).write_text(f"VALUE = {count}\n")
        importlib.invalidate_caches()
        seen.add(source_digest("entry"))
        assert len(seen) == count, new


CARRYING = """
from torch import nn
def build(num_classes):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, num_classes))
    net.pretrained_cfg = {{"mean": ({mean}, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "input_size": (3, 8, 8)}}
    return net
"""


def test_what_a_net_carries_is_that_of_its_own_code(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from rib.models.catalogue import ModelRow
    from rib.models.describe import preprocessing

    for folder, mean in zip(two, (0.1, 0.2), strict=True):
        (folder / "carrying.py").write_text(CARRYING.format(mean=mean))
    row = ModelRow(build="carrying:build", size=8, weights="net.pth")
    assert preprocessing(row, classes=3).mean == (0.1, 0.5, 0.5)
    monkeypatch.setattr(sys, "path", [str(two[1]), *sys.path[1:]])
    reimported("carrying")
    assert preprocessing(row, classes=3).mean == (0.2, 0.5, 0.5)


READERS = {
    "at its import": ("with open(PLACE) as file:\n    W = float(file.read())", "W"),
    "in the builder": ("", "json.loads(Path(PLACE).read_text())"),
    "in a helper": ("from a_helper import width", "width()"),
    "as an array": ("import numpy", "numpy.loadtxt(PLACE)"),
    "under another name": ("from json import loads as parsed", "parsed(Path(PLACE).read_bytes())"),
    "as bytes": ("", "os.read(os.open(PLACE, os.O_RDONLY), 9)"),
    "through a link": ("", "PLACE.with_name('link.json').read_text()"),
}


def builder(folder: Path, form: str, declares: str = "") -> Architecture:
    """A builder of the user's that reads a file beside it."""
    (folder / "width.json").write_text("8")
    (folder / "link.json").unlink(missing_ok=True)
    (folder / "link.json").symlink_to(folder / "width.json")
    first, width = READERS[form]
    head = "import json, os\nfrom pathlib import Path\nPLACE = Path(__file__).with_name('width.json')\n"
    (folder / "a_helper.py").write_text(f"{head}{declares}\ndef width():\n    return json.loads(PLACE.read_bytes())\n")
    (folder / "reader.py").write_text(
        f"from torch import nn\n{head}{declares}\n{first}\ndef net(num_classes):\n    wide = int({width})\n"
        "    return nn.Sequential(nn.Conv2d(3, wide, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(wide, num_classes))\n"
    )
    return describe(ModelRow(build="reader:net", size=12, weights="w.pth"), 3, folder)


@pytest.mark.parametrize(
    "text",
    [
        "import torch as t\nW = t.load('w.pt')",
        "from torch import load\nW = load('w.pt')",
        "from numpy import load as read\nW = read('w.npy')",
        "from safetensors.torch import load_file as lf\nW = lf('w.safetensors')",
        "import pickle as pk\nW = pk.loads(b'')",
        "from joblib import load\nW = load('w.pkl')",
    ],
)
def test_weights_read_under_another_name_are_declared(own: Path, text: str) -> None:
    (own / "renamed.py").write_text(text)
    with pytest.raises(UserError, match="reads a file that the module does not declare"):
        source_digest("renamed")


@pytest.mark.parametrize("form", READERS)
def test_a_file_that_a_builder_opens_is_declared(own: Path, form: str) -> None:
    with pytest.raises(UserError, match="reads a file that it does not declare") as found:
        build(builder(own, form))
    assert str(found.value.got) == str(own / "width.json")
    forget(own)
    assert build(builder(own, form, "RIB_FILES = ('width.json',)")).net[0].out_channels == 8  # type: ignore[index]
    before = source_digest("reader")
    (own / "width.json").write_text("9")
    forget(own)
    assert source_digest("reader") != before


def test_files_of_others_may_be_read(own: Path) -> None:
    (own / ".cache").mkdir()
    (own / ".cache" / "fonts.json").write_text("1")
    (own / "quiet.py").write_text(
        "import json, os, tempfile\nfrom pathlib import Path\nfrom torch import nn\n"
        "for place in (Path(__file__).parent / '.cache' / 'fonts.json', os.__file__, __file__, '/proc/cpuinfo'):\n"
        "    Path(place).read_bytes()\n"
        "Path(__file__).with_name('log.txt').write_text('x')\n"
        "def net(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(432, num_classes))\n"
    )
    build(describe(ModelRow(build="quiet:net", size=12, weights="w.pth"), 3, own))


def test_a_package_without_init_in_another(own: Path) -> None:
    (own / "outer" / "inner").mkdir(parents=True)
    (own / "outer" / "inner" / "leaf.py").write_text("VALUE = 1\n")
    (own / "top.py").write_text("from outer.inner.leaf import VALUE\n")
    assert changes(own, "top", "outer/inner/leaf.py")
