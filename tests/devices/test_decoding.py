"""Nothing that decodes what comes from the network can run it: no pickle, no eval, no import by name."""

import ast

import pytest
from test_import_graph import MODULES, imports

PACKAGES = ("lola.devices", "lola.adapters")
UNSAFE_MODULES = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "copyreg"),
    *("importlib", "imp", "pkgutil", "runpy", "code", "codeop", "pydoc", "yaml", "ctypes", "subprocess", "pty"),
    *("xmlrpc", "multiprocessing", "commands", "timeit"),
}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint", "globals", "import_module"}
UNSAFE_ATTRIBUTES = {
    *(("torch", name) for name in ("load", "jit", "package", "hub")),
    *((numpy, name) for numpy in ("np", "numpy") for name in ("load", "fromfile", "memmap")),
    *(("os", name) for name in ("system", "popen", "execv", "execve", "execvp", "spawnl", "spawnv")),
    ("sys", "modules"),
}


def faults(tree):
    """Give what a file has that could run what it is sent."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for name in names:
                if name.split(".")[0] in UNSAFE_MODULES:
                    yield f"import {name}"
        elif isinstance(node, ast.Name) and node.id in UNSAFE_CALLS:
            yield node.id
        elif isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and (node.value.id, node.attr) in UNSAFE_ATTRIBUTES:
                yield ast.unparse(node)
            if node.attr in ("__reduce__", "__globals__", "__subclasses__", "import_module"):
                yield ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code"):
            yield f"{node.arg}={ast.unparse(node.value)}"


# What imports by name does so by names that stand in lola's own files, never by one that came.
KNOWN = {
    "lola._lazy": ["import importlib", "import importlib.machinery", "import importlib.util", *["import_module"] * 2],
    "lola.adapters.tensorboard": ["import importlib.util"],
    "lola.solvers._optional": ["import importlib", "import_module"],
    "lola.models.loading": ["trust_remote_code=False"],
}


def decoding():
    """The modules of lola that decode what comes from the network, and all that these import."""
    reached, waiting = set(), [name for name in MODULES if name.startswith(PACKAGES)]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += imports(ast.parse(MODULES[name].read_text()))
    return reached


REACHED = decoding()


def test_the_search_reaches_what_decodes():
    wanted = {"lola.devices.server", "lola.devices.edge", "lola.devices.status", "lola.adapters.wire"}
    assert wanted | {"lola.adapters.messages", "lola.files.formats", "lola.solvers.checks"} <= REACHED


@pytest.mark.parametrize("name", sorted(REACHED))
def test_nothing_that_is_decoded_can_run_anything(name):
    assert sorted(faults(ast.parse(MODULES[name].read_text()))) == sorted(KNOWN.get(name, []))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import marshal as m",
        "eval(data)",
        "map(exec, data)",
        "__import__(name)",
        "importlib.import_module(name)",
        "torch.load(file)",
        "np.load(file, mmap_mode='r')",
        "f(allow_pickle=True)",
        "os.system(data)",
    ],
)
def test_the_search_finds_what_it_is_for(source):
    assert list(faults(ast.parse(source)))
