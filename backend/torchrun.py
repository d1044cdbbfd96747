"""torchrun tied to the process that starts it: where that is killed the kernel ends torchrun, and with it all ranks.

`python -m backend.torchrun …` takes what `python -m torch.distributed.run …` takes.
"""

from __future__ import annotations

from backend.worker_link import tie_to_parent


def main() -> None:
    """Be torchrun."""
    tie_to_parent()
    from torch.distributed.run import main as torchrun

    torchrun()


if __name__ == "__main__":
    main()
