"""Where images, containers and volumes of this check lie, apart from all others."""

import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Store:
    """A folder for podman and buildah; deleted as a whole."""

    folder: Path

    def podman(self, *words: str, check: bool = True, seconds: float = 120) -> Done:
        """Raises AssertionError with its messages where it fails, unless `check` is off."""
        # crun refuses cgroups of the first version beside the second
        runtime = ["--runtime=runc"] if shutil.which("runc") else []
        command = ["podman", *self.places, *runtime, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        assert done.returncode == 0 or not check, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done

    @property
    def places(self) -> list[str]:
        return [f"--root={self.folder}/store", f"--runroot={self.folder}/run"]

    def image(self, target: str) -> str:
        return f"localhost/btchat-image-check:{target}"

    def image_bytes(self, target: str) -> int:
        """Size with its base, uncompressed."""
        return int(self.podman("image", "inspect", "--format={{.Size}}", self.image(target)).stdout)

    def clear(self, *, keep_images: bool) -> None:
        """Containers and volumes are removed, and all else too unless it is kept."""
        self.podman("rm", "--all", "--force", "--time=0", check=False)
        self.podman("volume", "rm", "--all", "--force", check=False)
        if not keep_images:
            self.podman("rmi", "--all", "--force", check=False)
            shutil.rmtree(self.folder / "store", ignore_errors=True)
            shutil.rmtree(self.folder / "run", ignore_errors=True)
            with suppress(OSError):  # somebody's own folder, with more in it
                self.folder.rmdir()
