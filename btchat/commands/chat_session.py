"""The dialogue of `btchat chat`: questions, and commands that begin with a slash."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bt_model.errors import BtchatError, InvalidValueError, explain
from btchat.client import ChatAnswer, Client, VideoUpload
from btchat.client.options import ShowingMessage
from btchat.commands.answering import answer_body
from btchat.commands.frame_listing import warn
from btchat.commands.server_videos import on_server
from btchat.commands.stage_line import StageLine

_HISTORY = Path("btchat", "history")
_HISTORY_LINES = 1000
_PROMPT = ">>> "


class ChatSession:
    """One dialogue with a server."""

    def __init__(
        self, client: Client, model: str | None, sampling: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        self._client = client
        self._model = model
        self._sampling = dict(sampling)
        self._options = options
        self._video: VideoUpload | None = None
        self._messages: list[ShowingMessage] = []
        self._answers: list[ChatAnswer] = []
        self._commands: dict[str, tuple[Callable[[list[str]], None], str, str]] = {
            "/upload": (self._upload, "FILE", "send a video, and talk about it"),
            "/video": (self._stored, "ID", "talk about an upload"),
            "/window": (self._window, "[A B]", "see only from second A to second B; without, all"),
            "/frames": (self._frames, "[N]", "see N frames; without, the model's number"),
            "/models": (self._models, "", "list the models"),
            "/model": (self._choose, "NAME", "ask another model"),
            "/receipt": (self._receipt, "", "what the model saw for the last answer, and how long it took"),
            "/clear": (self._clear, "", "begin a new dialogue about the same video"),
            "/save": (self._save, "FILE", "write the dialogue with its receipts as JSON"),
            "/help": (self._help, "", "this list"),
            "/quit": (self._quit, "", "end, as does Ctrl-D"),
        }
        self._is_over = False

    def show(self, video: Path) -> None:
        """Talk about this video from now on. Raises as `on_server`."""
        self._about(on_server(self._client, video))

    def run(self) -> int:
        """Until the end of the input; the exit code is 1 if, without a terminal, anything failed."""
        is_terminal, failed = sys.stdin.isatty(), False
        if is_terminal:
            _load_history()
            print("ask a question, or type /help")
        while not self._is_over:
            try:
                line = input(_PROMPT if is_terminal else "").strip()
                if line:
                    self.take(line)
            except EOFError:
                break
            except KeyboardInterrupt:  # at the prompt: the line is given up
                print()
            except (BtchatError, OSError) as error:
                sys.stderr.write(f"btchat: {' '.join(explain(error).split())}\n")
                failed = True
        if is_terminal:
            _save_history()
        return 1 if failed and not is_terminal else 0

    def take(self, line: str) -> None:
        """One line of the user.

        Raises:
            BtchatError: what was typed makes no sense, or the server refuses.
            OSError: a file cannot be read or written.
        """
        if not line.startswith("/"):
            self._ask(line)
            return
        name, *words = line.split()
        if name not in self._commands:
            raise InvalidValueError(f"{name} is not known; allowed: {', '.join(self._commands)}")
        action, arguments, _about = self._commands[name]
        words = [line.removeprefix(name).strip()] if arguments == "FILE" and words else words
        least, most = (0 if arguments.startswith("[") else len(arguments.split())), len(arguments.split())
        if len(words) not in {least, most}:
            raise InvalidValueError(f"{line} is not understood; allowed: {name} {arguments}".rstrip())
        action(words)

    def _ask(self, question: str) -> None:
        asked: ShowingMessage = {"role": "user", "content": question}
        stage = StageLine()
        pieces: list[str] = []
        answer = None
        try:
            with self._client.chat(
                [*self._messages, asked],
                video=self._video,
                model=self._model,
                stream=True,
                on_stage=stage.show,
                sampling=self._sampling or None if self._video else None,
                temperature=self._options["temperature"],
                max_tokens=self._options["max_tokens"],
            ) as stream:
                for piece in stream:
                    stage.close()
                    pieces.append(piece)
                    print(piece, end="", flush=True)
                answer = stream.answer
        except KeyboardInterrupt:
            print(" (stopped)", end="")
        finally:
            stage.close()
            if pieces or answer is not None:
                print()
            self._remember(asked, "".join(pieces), answer)

    def _remember(self, asked: ShowingMessage, text: str, answer: ChatAnswer | None) -> None:
        """Also an answer that was stopped is said; a question without one was not asked."""
        if text:
            said: ShowingMessage = {"role": "assistant", "content": text}
            self._messages += [asked, said]
        if answer is not None:
            self._answers.append(answer)
            warn(answer.receipt.warnings if answer.receipt else ())
            warn(each.message for each in answer.warnings)

    def _about(self, video: VideoUpload) -> None:
        self._video = video
        self._messages.clear()
        facts = video.facts
        size = f"{facts.width}x{facts.height} {facts.codec}, {facts.num_frames} frames, {facts.seconds:.2f} s"
        print(f"{video.id}  {video.filename}  {size}")

    def _upload(self, words: list[str]) -> None:
        self.show(Path(words[0]).expanduser())

    def _stored(self, words: list[str]) -> None:
        self._about(self._client.get(words[0]))

    def _window(self, words: list[str]) -> None:
        start, end = [_seconds(word) for word in words] or (None, None)
        self._sampling |= {"start": start, "end": end}

    def _frames(self, words: list[str]) -> None:
        if words and not words[0].isdecimal():
            raise InvalidValueError(f"/frames is {words[0]}; allowed: a number of frames")
        self._sampling |= {"num_frames": int(words[0]) if words else None, "fps": None, "max_frames": None}

    def _models(self, _words: list[str]) -> None:
        for number, each in enumerate(self._client.models()):
            is_chosen = each.id == self._model or (self._model is None and number == 0)
            print(f"{'*' if is_chosen else ' '} {each.id}  {'loaded' if each.loaded else 'not loaded'}")

    def _choose(self, words: list[str]) -> None:
        self._model = self._client.model(words[0]).id

    def _receipt(self, _words: list[str]) -> None:
        if not self._answers:
            raise InvalidValueError("/receipt has nothing to show; ask a question first")
        print(json.dumps(answer_body(self._answers[-1]).get("receipt"), indent=2, ensure_ascii=False))

    def _clear(self, _words: list[str]) -> None:
        self._messages.clear()

    def _save(self, words: list[str]) -> None:
        body = {
            "video": None if self._video is None else self._video.model_dump(mode="json"),
            "messages": self._messages,
            "answers": [answer_body(answer) for answer in self._answers],
        }
        path = Path(words[0]).expanduser()
        with path.open("x", encoding="utf-8") as file:  # what is there already is not written over
            json.dump(body, file, indent=2, ensure_ascii=False)
        print(f"{path}: {len(self._messages)} messages")

    def _help(self, _words: list[str]) -> None:
        for name, (_action, arguments, about) in self._commands.items():
            print(f"{f'{name} {arguments}':16s} {about}")

    def _quit(self, _words: list[str]) -> None:
        self._is_over = True


def _seconds(word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise InvalidValueError(f"/window is {word}; allowed: seconds, as 2.5") from error


def _history() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / _HISTORY


def _load_history() -> None:
    """Lines of earlier dialogues are there by the arrow keys; not every Python has readline."""
    with suppress(ImportError, OSError):
        import readline

        readline.set_history_length(_HISTORY_LINES)
        readline.read_history_file(_history())


def _save_history() -> None:
    with suppress(ImportError, OSError):
        import readline

        path = _history()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        readline.write_history_file(path)
