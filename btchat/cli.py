"""The `btchat` command. Heavy parts are imported by the command that needs them."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from bt_model.errors import BtchatError
from bt_model.types import DTYPES, STRATEGIES, Quantise, Sampling
from btchat.commands.corpus import add_corpus
from btchat.commands.training.ablate import add_ablation
from btchat.commands.training.instruct import add_instruction_tuning
from btchat.commands.training.pretrain import add_pretraining
from btchat.commands.training.typed_settings import a_folder
from btchat.commands.weights.commands import add_weights
from server.settings import Settings, add_flags

AddParser = Callable[..., argparse.ArgumentParser]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a failure is one line on stderr and exit code 1."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except BtchatError as error:
        sys.stderr.write(f"btchat: {error.message}\n")
        return 1
    except OSError as error:  # a video that is not there, a folder that cannot be written
        sys.stderr.write(f"btchat: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="btchat", description="Ask questions about videos.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="start the server")
    add_flags(serve)
    serve.set_defaults(run=_serve)

    demo = commands.add_parser("demo", help="start a server, ask it about a sample clip, keep serving")
    demo.add_argument("--port", type=int, default=8000)
    demo.add_argument("--once", action="store_true", help="stop after the answer")
    demo.set_defaults(run=_demo)

    _add_video_commands(commands.add_parser)
    models = commands.add_parser("models", help="list the models that can be loaded")
    models.add_argument("--weights-dir", type=Path, default=_default_weights_dir())
    models.add_argument("--json", action="store_true", help="for machines")
    models.set_defaults(run=_models)
    add_weights(commands.add_parser, _default_weights_dir())
    _add_training(commands.add_parser)
    add_corpus(commands.add_parser)
    return parser


def _add_video_commands(add_parser: AddParser) -> None:
    ask = add_parser("ask", help="ask one question about a video file, without a server")
    ask.add_argument("video", type=Path)
    ask.add_argument("question")
    ask.add_argument("--temperature", type=float, help="0 is greedy (default: the model's)")
    ask.add_argument("--max-tokens", type=int, help="longest answer (default: what the context leaves)")
    _add_video_options(ask)
    _add_formats(ask)
    ask.set_defaults(run=_ask)

    frames = add_parser("frames", help="show which frames the model would see")
    frames.add_argument("video", type=Path)
    frames.add_argument("-o", "--output", type=Path, help="folder for the frames as JPEG files")
    _add_video_options(frames)
    frames.set_defaults(run=_frames)

    tokens = add_parser("tokens", help="write a video's pooled tokens as safetensors")
    tokens.add_argument("video", type=Path)
    tokens.add_argument("-o", "--output", type=Path, required=True)
    _add_video_options(tokens)
    _add_formats(tokens)
    tokens.set_defaults(run=_tokens)


def _add_training(add_parser: AddParser) -> None:
    train = add_parser("train", help="train a model").add_subparsers(required=True, metavar="WHAT")
    embedded = train.add_parser("embedded", help="the small model that every installation carries")
    embedded.add_argument("--out", type=Path, default=_default_weights_dir() / "embedded")
    embedded.add_argument(
        "--work", type=a_folder, default=Path(".work/embedded"), help="clips, checkpoints, logs"
    )
    embedded.add_argument("--seed", type=int, default=0)
    embedded.add_argument(
        "--threads",
        type=int,
        default=1,
        help="of torch; on tensors this small, more cost more than they give",
    )
    embedded.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        help="number format of matrix products; without it bfloat16 where the CPU has it in hardware",
    )
    embedded.set_defaults(run=_train_embedded)
    add_pretraining(train.add_parser)
    add_ablation(train.add_parser)
    add_instruction_tuning(train.add_parser, _default_weights_dir())


def _default_weights_dir() -> Path:
    default: Path = Settings.model_fields["weights_dir"].default
    return Path(os.environ.get("BTCHAT_WEIGHTS_DIR") or default)


def _add_video_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=os.environ.get("BTCHAT_MODEL", "embedded"), help="name or model file"
    )
    parser.add_argument("--weights-dir", type=Path, default=_default_weights_dir())
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 …")
    parser.add_argument("--num-frames", type=int, help="how many frames (default: the model's)")
    parser.add_argument("--fps", type=float, help="frames per second of video, instead of a number")
    parser.add_argument("--start", type=float, help="seconds")
    parser.add_argument("--end", type=float, help="seconds")
    parser.add_argument("--strategy", choices=STRATEGIES, default="uniform")


def _add_formats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtype", choices=DTYPES, help="number format (default: the device's own)")
    parser.add_argument(
        "--quantise", choices=get_args(Quantise), default="none", help="of the language model's matrices"
    )


def _loading(arguments: argparse.Namespace) -> tuple[str, Path, str, str | None, Quantise]:
    return (
        arguments.model,
        arguments.weights_dir,
        arguments.device,
        arguments.dtype,
        arguments.quantise,
    )


def _sampling(arguments: argparse.Namespace) -> Sampling:
    return Sampling(
        num_frames=arguments.num_frames,
        fps=arguments.fps,
        start=arguments.start,
        end=arguments.end,
        strategy=arguments.strategy,
    )


def _serve(arguments: argparse.Namespace) -> int:
    from server.__main__ import serve

    return serve(arguments)


def _demo(arguments: argparse.Namespace) -> int:
    from btchat.commands.demo import demo

    return demo(arguments.port, once=arguments.once)


def _ask(arguments: argparse.Namespace) -> int:
    from bt_model.types import GenerateOptions
    from btchat.commands.one_video import LocalChat

    sampling = _sampling(arguments)
    options = GenerateOptions(max_tokens=arguments.max_tokens, temperature=arguments.temperature)
    arguments.video.stat()  # a path that is wrong is told before gigabytes are loaded
    chat = LocalChat(*_loading(arguments))
    for piece in chat.ask(arguments.video, arguments.question, sampling, options):
        print(piece, end="", flush=True)
    print()
    return 0


def _frames(arguments: argparse.Namespace) -> int:
    from btchat.commands.one_video import show_frames

    sampling = _sampling(arguments)
    for line in show_frames(
        arguments.model, arguments.weights_dir, arguments.video, sampling, arguments.output
    ):
        print(line)
    return 0


def _tokens(arguments: argparse.Namespace) -> int:
    from btchat.commands.one_video import LocalChat

    sampling = _sampling(arguments)
    for path in (arguments.video, arguments.output.parent):
        path.stat()
    chat = LocalChat(*_loading(arguments))
    print(chat.write_tokens(arguments.video, sampling, arguments.output))
    return 0


def _models(arguments: argparse.Namespace) -> int:
    from btchat.commands.models import describe_all, table

    if arguments.json:
        print(json.dumps(describe_all(arguments.weights_dir), indent=2))
        return 0
    for line in table(arguments.weights_dir):
        print(line)
    return 0


def _train_embedded(arguments: argparse.Namespace) -> int:
    from lab.embedded import train_embedded

    train_embedded(
        arguments.out,
        arguments.work,
        seed=arguments.seed,
        threads=arguments.threads,
        precision=arguments.precision,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
