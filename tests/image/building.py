"""Both targets built by buildah, as pip is configured on this machine and on a base that can be had here."""

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.image.compose import ROOT
from tests.image.store import Store

DOCKERFILE = ROOT / "Dockerfile"
LOCAL_BASE = "localhost/btchat-image-check-base"
PYPI = "https://pypi.org/simple"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True, slots=True)
class Base:
    """The image that the targets stand on; `note` says how it came here."""

    name: str
    note: str


def read_argument(name: str) -> str:
    """The default of a build argument in the Dockerfile."""
    found = re.search(rf"^ARG {name}=(\S+)$", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert found is not None, f"Dockerfile: no ARG {name}"
    return found[1]


def find_base(store: Store, folder: Path) -> Base:
    """The Dockerfile's base, pulled by its digest; where no registry is reached, a Debian made here."""
    name = read_argument("BASE")
    if store.podman("pull", "--quiet", f"docker.io/library/{name}", check=False).returncode == 0:
        return Base(f"docker.io/library/{name}", "pulled by its digest")
    (release,) = re.findall(r"slim-(\w+)@", name)
    note = f"not pulled, so NOT the pinned one: Debian {release} and its Python by debootstrap"
    if store.podman("image", "exists", LOCAL_BASE, check=False).returncode == 0:
        return Base(LOCAL_BASE, note)
    root = folder / "root"
    packages = "--include=python3,python3-venv,ca-certificates"
    command = ["debootstrap", "--variant=minbase", packages, release, str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (root / "usr/bin/python").symlink_to("python3")
    archive = shutil.make_archive(str(root), "tar", root)
    store.podman("import", "--quiet", archive, LOCAL_BASE)
    shutil.rmtree(root)
    return Base(LOCAL_BASE, note)


def build_target(store: Store, target: str, base: Base, folder: Path) -> None:
    """Every step of one target; where one fails, CalledProcessError and the log's end on standard error."""
    command = [
        "buildah", *store.places, "bud", "--isolation=chroot", "--format=docker", "--layers",
        f"--build-arg=BASE={base.name}", *_configure_pip(target, folder),
        f"--target={target}", f"--tag={store.image(target)}", str(ROOT),
    ]  # fmt: skip
    log = folder / f"{target}.log"
    with log.open("w") as out:
        done = subprocess.run(command, check=False, stdout=out, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.stderr.write("".join(log.read_text().splitlines(keepends=True)[-30:]))
        done.check_returncode()


def _configure_pip(target: str, folder: Path) -> list[str]:
    """This machine's settings of pip and the files that they name, mounted for the build alone."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    settings: dict[str, str] = {}
    for name, quoted in (line.split("=", 1) for line in listed.stdout.splitlines()):
        key = name.rsplit(".", 1)[-1]
        # a wheel for the CPU that lies here would be preferred to PyPI's, which is the one for CUDA
        if "cache" not in key and (target, key) != ("cuda", "find-links"):
            # the environment is listed first, and wins
            settings.setdefault(key, shlex.split(quoted)[0])
    file = folder / f"pip-{target}.conf"
    lines = ["[global]", "progress-bar = off", *(f"{key} = {value}" for key, value in settings.items())]
    file.write_text("\n".join(lines) + "\n")
    words = " ".join(settings.values()).split()
    # the files of an index on this disk lie beside its pages
    paths = {CERTIFICATES, *(Path(word.removeprefix("file://").removesuffix("/simple")) for word in words)}
    mounted = sorted(path for path in paths if path.is_absolute() and path.exists())
    index = [] if _is_reached(read_argument("TORCH_INDEX")) else [f"--build-arg=TORCH_INDEX={PYPI}"]
    return [*index, f"--volume={file}:/etc/pip.conf:ro", *(f"--volume={path}:{path}:ro" for path in mounted)]


def _is_reached(url: str) -> bool:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=5):
            return True
    except (URLError, OSError):
        return False
