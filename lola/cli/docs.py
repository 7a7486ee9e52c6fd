"""``lola docs``: read the pages that docstrings cite. Only the standard library is imported before it runs."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("page", nargs="?", metavar="PAGE", help="print this page; without it, list them")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from importlib import resources

    from lola.solvers.checks import shown
    from lola.solvers.errors import LolaValueError

    files = sorted(resources.files("lola.docs").iterdir(), key=lambda file: file.name)
    pages = {file.name.removesuffix(".md"): file for file in files if file.name.endswith(".md")}
    if options.page is None:
        for name, file in pages.items():
            title = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
            print(f"{name:<{max(map(len, pages))}}  {title}")
        return
    if options.page not in pages:
        raise LolaValueError(f"page must be one of {', '.join(pages)}; got {shown(options.page)}")
    print(pages[options.page].read_text(encoding="utf-8"), end="")
