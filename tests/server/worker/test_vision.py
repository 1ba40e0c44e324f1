"""Batches of clips on the vision thread: what goes together, and that nothing stops it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from bt_model.assembly.load import load
from bt_model.chat import VideoChat
from server.worker.vision import MAX_CLIPS_PER_BATCH, VisionBatcher
from tests import tiny


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> VideoChat:
    folder = tmp_path_factory.mktemp("weights")
    tiny.write_model_folder(folder)
    return load(tiny.MODEL, folder, device="cpu")


def clip(num_frames: int = 2, seed: int = 0) -> Tensor:
    return tiny.clips(1, num_frames, seed)[0]


async def test_clips_of_one_shape_are_encoded_together_up_to_a_bound(chat: VideoChat) -> None:
    batcher = VisionBatcher()
    clips = [clip(seed=n) for n in range(MAX_CLIPS_PER_BATCH + 3)]
    made = await asyncio.gather(*(batcher.encode(pixels, {"m": chat}) for pixels in clips))
    assert {each.num_clips for each in made} == {MAX_CLIPS_PER_BATCH, 3}
    assert batcher.passes.total == len(clips)
    for pixels, each in zip(clips, made, strict=True):
        tokens = each.tokens["m"]
        assert isinstance(tokens, Tensor)
        torch.testing.assert_close(tokens, chat.encode(pixels[None])[0], rtol=1e-4, atol=1e-4)


async def test_tokens_do_not_keep_their_batch_alive(chat: VideoChat) -> None:
    batcher = VisionBatcher()
    made = await asyncio.gather(*(batcher.encode(clip(seed=n), {"m": chat}) for n in range(3)))
    for each in made:
        tokens = each.tokens["m"]
        assert isinstance(tokens, Tensor)
        assert tokens.untyped_storage().nbytes() == tokens.nbytes


async def test_a_batch_that_cannot_even_be_made_fails_its_clips_and_the_next_is_encoded(
    chat: VideoChat,
) -> None:
    batcher = VisionBatcher()
    no_pixels = cast("Tensor", SimpleNamespace(shape=(1,)))
    bad, good = await asyncio.gather(
        batcher.encode(no_pixels, {"m": chat}), batcher.encode(clip(), {"m": chat})
    )
    assert isinstance(bad.tokens["m"], TypeError)
    assert isinstance(good.tokens["m"], Tensor)
    assert isinstance((await batcher.encode(clip(), {"m": chat})).tokens["m"], Tensor)


async def test_one_models_refusal_is_its_own(chat: VideoChat) -> None:
    broken = cast(Any, SimpleNamespace(encoder=chat.encoder, card=SimpleNamespace(pooling="none such")))
    made = await VisionBatcher().encode(clip(), {"good": chat, "bad": broken})
    assert isinstance(made.tokens["good"], Tensor)
    assert isinstance(made.tokens["bad"], Exception)


async def test_one_who_leaves_spares_the_others(chat: VideoChat) -> None:
    batcher = VisionBatcher()
    leaving = asyncio.create_task(batcher.encode(clip(), {"m": chat}))
    staying = asyncio.create_task(batcher.encode(clip(seed=1), {"m": chat}))
    await asyncio.sleep(0)
    leaving.cancel()
    assert isinstance((await staying).tokens["m"], Tensor)
    assert isinstance((await batcher.encode(clip(), {"m": chat})).tokens["m"], Tensor)
