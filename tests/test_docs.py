"""What the pages say is what happens: their commands, Python, files, options, numbers and links."""

import ast
import contextlib
import gzip
import json
import os
import re
import shlex
import shutil
import socket
import tomllib
from importlib.metadata import metadata, version
from itertools import pairwise
from pathlib import Path

import convergence_page
import numpy as np
import pytest
import readme_costs
import torch
import yaml
from cooperative import tiny_columns, tiny_problem
from pages import BESIDE, BY_ITSELF, DATA, PAGES, ROOT, SMALL, blocks, files, text
from processes import Command
from tiny_models import save_checkpoint, save_config
from torch.utils.data import DataLoader, Dataset, Subset
from transformers import AutoModelForSequenceClassification

import lola
import lola.adapters
from lola.cli.main import main
from lola.models.loading import CONFIGS

COMMANDS = ("schedule", "split", "verify", "horizon", "ranks", "simulate", "profile", "train")
COMMANDS += ("serve", "device", "export", "certificates", "docs")
# What the Python blocks of a page print, in turn.
PRINTED = {
    "README.md": [
        r"\[[\d\s]+\] \d+\.\d+ \d\.\d+e-1\d\n",
        "".join(rf"version {n}: depths 1, 2, 3 applied\n" for n in (1, 2, 3)),
    ],
    "docs/python.md": [
        "",
        r"jbba: 12 blocks on (\d) devices in [\d.]+ s, proven .*\n(\S+ takes depths \d+ to \d+\n)+",
    ],
    "docs/fine-tuning.md": [
        r"(\d \d+\.\d+ \d+\.\d+\n){3}",
        r"(\d \d+\.\d+ \d+\.\d+ \d+ \d+\n){3}\(512, 512\) 8\n",
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which every name that the pages use is there: data, a model, GLUE, a trace."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(ROOT / "lola" / "data", folder / "lola" / "data")
    shutil.copy(ROOT / "constraints.txt", folder)
    save_checkpoint(folder / "FOLDER_OR_HUB_NAME")
    save_config(folder / "tiny", "bert")
    (folder / "GLUE" / "MRPC").mkdir(parents=True)
    for split in ("train", "dev"):
        rows = [f"{i}\tw{i % 40}\tw{i % 7}\t{i % 2}" for i in range(60)]
        (folder / "GLUE" / "MRPC" / f"{split}.tsv").write_text("\n".join(["idx\tsentence1\tsentence2\tlabel", *rows]))
    samples = [f"drive,up,{second},{5 + second % 3}" for second in range(30)]
    with gzip.open(folder / "uplink.csv.gz", "wt") as file:
        file.write("\n".join(["trace,direction,t_s,mbps", *samples]))
    return folder


class Reader:
    """Does in a folder what a page's blocks say, from the top down."""

    def __init__(self, page, capsys):
        self.page, self.capsys = page, capsys
        self.printed = None  # by the command or the Python before, which a text block must show
        self.prints = []  # by the Python blocks
        self.names = {}  # that the Python blocks know
        self.beside = []  # commands that run as long as a page is read
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def sh(self, body):
        for line in body.splitlines():
            for command in line.split("&&"):
                if words := shlex.split(command, comments=True):
                    self.command(words)

    def command(self, words):
        program, *arguments = words
        if words in ([".", ".venv/bin/activate"], ["python3", "-m", "venv", ".venv"]):
            return
        if program == ".venv/bin/pip":
            (wanted,) = (argument for argument in arguments if argument.startswith(".["))
            assert arguments == ["install", "-q", "-c", "constraints.txt", wanted]
            assert set(wanted[2:-1].split(",")) <= set(metadata("lola-deft").get_all("Provides-Extra"))
        elif program == ".venv/bin/pytest":
            assert not arguments
        elif program in ("lola", ".venv/bin/lola"):
            named = dict(pairwise(arguments)).get("--model")
            assert named is None or named in CONFIGS or Path(named).is_dir(), named
            if arguments[0] in BESIDE:
                more = [option.format(port=self.port) for option in BESIDE[arguments[0]]]
                self.beside.append(Command(Path.cwd(), f"{arguments[0]}-{len(self.beside)}", *arguments, *more))
                return
            self.capsys.readouterr()
            measures = (
                arguments[0] != "ranks" or named is not None
            )  # what shortens a measurement is refused without one
            small = [
                option for option in SMALL.get(arguments[0], []) if "--stages" not in arguments or "mono" not in option
            ]
            assert main([*arguments, *(small if measures else [])]) == 0
            self.printed = [line.rstrip() for line in self.capsys.readouterr().out.splitlines()]
        elif program == "python":
            source = text(arguments[0])
            for argument in arguments[1:]:
                assert argument.isupper() or argument == "--help" or f'"{argument}"' in source, argument
        else:
            assert os.access(ROOT / program, os.X_OK), words

    def text(self, body):
        if self.printed is None:  # a picture of how things flow
            for name in re.findall(r"\w+[A-Z_]\w+", body):
                assert name in {*dir(lola), *dir(lola.adapters)}, name
        else:
            assert body.splitlines() == self.printed

    def python(self, body):
        """Run a block. One that imports lola stands alone; another goes on from the one before."""
        if not self.names or re.search(r"^import lola$", body, flags=re.MULTILINE):
            self.names = {} if self.page in BY_ITSELF else self.yours()
        self.capsys.readouterr()
        exec(compile(body, "a page", "exec"), self.names)
        self.prints.append(self.capsys.readouterr().out)
        self.printed = self.prints[-1].splitlines()

    def yours(self):
        """Return what pages say is yours: a tiny model with three blocks, and seven devices."""
        model = AutoModelForSequenceClassification.from_pretrained("FOLDER_OR_HUB_NAME")
        columns = tiny_columns("bert", 56, seed=0)
        shards = [Subset(Rows(columns), range(8 * device, 8 * device + 8)) for device in range(7)]
        loaders = [DataLoader(shard, batch_size=4) for shard in shards]
        return {"model": model, "problem": tiny_problem(3), "columns": columns, "loaders": loaders, "rounds": 3}


class Rows(Dataset):
    def __init__(self, columns):
        self.columns = columns

    def __len__(self):
        return len(self.columns["labels"])

    def __getitem__(self, row):
        return {name: column[row] for name, column in self.columns.items()}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_does_what_it_says(page, place, tmp_path, capsys, monkeypatch):
    here = tmp_path / "here"
    shutil.copytree(place, here)
    monkeypatch.chdir(here)
    threads = torch.get_num_threads()
    reader = Reader(page, capsys)
    try:
        for name, body in files(page).items():
            Path(name).write_text(body)
        for language, body in blocks(page):
            if language not in DATA:
                getattr(reader, language)(body)
        for command in reader.beside:
            assert command.ends() == 0, command.said
    finally:
        for command in reader.beside:
            command.kill()
        torch.set_num_threads(threads)
    for pattern, said in zip(PRINTED.get(page, []), reader.prints, strict=False):
        assert re.fullmatch(pattern, said), said


def test_the_readme_is_short_and_shows_what_matters():
    assert len(re.findall(r"\S+", text("README.md"))) <= 900
    assert [language for language, _ in blocks("README.md")] == ["text", "sh", "text", "sh", "python", "python", "sh"]
    _, fine_tuning = blocks("README.md")[-2]
    assert len([line for line in fine_tuning[fine_tuning.index("depths =") :].splitlines() if line]) <= 10


def test_the_readme_names_every_page_and_folder_and_files_that_are_there():
    readme = text("README.md")
    for page in PAGES[1:]:
        assert f"]({page})" in readme
    for folder in re.findall(r"`([a-z_/]+)/`", readme):
        assert (ROOT / folder).is_dir() or (ROOT / "lola" / folder).is_dir(), folder
    for file in re.findall(r"`([a-z_/]+\.pyi?)`", readme):
        assert (ROOT / file).is_file(), file
    for folder in (path for path in (ROOT / "lola").iterdir() if path.is_dir() and path.name != "__pycache__"):
        assert f"{folder.name}/`" in readme, folder


def test_ci_runs_the_readme_test_command():
    commands = [line for language, body in blocks("README.md") if language == "sh" for line in body.splitlines()]
    (test_command,) = [line for line in commands if "pytest" in line]
    assert test_command in text(".ci/run").splitlines()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_costs_are_what_was_measured():
    results = json.loads(text("bench/results.json"))
    assert readme_costs.filled(text("README.md"), results) == text("README.md")
    assert min(min(results["ascent"][devices]["bound_reached"]) for devices in ("20", "50")) > 0.998  # docs/costs.md


def test_what_comes_of_fine_tuning_is_what_was_measured():
    runs = convergence_page.Runs(json.loads(text("bench/paper/convergence.json")))
    ends = np.mean(
        [
            [convergence_page.end(runs, "sst2", seed, m) for m in ("jbba", convergence_page.CENTRALISED)]
            for seed in range(3)
        ],
        0,
    )
    (ratios,) = re.findall(r"geometric mean\* \|[ |]+(.*) \|", text("bench/paper/RESULTS.md"))
    ba, _, jbba, *_ = ratios.split(" | ")
    page = " ".join(text("docs/fine-tuning.md").split())
    assert f"(SST-2, mean of three seeds: {ends[0]:.2f} and {ends[1]:.2f})" in page
    assert f"in {ba} of the baseline's time under BA and {jbba} of BA's under JBBA" in page


def options(command, capsys):
    with contextlib.suppress(SystemExit):
        main([command, "--help"])
    return set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help", "--verbose"}


def test_the_page_of_the_command_has_every_option(capsys):
    _, *sections = re.split(r"^## ", text("docs/command-line.md"), flags=re.MULTILINE)
    assert sum("with every command" in section and "`--verbose`" in section for section in sections) == 1
    documented = {}
    for section in sections:
        title, _, body = section.partition("\n")
        if commands := tuple(re.findall(r"lola (\w+)", title)):
            documented[commands] = set(re.findall(r"--[a-z][a-z-]+", body))
    assert {command for commands in documented for command in commands} | {"docs"} == set(COMMANDS)
    for commands, named in documented.items():
        assert named == set().union(*(options(command, capsys) for command in commands)), commands


def test_the_page_of_python_has_every_method_and_solver():
    methods, solvers = re.findall(r"\|---.*\|\n((?:\|.*\n)+)", text("docs/python.md"))
    first = [
        {name for row in body.splitlines() for name in re.findall(r"`(.*?)`", row.split("|")[1])}
        for body in (methods, solvers)
    ]
    assert first[0] == set(lola.METHODS)
    assert first[1] == {name for name in dir(lola.solvers) if name.islower()}


def test_the_page_of_depths_has_every_built_in_model():
    for name in CONFIGS:
        assert f"`{name}`" in text("docs/depths.md")


def docstrings():
    for folder in ("lola", "solvers", "profiling"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    yield path, " ".join((ast.get_docstring(node) or "").split())


def test_what_docstrings_cite_is_installed(capsys):
    """Of the installed package: a page is where ``lola docs`` finds it, whether there is a checkout or not."""
    assert main(["docs"]) == 0
    installed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert installed == [Path(page).stem for page in PAGES if page.startswith("docs/")]
    cited = set()
    for path, docstring in docstrings():
        assert not re.search(r"docs/\w|\.md\b", docstring), f"{path}: only a checkout has it; cite ``lola docs PAGE``"
        for before, page, after in re.findall(r'(?:"([^"]+)" in )?``lola docs ([\w-]+)``(?:, "(.*?)")?', docstring):
            assert main(["docs", page]) == 0
            out = capsys.readouterr().out
            assert out == text(f"docs/{page}.md")
            for section in filter(None, (before, after)):
                assert re.search(rf"^#+ {section}", out, flags=re.MULTILINE), (path, section)
            cited.add(page)
    assert "theory" in cited


def test_an_unknown_page_is_named_with_the_known_ones(capsys):
    assert main(["docs", "theorie"]) == 64
    pages = ", ".join(Path(page).stem for page in PAGES if page.startswith("docs/"))
    assert f"page must be one of {pages}; got 'theorie'" in capsys.readouterr().err


def test_changes_and_citation_are_of_this_version():
    released = re.findall(r"^## \[?([\w.]+)", text("CHANGELOG.md"), flags=re.MULTILINE)
    assert released == ["Unreleased", "0.1.0"]
    citation = yaml.safe_load(text("CITATION.cff"))
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["version"] == version("lola-deft") == released[-1]
    assert citation["keywords"] == project["keywords"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    for paper in citation["references"]:
        assert paper["title"]
        assert paper["authors"]
        assert re.fullmatch(r"https://arxiv.org/abs/\d{4}\.\d{5}", paper["url"])


def test_the_paper_is_cited_alike_everywhere():
    paper = yaml.safe_load(text("CITATION.cff"))["references"][0]
    theory = " ".join(text("docs/theory.md").split())
    assert paper["url"] == tomllib.loads(text("pyproject.toml"))["project"]["urls"]["Paper"]
    assert f"[LoLa-DEFT]({paper['url']})" in text("README.md")
    assert f"]({paper['url']})" in theory
    assert f"[doi:{paper['doi']}](https://doi.org/{paper['doi']})" in theory
    assert f"*{paper['title']}*, {paper['journal']}, {paper['year']}" in theory
