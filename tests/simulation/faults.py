"""Faults that a simulation must find: the product's own text, with one mistake in each."""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class PlantedFault:
    """A mistake: in a file, one text in the place of another, which is there once."""

    name: str
    file: str
    old: str
    new: str

    def planted(self) -> str:
        """The file with the mistake. Raises ValueError where the text is not there, or not once."""
        text = (ROOT / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {text.count(self.old)} times in {self.file}: {self.old}")
        return text.replace(self.old, self.new)


FAULTS = (
    # --- admission
    PlantedFault(
        "a slot is not given back", "server/admission.py",
        "            self._requests.give_back(tenant, count)\n",
        "            self._requests.give_back(tenant, min(count, 1))\n",
    ),
    PlantedFault(
        "one request more than allowed", "server/admission.py",
        "- used <= self.total", "- used <= self.total + 1",
    ),
    PlantedFault(
        "one request of a key more than allowed", "server/admission.py",
        "if self._requests.taken_by(tenant) + count > most:",
        "if self._requests.taken_by(tenant) + count > most + 1:",
    ),
    PlantedFault(
        "one request fewer than allowed", "server/admission.py",
        "if self.taken + amount > self.total:", "if self.taken + amount >= self.total:",
    ),
    PlantedFault(
        "a body's bytes stay counted", "server/admission.py",
        "            held.keep(0)\n", "            pass\n",
    ),
    PlantedFault(
        "choices count twice", "server/answers/flow.py",
        "enter(question.tenant, question.num_choices - 1)",
        "enter(question.tenant, 2 * (question.num_choices - 1))",
    ),
    # --- answers
    PlantedFault(
        "a wake-up is lost", "server/answers/flow.py",
        "        finally:\n            answer.said.set()\n", "        finally:\n            pass\n",
    ),
    PlantedFault(
        "an answer ends twice", "server/answers/flow.py",
        "            await put(end)\n", "            await put(end)\n            await put(end)\n",
    ),
    PlantedFault(
        "the deadline is ignored", "server/answers/flow.py",
        "asyncio.timeout_at(answer.deadline)", "asyncio.timeout_at(None)",
    ),
    PlantedFault(
        "the work of one who left goes on", "server/answers/flow.py",
        "                for task in (*tasks, inputs):\n                    task.cancel()\n",
        "                for task in tasks:\n                    task.cancel()\n",
    ),
    PlantedFault(
        "every choice has the first one's model", "server/answers/question.py",
        "        return self.question.models[self.index]\n", "        return self.question.models[0]\n",
    ),
    # --- features
    PlantedFault(
        "a retry repeats what was said", "server/features/clips.py",
        "        except FeaturesMissingError:\n", "        except BtchatError:\n",
    ),
    PlantedFault(
        "a flight that has landed stays", "server/features/flights.py",
        "        flight.task.add_done_callback(lambda task: self._end(flight, task))\n", "",
    ),
    PlantedFault(
        "one who leaves ends the others' flight", "server/features/flights.py",
        "landed |= await asyncio.shield(flight.task)", "landed |= await flight.task",
    ),
    PlantedFault(
        "a flight without waiters goes on", "server/features/flights.py",
        "                    flight.task.cancel()\n", "                    pass\n",
    ),
    PlantedFault(
        "a flight is joined that was given up", "server/features/flights.py",
        "for key, flight in flights.items() if not flight.is_lost}", "for key, flight in flights.items()}",
    ),
    PlantedFault(
        "frames are not given back", "server/features/flights.py",
        "frames = held.enter_context(await finished(work))", "frames = await finished(work)",
    ),
    PlantedFault(
        "tokens that were being made are kept", "server/features/flights.py",
        "                flight.task.add_done_callback(lambda _task, key=key: self._engine.forget(key))\n",
        "                pass\n",
    ),
    PlantedFault(
        "a video is read whose owner has deleted it", "server/uploads/blobs.py",
        "        if known is None or not (may_read and self._disk.exists(path)):\n",
        "        known = known or (None, b'')\n        if not self._disk.exists(path):\n",
    ),
    PlantedFault(
        "the tenant is left out of the key", "server/uploads/token_folders.py",
        "json.dumps([tenant, sha256])", "json.dumps([sha256])",
    ),
    PlantedFault(
        "the sampling is left out of the key", "server/features/keys.py",
        "[*astuple(canonical(sampling)), card", "[card",
    ),
    PlantedFault(
        "the tower is left out of the key", "server/features/keys.py",
        "card.fingerprint, card.pooling", "card.pooling",
    ),
    PlantedFault(
        "a deleted video's tokens stay", "server/routes/uploads.py",
        "        services.ahead.forget(tenant, video.sha256)\n", "        pass\n",
    ),
    # --- the engine's client
    PlantedFault(
        "an answer is not cancelled", "server/engine/client.py",
        "                        self.send(wire.Cancel(message.id))\n", "                        pass\n",
    ),
    PlantedFault(
        "an inbox stays", "server/engine/client.py",
        "            del self._waiting[request_id]\n", "            pass\n",
    ),
    PlantedFault(
        "those who wait are not told that the engine died", "server/engine/client.py",
        '        self.fail_all(EngineDeadError("the engine process ended while',
        '        str(EngineDeadError("the engine process ended while',
    ),
    PlantedFault(
        "a descriptor is not the engine's own", "server/engine/client.py", "[os.dup(fd)]", "[fd]",
    ),
    PlantedFault(
        "an engine that hangs is not killed", "server/engine/watchdog.py",
        "            kill()\n", "            pass\n",
    ),
    PlantedFault(
        "what an engine says before it is ready is dropped", "server/engine/supervisor.py",
        "if started.done() or not isinstance(message, Loading | Ready | StartFailed):", "if started.done():",
    ),
    PlantedFault(
        "a short write is repeated", "server/engine/channel.py", "(data[sent:], [])", "(data, [])",
    ),
    PlantedFault(
        "a full socket is not written to again", "server/engine/channel.py",
        "            self._loop.add_writer(self._sock.fileno(), self._write)\n", "            pass\n",
    ),
    PlantedFault(
        "descriptors that were sent are kept", "server/engine/channel.py",
        "                close_all(fds)  # they travel with the first byte\n", "",
    ),
    # --- the store
    PlantedFault(
        "a file is not synced", "server/uploads/receive.py",
        "        await asyncio.to_thread(file.sync)\n", "",
    ),
    PlantedFault(
        "a name is not synced", "server/uploads/durability.py",
        "            self._disk.sync_folder(new.parent)\n", "",
    ),
    PlantedFault(
        "a row comes before its file", "server/uploads/blobs.py",
        "            if is_new:\n                self._storage.durability.rename(source, blob)\n"
        "            if known is None:\n"
        "                self._catalog.insert(video, index, received.pieces_id)\n",
        "            if known is None:\n"
        "                self._catalog.insert(video, index, received.pieces_id)\n"
        "            if is_new:\n                self._storage.durability.rename(source, blob)\n"
        "            if known is None:\n                pass\n",
    ),
    PlantedFault(
        "an upload is acknowledged too early", "server/uploads/store.py",
        "self._shown(await self._run(self._blobs.commit, received, video, index))",
        "self._run(self._blobs.commit, received, video, index) and self._shown(video)",
    ),
    PlantedFault(
        "bytes that are there get another id", "server/uploads/blobs.py",
        "known = self._same(video)", "known = None",
    ),
    PlantedFault(
        "bytes that are there count again", "server/uploads/catalog.py",
        "        return renewed\n",
        "        self.usage.change(video.tenant, video.num_bytes, 0, 1)\n        return renewed\n",
    ),
    PlantedFault(
        "bytes that come again do not live longer", "server/uploads/catalog.py",
        "expires_at=max(end for end in ends if end is not None)",
        "expires_at=min(end for end in ends if end is not None)",
    ),
    PlantedFault(
        "a file is freed under its readers", "server/uploads/blobs.py",
        "if sha256 not in self._readers and not", "if not",
    ),
    PlantedFault(
        "a file is freed that others have", "server/uploads/blobs.py",
        "sha256 not in self._readers and not self._catalog.has_file(sha256)",
        "sha256 not in self._readers",
    ),
    PlantedFault(
        "a file whose pixels are to be forgotten stays", "server/uploads/blobs.py",
        "self._catalog.forget_pixels(video))\n        self._free(video.sha256)\n",
        "self._catalog.forget_pixels(video))\n",
    ),
    PlantedFault(
        "pixels that are forgotten are read from another's file", "server/uploads/catalog.py",
        'self._any("sha256 = ? AND tenant = ? AND pixels", sha256, tenant)',
        'self._any("sha256 = ?", sha256)',
    ),
    PlantedFault(
        "a reader leaves who has not entered", "server/uploads/store.py",
        "await asyncio.shield(entering)", "await entering",
    ),
    PlantedFault(
        "a reader does not leave", "server/uploads/store.py",
        "await asyncio.shield(self._run(self._blobs.leave, video.sha256))",
        "await self._run(self._blobs.leave, video.sha256)",
    ),
    PlantedFault(
        "bytes that were received stay counted", "server/uploads/usage.py",
        "            self._taken[tenant] -= room.num_bytes\n", "            pass\n",
    ),
    PlantedFault(
        "a temporary file stays", "server/uploads/store.py",
        "                await asyncio.shield(self._run(self._blobs.discard, path))\n",
        "                pass\n",
    ),
    PlantedFault(
        "a failed insert leaves its file", "server/uploads/blobs.py",
        "            if is_new and self._disk.exists(blob):\n"
        "                self._disk.rename(blob, source)\n",
        "",
    ),
    PlantedFault(
        "the reserve is not used", "server/uploads/folder.py",
        "        self._disk.unlink(self._reserve)\n        return call()\n",
        "        raise OSError(28, 'full')\n",
    ),
    PlantedFault(
        "a video inside of a question is deleted under its readers", "server/uploads/sources.py",
        "        self._num_readers += 1\n", "        self._num_readers += 0\n",
    ),
    PlantedFault(
        "another tenant's upload is found", "server/uploads/catalog.py",
        '"tenant = ? AND id = ? AND', '"? != \'\' AND id = ? AND',
    ),
    PlantedFault(
        "what another tenant's decode found out is handed over", "server/uploads/catalog.py",
        'WHERE tenant = ? AND sha256 = ? LIMIT 1"', "WHERE ? != '' AND sha256 = ? LIMIT 1\"",
    ),
    # --- streams
    PlantedFault(
        "an answer that broke is not told", "server/streams/reader.py",
        "[*self._held, event]", "[event]",
    ),
    PlantedFault(
        "a reader who left is waited for", "server/streams/reader.py",
        "        task.cancel()\n        gone.cancel()\n", "        gone.cancel()\n",
    ),
    PlantedFault(
        "a stream ends twice", "server/streams/sse.py",
        "                yield _event(body)\n        if self.shape",
        "                yield _event(body)\n            yield _END\n        if self.shape",
    ),
)  # fmt: skip


class _Planter(MetaPathFinder):
    """Loads the file of one fault with its mistake."""

    def __init__(self, fault: PlantedFault) -> None:
        self._name = fault.file.removesuffix(".py").replace("/", ".")
        self._path = ROOT / fault.file
        self._text = fault.planted()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, self._path, loader=_Loader(fullname, str(self._path), self._text)
        )


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, text: str) -> None:
        super().__init__(fullname, path)
        self._text = text

    def get_code(self, fullname: str):
        return self.source_to_code(self._text.encode(), self.path)


def plant(name: str) -> None:
    """From now on the product is imported with this mistake in it."""
    (fault,) = [each for each in FAULTS if each.name == name]
    sys.meta_path.insert(0, _Planter(fault))
