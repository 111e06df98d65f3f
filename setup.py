"""What setup.cfg cannot say: the one compiled loop. Metadata and tool settings are in setup.cfg."""

import hashlib
from pathlib import Path

from setuptools import Extension, setup

SOURCE = "nt_failures/tasks/_star_draw.c"
DIGEST = hashlib.sha256((Path(__file__).parent / SOURCE).read_bytes()).hexdigest()

# Optional: where no C compiler is at hand, NumPy draws the same rows.
STAR_LOOP = Extension(
    "nt_failures.tasks._star_loop",
    [SOURCE],
    define_macros=[("SOURCE_DIGEST", f'"{DIGEST}"')],  # so that a loop of another source is not taken for this one
    extra_compile_args=["-O3"],
    optional=True,
)

setup(ext_modules=[STAR_LOOP])
