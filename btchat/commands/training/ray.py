"""Pre-training under Ray Train: the same function in every worker of a Ray cluster.

Every worker must have the same folders: weights, clips and the run's own.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_model.errors import InvalidValueError

if TYPE_CHECKING:
    from bt_model.training.pretrain.settings import PretrainSettings


def pretrain_on_ray(settings: "PretrainSettings", work: Path, workers: int) -> None:
    """Run to the end on `workers` workers, each with a GPU unless the device is cpu.

    Raises:
        InvalidValueError: Ray is not installed.
    """
    if find_spec("ray") is None:
        raise InvalidValueError(
            "launcher is 'ray', which is not installed (pip install 'btchat[ray]'); allowed: 'none'",
            param="launcher",
        )
    import torch

    from bt_model.training.settings import plain

    is_cpu = settings.run.device == "cpu" or not torch.cuda.is_available()
    ray_train = import_module("ray.train")
    trainer = import_module("ray.train.torch").TorchTrainer(
        _work_in_ray,
        train_loop_config={"settings": plain(settings), "work": str(work.resolve())},
        scaling_config=ray_train.ScalingConfig(num_workers=workers, use_gpu=not is_cpu),
        run_config=ray_train.RunConfig(storage_path=str(work.resolve() / "ray")),
    )
    trainer.fit()


def _work_in_ray(config: dict[str, Any]) -> None:
    """One worker; Ray has created the process group already."""
    from bt_model.training.pretrain.run import pretrain
    from bt_model.training.pretrain.settings import PretrainSettings
    from bt_model.training.settings import settings_from
    from bt_model.training.trainer.parallel import Rank

    context = import_module("ray.train").get_context()
    device = import_module("ray.train.torch").get_device()
    settings = settings_from(PretrainSettings, config["settings"], {"run": {"device": str(device)}})
    rank = Rank(context.get_world_rank(), context.get_world_size(), context.get_local_rank())
    pretrain(settings, Path(config["work"]), rank)
