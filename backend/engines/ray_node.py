"""Ray on this host alone: `python -m backend.engines.ray_node`, started by the server where no cluster was named.

Everything it opens listens on 127.0.0.1; it ends with the server.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from backend.devices import usable_cores
from backend.engines.ray_cluster import LOOPBACK
from backend.worker_link import tie_to_parent

STORE_BYTES = 512 * 1024**2
"""For avatars and pictures on their way; they do not stay."""


def main() -> int:
    """Run until standard input ends."""
    parser = argparse.ArgumentParser(description="Ray on this host alone.")
    parser.add_argument("--name", required=True, help="how the server calls this process")
    parser.add_argument("--address-file", required=True, type=Path, help="where to write the address once it is up")
    arguments = parser.parse_args()
    tie_to_parent()
    os.environ.update(LOOPBACK)
    import ray

    folder = tempfile.mkdtemp(prefix="effigy-ray-")
    try:
        ray.init(
            num_cpus=usable_cores(),
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            _temp_dir=folder,
            log_to_driver=False,
        )
        beside = arguments.address_file.with_suffix(".new")
        beside.write_text(str(ray.get_runtime_context().gcs_address), encoding="utf-8")
        beside.replace(arguments.address_file)
        sys.stdin.read()
        ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
