"""Free memory for models: on the GPU, or on the machine within this process's limits."""

import os
from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")
_STATM = Path("/proc/self/statm")
_CGROUP = Path("/sys/fs/cgroup")
_KIB = 1024


def free_bytes(device: torch.device) -> int:
    """Bytes that are free for tensors on a device; on the CPU within the container's limit, if it has one."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(min(machine_bytes(_MEMINFO), container_bytes(_CGROUP)))


def memory_stats() -> dict[str, float]:
    """What this process takes of the machine's memory, and what the GPUs that it uses have, as metrics."""
    pages = int(_STATM.read_text(encoding="ascii").split()[1])
    stats = {"engine_resident_memory_bytes": float(pages * os.sysconf("SC_PAGE_SIZE"))}
    used = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    if devices := [each for each in used if torch.cuda.memory_reserved(each)]:
        free, total = map(sum, zip(*map(torch.cuda.mem_get_info, devices), strict=True))
        stats |= {"device_memory_free_bytes": float(free), "device_memory_bytes": float(total)}
    return stats


def machine_bytes(meminfo: Path) -> int:
    """MemAvailable: bytes that the kernel can provide without swapping."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * _KIB


def container_bytes(cgroup: Path) -> float:
    """Bytes below the limit of the control group (version 2); page cache counts as free; else infinity."""
    try:
        most, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return float(most) - int(used) + int(stat["inactive_file"]) if most != "max" else float("inf")
    except (OSError, ValueError, KeyError):
        return float("inf")
