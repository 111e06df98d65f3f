"""Metadata and tool settings are in setup.cfg; here is how recipes, which lie in examples/, come into the package."""

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copies examples/recipes into the wheel; a clone, installed with `-e` or not, reads them where they lie."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.packages = [*self.packages, "nt_failures.experiments.recipes"]
        self.package_dir["nt_failures.experiments.recipes"] = "examples/recipes"


setup(cmdclass={"build_py": BuildWithRecipes})
