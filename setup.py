"""What setup.cfg cannot say: the one compiled loop. Metadata and tool settings are in setup.cfg."""

from setuptools import Extension, setup

# Optional: where no C compiler is at hand, NumPy draws the same rows.
STAR_LOOP = Extension(
    "nt_failures.tasks._star_loop",
    ["nt_failures/tasks/_star_loop.c"],
    extra_compile_args=["-O3"],
    optional=True,
)

setup(ext_modules=[STAR_LOOP])
