"""Write the named configs of nt_failures/pathstar as Parquet, one folder per config, one file per split.

    python dataset_scripts/export_pathstar.py                                   # every named config
    python dataset_scripts/export_pathstar.py deg2-path5-nodes50 --output_dir data

`load_dataset("parquet", data_dir="data/deg2-path5-nodes50")` reads a folder without this package, rows in the same order.
A config's folder appears whole or not at all; one that exists is left alone.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tqdm.auto import tqdm

from nt_failures.builder import PathStarBuilder


def main(argv: list[str]) -> None:
    """Parse and export."""
    known = list(PathStarBuilder.builder_configs)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("configs", nargs="*", help=f"default: all of {', '.join(known)}")
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="(%(default)s)")
    args = parser.parse_args(argv)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for config in tqdm(args.configs or known, desc="configs"):
        export(PathStarBuilder(config_name=config), args.output_dir / config)


def export(builder: PathStarBuilder, folder: Path) -> None:
    """Write the splits of one config into `folder`."""
    if folder.exists():
        return
    builder.download_and_prepare()
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for split, rows in builder.as_dataset().items():
            rows.to_parquet(part / f"{split}-00000-of-00001.parquet")
        part.chmod(0o755)  # mkdtemp makes a private folder
        os.replace(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
