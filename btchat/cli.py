"""The `btchat` command: every command, in the group that help shows it in.

Commands import their heavy parts when they run, so that help and completion are there at once.
"""

import sys
from collections.abc import Sequence

from cyclopts import App, Group, Parameter

from btchat.commands import corpus, evaluation, one_video
from btchat.commands.training import ablate, embedded, instruct, pretrain
from btchat.commands.weights import commands as weights
from server.command.run import run, version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a failure is one line on stderr and exit code 1."""
    return run(command_line(), arguments)


def command_line() -> App:
    """All commands."""
    app = App(
        name="btchat",
        help="Ask questions about videos.",
        help_format="plaintext",
        version=version,
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,
    )
    group = Group.create_ordered("Server")
    app.command("server.command.serve:serve", group=group, help="Start the server.")
    app.command(
        "btchat.commands.demo:demo",
        group=group,
        help="Start a server, ask it about a sample clip, keep serving.",
    )
    app.command("btchat.commands.chat:chat", group=group, help="Talk about a video on the terminal.")
    app.command("btchat.commands.upload:upload", group=group, help="Upload videos to a server.")
    app.command("btchat.commands.delete:delete", group=group, help="Delete uploads from a server.")
    app.command("btchat.commands.status:status", group=group, help="Show what a server has loaded and does.")
    keys = App(name="key", help="Make API keys.", group=group)
    keys.command("btchat.commands.key:new", name="new")
    app.command(keys)
    group = Group.create_ordered("One video, here or on a server")
    for command in (one_video.ask, one_video.frames, one_video.tokens):
        app.command(command, group=group)
    _add_models(app, Group.create_ordered("Models"))
    _add_training(app, Group.create_ordered("Training and evaluation"))
    group = Group.create_ordered("Other")
    app["--help"].group = app["--version"].group = group
    app.register_install_completion_command(group=group, help="Install completion for the shell in use.")
    return app


def _add_models(app: App, group: Group) -> None:
    app.command("btchat.commands.models:models", group=group, help="List the models that can be loaded.")
    commands = App(name="weights", help="List, fetch, convert and verify published weights.", group=group)
    commands.command(weights.list_sets, name="list")
    for command in (weights.fetch, weights.convert, weights.verify):
        commands.command(command)
    app.command(commands)


def _add_training(app: App, group: Group) -> None:
    commands = App(name="train", help="Train a model.", group=group)
    for command in (
        pretrain.pretrain,
        pretrain.export,
        instruct.instruct,
        instruct.features,
        embedded.embedded,
        ablate.ablate,
    ):
        commands.command(command)
    app.command(commands)
    commands = App(name="corpus", help="Make procedural clips in the formats of real data sets.", group=group)
    commands.command(corpus.make)
    commands.command(corpus.film)
    app.command(commands)
    commands = App(name="eval", help="Print metrics of embeddings (docs/evaluation.md).", group=group)
    for command in (evaluation.retrieval, evaluation.recognition):
        commands.command(command)
    app.command(commands)


if __name__ == "__main__":
    sys.exit(main())
