"""One process of `benchmark scale`: `python -m backend.scale_rank ASKED`, started by torchrun (`cli_scale`)."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import fields

import torch

from avatars.training import ranks
from avatars.training.scale import Asked, measured
from backend.devices import usable_cores, use_cores
from backend.worker_link import tie_to_parent


def main() -> int:
    """Measure; the first process prints its rows, a line of JSON each."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    tie_to_parent()
    values = json.loads(sys.argv[1])
    cpu = values.pop("device") == "cpu"
    asked = Asked(**{item.name: values[item.name] for item in fields(Asked)})
    device = torch.device("cpu") if cpu else torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    use_cores(max(1, usable_cores() // int(os.environ["LOCAL_WORLD_SIZE"])))
    ranks.join(device)
    for row in measured(asked, device):
        if ranks.rank() == 0:
            print(json.dumps(row), file=told, flush=True)
    ranks.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
