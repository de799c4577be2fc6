"""Every example in a docstring or in the README runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re

import pytest
from adapters import ROOT

import isoscore_star

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = sorted(
    {"isoscore_star", *(m.name for m in pkgutil.walk_packages(isoscore_star.__path__, "isoscore_star."))}
    | {f"isoscore_star.backends.{path.stem}" for path in (ROOT / "backends").glob("[!_]*.py")}
)


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    if name.rpartition(".")[2] == "__main__":
        pytest.skip("runs the command line when imported")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    assert doctest.testmod(module, optionflags=OPTIONS).failed == 0


def test_public_names_have_runnable_examples() -> None:
    for name in isoscore_star.__all__:
        thing = getattr(isoscore_star, name)
        if callable(thing) and not isinstance(thing, type):
            assert ">>>" in (thing.__doc__ or ""), name


# What the examples of a document import, apart from torch.
NEEDED = {
    "README.md": ("keras",),
    "docs/clusters.md": ("dask", "pandas"),
    "docs/keras.md": ("keras", "tf_keras"),
    "docs/accelerate.md": ("accelerate", "transformers"),
    "docs/huggingface.md": ("transformers", "accelerate"),
    "docs/lightning.md": ("lightning", "transformers"),
    "docs/metric_learning.md": ("pytorch_metric_learning",),
    "docs/report.md": ("vl_convert", "pandas"),
    "docs/sentence_transformers.md": ("sentence_transformers",),
}
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("file", DOCUMENTS)
def test_examples_of_documents(file: str) -> None:
    for framework in ("torch", *NEEDED.get(file, ())):
        pytest.importorskip(framework)
    text = (ROOT / file).read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        case = doctest.DocTestParser().get_doctest(block, names, file, file, 0)
        if not case.examples:  # needs several processes, say: it has to be Python at least
            compile(block, file, "exec")
            continue
        runner = doctest.DocTestRunner(optionflags=OPTIONS)
        runner.run(case, clear_globs=False)
        names = case.globs
        assert runner.failures == 0


@pytest.mark.parametrize("file", [*DOCUMENTS, "CHANGELOG.md", "benchmarks/README.md", "paper_checks/README.md"])
def test_links_and_files_that_documents_name_exist(file: str) -> None:
    text = (ROOT / file).read_text()
    links = [(ROOT / file).parent / link for link in re.findall(r"\]\(([^):#]+)\)", text)]
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] not in "._")
    named = [ROOT / name for name in re.findall(rf"`((?:{folders})/[\w./]+)`", text)]
    assert [str(path) for path in links + named if not path.exists()] == []


def test_readme_shows_code_with_its_value_before_line_12() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()[:11]
    start = next(i for i, line in enumerate(lines) if line.startswith(">>> iso."))
    assert re.match(r"\d\.\d+", lines[start + 1])
