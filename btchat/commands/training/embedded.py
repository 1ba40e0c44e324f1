"""`btchat train embedded`: the small model that every installation carries."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from btchat.commands.options import Work, a_folder_to_write, default_weights_dir

CpuPrecision = Literal["float32", "bfloat16"]


def embedded(
    *,
    out: Annotated[Path | None, Parameter(validator=a_folder_to_write)] = None,
    work: Work = Path(".work/embedded"),
    seed: int = 0,
    threads: int = 1,
    precision: CpuPrecision | None = None,
) -> None:
    """Train the small model that every installation carries.

    Args:
        out: folder of the model (default: weights/embedded)
        work: clips, checkpoints, logs
        seed: of all random draws
        threads: of torch; on tensors this small, more cost more than they give
        precision: number format of matrix products (default: bfloat16 where the CPU has it in hardware)
    """
    from lab.embedded import train_embedded

    train_embedded(
        out or default_weights_dir() / "embedded", work, seed=seed, threads=threads, precision=precision
    )
