"""Build HTML pages of every class and function from their docstrings; a warning ends it as an error.

pip install -e ".[docs]" && python examples/api_pages.py             # build/api/nt_failures.html is the first page
python examples/api_pages.py --output_dir elsewhere
"""

import pkgutil
import warnings
from pathlib import Path

import nt_failures
from nt_failures.experiments import command_line, script

SPACE = "nt_failures.evaluation.path_accuracy.app"
"""Needs gradio, and has nothing to import."""


def main(argv: list[str]) -> None:
    """Build the pages: one of the public names, and below it one of each module."""
    parser = command_line.plain_parser(__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("build") / "api", help="(%(default)s)")
    folder = parser.parse_args(argv).output_dir
    try:
        import pdoc
    except ImportError as error:
        raise ValueError(f"these pages are made by pdoc ({error}); pip install 'nt_failures[docs]'.") from error
    folders = [f"nt_failures.{found.name}" for found in pkgutil.iter_modules(nt_failures.__path__)]
    pdoc.render.configure(docformat="google")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        pdoc.pdoc("nt_failures", *folders, f"!{SPACE}", output_directory=folder)
    if said := [str(each.message) for each in found if Path(pdoc.__file__).parent in Path(each.filename).parents]:
        raise ValueError("\n".join(said))
    print(folder / "nt_failures.html")


if __name__ == "__main__":
    script.run(main)
