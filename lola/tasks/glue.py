"""The tasks of GLUE: how their files are read, and how they are scored."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lola.files.formats import FormatError, StrPath, read_text
from lola.solvers.checks import shown
from lola.solvers.errors import LolaValueError

HUB = "hub"
_HUB_NAME = "nyu-mll/glue"
_PLAIN = ("idx", "sentence1", "sentence2", "label")
_COLA_COLUMNS = ("source", "label", "mark", "sentence")  # of a file that has no header
_HIGHEST_SIMILARITY = 5.0
_HELD_OUT = 10  # one row in so many, where there is no dev split
_SPLIT = 3  # what a random generator is for; shards have the numbers before it


@dataclass(frozen=True)
class GlueTask:
    """One task of GLUE.

    Attributes
    ----------
    name : str
    folder : str
        Where GLUE keeps it.
    metrics : tuple of str
        As GLUE scores it. The first is the headline score, as in the LoRA paper.
    labels : tuple of str
        As the files write them, in the order of the classes; empty for a regression.
    columns : tuple of str
        Of GLUE's own files: the text or the two texts, and the label.
    hub_columns : tuple of str
        The texts, as the hub's copy names them.
    meanings : tuple of str
        What the hub's copy calls the classes, where the files have but numbers.
    """

    name: str
    folder: str
    metrics: tuple[str, ...]
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    hub_columns: tuple[str, ...]
    meanings: tuple[str, ...] = ()

    @property
    def n_labels(self) -> int:
        """Outputs of a model for it: the classes, or one for a regression."""
        return len(self.labels) or 1


_BINARY, _ENTAILED = ("0", "1"), ("entailment", "not_entailment")
_ACCEPTABLE, _SAME = ("unacceptable", "acceptable"), ("not equivalent", "equivalent")
_POSITIVE, _DUPLICATE = ("negative", "positive"), ("not duplicate", "duplicate")
_THREE_WAY = ("entailment", "neutral", "contradiction")
_SENTENCES, _QUESTIONS = ("sentence1", "sentence2"), ("question1", "question2")
_ALL = (
    GlueTask("cola", "CoLA", ("matthews",), _BINARY, ("sentence", "label"), ("sentence",), _ACCEPTABLE),
    GlueTask("mrpc", "MRPC", ("accuracy", "f1"), _BINARY, ("#1 String", "#2 String", "Quality"), _SENTENCES, _SAME),
    GlueTask("rte", "RTE", ("accuracy",), _ENTAILED, (*_SENTENCES, "label"), _SENTENCES),
    GlueTask("stsb", "STS-B", ("pearson", "spearman"), (), (*_SENTENCES, "score"), _SENTENCES),
    GlueTask("sst2", "SST-2", ("accuracy",), _BINARY, ("sentence", "label"), ("sentence",), _POSITIVE),
    GlueTask("qnli", "QNLI", ("accuracy",), _ENTAILED, ("question", "sentence", "label"), ("question", "sentence")),
    GlueTask("mnli", "MNLI", ("accuracy",), _THREE_WAY, (*_SENTENCES, "gold_label"), ("premise", "hypothesis")),
    GlueTask("qqp", "QQP", ("accuracy", "f1"), _BINARY, (*_QUESTIONS, "is_duplicate"), _QUESTIONS, _DUPLICATE),
)
GLUE = {task.name: task for task in _ALL}


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled texts.

    Attributes
    ----------
    first : sequence of str
    second : sequence of str, or None
        None where the task is about one text.
    labels : (n,) int64 or float64 array
        Classes, or the targets of a regression.
    """

    first: Sequence[str]
    second: Sequence[str] | None
    labels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: ArrayLike) -> Examples:
        """Return some of the rows, by number."""
        chosen = np.asarray(rows)
        second = None if self.second is None else [self.second[row] for row in chosen]
        return Examples([self.first[row] for row in chosen], second, self.labels[chosen])


@dataclass(frozen=True, eq=False)
class GlueData:
    """A task's data.

    Attributes
    ----------
    train, dev : Examples
    source : str
        Where they come from, in words; how dev was split off, where it was.
    """

    train: Examples
    dev: Examples
    source: str


def glue_task(name: str) -> GlueTask:
    """Return the task of a name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in GLUE:
        raise LolaValueError(f"task must be one of {', '.join(GLUE)}; got {shown(name)}")
    return GLUE[name]


def read_glue(task: str, data: StrPath, *, seed: int = 0) -> GlueData:
    """Read a task's training and dev splits.

    Parameters
    ----------
    task : str
        A key of `GLUE`.
    data : path-like or str
        The folder that GLUE was unpacked to, or the task's folder in it; or ``"hub"``, which needs the package
        ``datasets`` and a network. Files are ``train.tsv`` and ``dev.tsv``, or the first by name of ``train*.tsv`` and
        ``dev*.tsv`` (so MNLI is scored on ``dev_matched.tsv``): GLUE's own, or with the columns ``idx``, ``sentence1``,
        ``sentence2``, ``label``. Quotation marks have no meaning in either.
    seed : int
        Of the dev split, where there is none: a tenth of the training rows is held out.

    Returns
    -------
    GlueData

    Raises
    ------
    FormatError
        Naming the file, the line, and the mend. Rows of GLUE's own QQP files that a line end within a question broke
        are left out, as is usual.
    ImportError, ValueError
        If the hub cannot be asked, or there is no such task.
    """
    kind = glue_task(task)
    if data == HUB:
        return _from_hub(kind)
    folder = Path(data)
    if not folder.is_dir():
        raise FormatError(f"{data}: is not a folder; name the one that GLUE was unpacked to, or {HUB}")
    places = [place for place in (folder, folder / kind.folder) if any(place.glob("train*.tsv"))]
    if not places:
        raise FormatError(f"{data}: no data of {task}; looked for train*.tsv in it and in {kind.folder}/")
    file = _first(places[0], "train")
    train = _read(kind, file)
    if any(places[0].glob("dev*.tsv")):
        dev_file = _first(places[0], "dev")
        return GlueData(train, _read(kind, dev_file), f"{file.name} and {dev_file.name} of {places[0]}")
    if len(train) < 2:
        raise FormatError(f"{file}: one row cannot be split into train and dev; there is no dev*.tsv beside it")
    order = np.random.default_rng([seed, _SPLIT]).permutation(len(train))
    held = max(len(train) // _HELD_OUT, 1)
    source = f"{file} ({held} of {len(train)} rows, drawn with seed {seed}, are the dev split: there is no dev*.tsv)"
    return GlueData(train.take(np.sort(order[held:])), train.take(np.sort(order[:held])), source)


def _first(folder: Path, split: str) -> Path:
    return min(folder.glob(f"{split}*.tsv"))


def _read(task: GlueTask, path: Path) -> Examples:
    lines = enumerate(read_text(path).split("\n"), start=1)
    rows: Iterator[tuple[int, list[str]]] = ((number, line.split("\t")) for number, line in lines if line)
    line, header = next(rows, (1, []))
    if not header:
        raise FormatError(f"{path}: the file is empty; its first line must name the columns")
    names, columns = _columns(task, path, header)
    if columns is _COLA_COLUMNS:
        rows = chain([(line, header)], rows)
    places = [columns.index(name) for name in names]
    texts: list[list[str]] = [[] for _ in places[:-1]]
    labels = []
    for line, row in rows:
        if len(row) != len(columns):
            if task.name == "qqp" and tuple(columns) != _PLAIN:
                continue
            raise FormatError(f"{path}, line {line}: {len(columns)} columns are needed, got {len(row)}")
        for values, place in zip(texts, places, strict=False):
            values.append(row[place])
        labels.append(_label(task, f"{path}, line {line}", row[places[-1]]))
    if not labels:
        raise FormatError(f"{path}: no row after the first line")
    return Examples(texts[0], texts[1] if len(texts) == 2 else None, np.array(labels))


def _columns(task: GlueTask, path: Path, header: list[str]) -> tuple[tuple[str, ...], Sequence[str]]:
    """Recognise a file by its first line: names of texts and label, and of all its columns."""
    n_texts = len(task.hub_columns)
    if tuple(header) == _PLAIN:
        return (*_SENTENCES[:n_texts], "label"), header
    if set(task.columns) <= set(header):
        return task.columns, header
    if task.name == "cola" and len(header) == len(_COLA_COLUMNS) and header[1] in task.labels:
        return task.columns, _COLA_COLUMNS
    raise FormatError(
        f"{path}, line 1: no columns of {task.name}; wanted {', '.join(_PLAIN)}, or GLUE's own, among which are "
        f"{', '.join(task.columns)}; got {', '.join(header[:12])}"
    )


def _label(task: GlueTask, where: str, text: str) -> float | int:
    if task.labels:
        if text not in task.labels:
            raise FormatError(f"{where}: the label must be one of {', '.join(task.labels)}; got {shown(text)}")
        return task.labels.index(text)
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= _HIGHEST_SIMILARITY:
        raise FormatError(f"{where}: the label must be a number from 0 to {_HIGHEST_SIMILARITY:g}; got {shown(text)}")
    return value


def _from_hub(task: GlueTask) -> GlueData:
    try:
        from datasets import load_dataset
    except ImportError:
        raise ImportError(
            "reading from the hub needs the package datasets: install it, or name a folder of downloaded files"
        ) from None
    try:
        dataset = load_dataset(_HUB_NAME, task.name)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise LolaValueError(f"{_HUB_NAME} is not to be had: {reason}; name a folder of downloaded files") from None
    dev = "validation" if "validation" in dataset else "validation_matched"
    return GlueData(_of_split(task, dataset["train"]), _of_split(task, dataset[dev]), f"train and {dev} of {_HUB_NAME}")


def _of_split(task: GlueTask, split: Mapping[str, Sequence[Any]]) -> Examples:
    texts = [list(split[name]) for name in task.hub_columns]
    labels = np.array(list(split["label"]), dtype=np.int64 if task.labels else np.float64)
    return Examples(texts[0], texts[1] if len(texts) == 2 else None, labels)


def score(task: str, predictions: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Score predictions as GLUE does.

    Parameters
    ----------
    task : str
        A key of `GLUE`.
    predictions, labels : (n,) array_like
        Classes, or the values of a regression.

    Returns
    -------
    dict of str to float
        By metric, in [0, 1] or [−1, 1], the headline score first. A correlation with values that are all equal, or not
        finite, is NaN. F1 is that of class 1.

    Raises
    ------
    ValueError
        If the two differ in length, or are empty.
    ImportError
        If scikit-learn is missing.
    """
    kind = glue_task(task)
    predicted, wanted = np.asarray(predictions), np.asarray(labels)
    if predicted.shape != wanted.shape or predicted.ndim != 1 or not predicted.size:
        raise LolaValueError(
            f"predictions and labels must be equally many, at least one; got shapes {predicted.shape} and "
            f"{wanted.shape}"
        )
    measures = _measures()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is undefined: a class that nobody has, values that are all equal
        return {name: float(measures[name](wanted, predicted)) for name in kind.metrics}


def _measures() -> dict[str, Callable[[NDArray[Any], NDArray[Any]], float]]:
    try:
        from scipy import stats
        from sklearn import metrics
    except ImportError as error:
        raise ImportError(f"scoring needs {error.name}: install lola-deft with its extra 'train'") from None

    def finite(correlate: Callable[..., Any]) -> Callable[[NDArray[Any], NDArray[Any]], float]:
        return lambda x, y: float(correlate(x, y).statistic) if len(y) > 1 and np.isfinite(y).all() else np.nan

    return {
        "accuracy": metrics.accuracy_score,
        "f1": lambda x, y: metrics.f1_score(x, y, zero_division=0.0),
        "matthews": metrics.matthews_corrcoef,
        "pearson": finite(stats.pearsonr),
        "spearman": finite(stats.spearmanr),
    }
