"""The branch against the published computation by loops (docs/published-models.md, "Branch layers")."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from bt_model.config import BTAdapterConfig
from bt_model.errors import InvalidValueError
from bt_model.vision.bt_adapter import BTAdapter
from tests import tiny
from tests.bt_model.vision.packed import noise, packed_branch
from tests.tiny import MAX_FRAMES, D, K, P

B = 2
SUM = BTAdapterConfig(num_layers=K, max_frames=MAX_FRAMES, middle_scale=None, output_scale=None)


def trunk(batch: int, num_frames: int, seed: int = 0) -> list[Tensor]:
    return [noise(batch, num_frames, 1 + P, D, seed=seed + 10 * k) for k in range(K)]


@pytest.fixture
def adapter() -> BTAdapter:
    return tiny.adapter()


@pytest.fixture
def position() -> Tensor:
    return noise(1 + P, D, seed=77)


def assert_equals_packed(
    adapter: BTAdapter, states: Sequence[Tensor], position: Tensor, counter: int, *, compat: bool = False
) -> None:
    out = adapter(states, position, upstream_compat=compat)[-1]
    for b in range(len(states[0])):
        patches, cls = packed_branch(adapter, [x[b] for x in states], position, counter, range(P))
        torch.testing.assert_close(out.patches[b], patches, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(out.cls[b], cls, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_frames", [1, 2, 3, MAX_FRAMES])
def test_the_branch_equals_the_packed_definition(
    adapter: BTAdapter, position: Tensor, num_frames: int
) -> None:
    assert_equals_packed(adapter, trunk(B, num_frames), position, counter=num_frames)


def test_without_gates_the_trunk_is_added(position: Tensor) -> None:
    assert_equals_packed(tiny.adapter(SUM), trunk(B, 4), position, counter=4)


@pytest.mark.parametrize("num_frames", [2, 4, 6, 8])
def test_upstream_compat_equals_the_published_halved_counter(
    adapter: BTAdapter, position: Tensor, num_frames: int
) -> None:
    assert_equals_packed(adapter, trunk(B, num_frames), position, counter=num_frames // 2, compat=True)


def test_upstream_compat_changes_the_result(adapter: BTAdapter, position: Tensor) -> None:
    states = trunk(B, 4)
    apart = (
        adapter(states, position, upstream_compat=True)[-1].patches - adapter(states, position)[-1].patches
    )
    assert apart.abs().max() > 0.1


@pytest.mark.parametrize("num_frames", [1, 3, 7])
def test_upstream_compat_refuses_odd_frame_counts(
    adapter: BTAdapter, position: Tensor, num_frames: int
) -> None:
    with pytest.raises(InvalidValueError, match=rf"num_frames is {num_frames}; allowed: an even number"):
        adapter(trunk(1, num_frames), position, upstream_compat=True)


@pytest.mark.parametrize("num_frames", [MAX_FRAMES + 1, 2 * MAX_FRAMES + 1, 2 * MAX_FRAMES + 2])
def test_frame_counts_that_cannot_be_merged_are_refused(
    adapter: BTAdapter, position: Tensor, num_frames: int
) -> None:
    allowed = f"num_frames is {num_frames}; allowed: 1 to 8, or an even number up to 16"
    with pytest.raises(InvalidValueError, match=allowed) as caught:
        adapter(trunk(1, num_frames), position)
    assert caught.value.param == "num_frames"


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("num_frames", [MAX_FRAMES + 2, 2 * MAX_FRAMES])
def test_more_frames_than_times_are_averaged_in_neighbouring_pairs(
    adapter: BTAdapter, position: Tensor, num_frames: int, compat: bool
) -> None:
    states = trunk(B, num_frames)
    halved = [torch.stack([(x[:, i] + x[:, i + 1]) / 2 for i in range(0, num_frames, 2)], 1) for x in states]
    merged, expected = adapter(states, position, upstream_compat=compat)[-1], adapter(halved, position)[-1]
    torch.testing.assert_close(merged.patches, expected.patches)
    torch.testing.assert_close(merged.cls, expected.cls)


def test_fewer_trunk_layers_run_fewer_branch_layers(adapter: BTAdapter, position: Tensor) -> None:
    assert_equals_packed(adapter, trunk(B, 4)[:-1], position, counter=4)


def test_a_batch_of_clips_equals_single_clips(adapter: BTAdapter, position: Tensor) -> None:
    states = trunk(3, 4)
    together = adapter(states, position)[-1]
    alone = [adapter([x[b : b + 1] for x in states], position)[-1] for b in range(3)]
    torch.testing.assert_close(together.patches, torch.cat([one.patches for one in alone]))
    torch.testing.assert_close(together.cls, torch.cat([one.cls for one in alone]))


def test_all_patches_visible_equals_no_mask(adapter: BTAdapter, position: Tensor) -> None:
    states = trunk(B, 4)
    everything = torch.arange(P).expand(B, P)
    masked, plain = adapter(states, position, visible=everything)[-1], adapter(states, position)[-1]
    torch.testing.assert_close(masked.patches, plain.patches)
    torch.testing.assert_close(masked.cls, plain.cls)


def test_a_mask_computes_the_definition_on_the_visible_patches(adapter: BTAdapter, position: Tensor) -> None:
    states = trunk(B, 4)
    visible = torch.tensor([[0, 3, 8], [2, 4, 5]])
    out = adapter(states, position, visible=visible)[-1]
    for b in range(B):
        own = [x[b] for x in states]
        patches, cls = packed_branch(adapter, own, position, 4, visible[b].tolist())
        torch.testing.assert_close(out.patches[b], patches, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(out.cls[b], cls, rtol=1e-4, atol=1e-4)


def test_hidden_patches_do_not_matter(adapter: BTAdapter, position: Tensor) -> None:
    states = trunk(B, 4)
    visible = torch.tensor([[0, 3, 8], [2, 4, 5]])
    changed = [x.clone() for x in states]
    for x in changed:
        x[0, :, 1 + 4] += 5
        x[1, :, 1 + 8] += 5
    before, after = (adapter(x, position, visible=visible)[-1] for x in (states, changed))
    assert torch.equal(before.patches, after.patches)
    assert torch.equal(before.cls, after.cls)


def fresh(seed: int) -> BTAdapter:
    """As training starts: only the temporal layers and the time table depend on the seed."""
    torch.manual_seed(seed)
    branch = BTAdapter(tiny.VISION, tiny.ADAPTER).requires_grad_(requires_grad=False)
    branch.init_from_trunk(tiny.tower())
    return branch


def test_a_fresh_branch_does_not_depend_on_its_temporal_attention(position: Tensor) -> None:
    first, second = fresh(1), fresh(2)
    second.time_embed.load_state_dict(first.time_embed.state_dict())
    a, b = first(trunk(B, 4), position)[-1], second(trunk(B, 4), position)[-1]
    assert torch.equal(a.patches, b.patches)
    assert torch.equal(a.cls, b.cls)


def test_a_fresh_branch_without_times_cannot_see_the_order_of_frames(position: Tensor) -> None:
    branch = fresh(1)
    branch.time_embed.weight.zero_()
    states = trunk(B, 4)
    forward, backward = branch(states, position)[-1], branch([x.flip(1) for x in states], position)[-1]
    torch.testing.assert_close(forward.patches, backward.patches.flip(1))
    torch.testing.assert_close(forward.cls, backward.cls)


def test_a_trained_branch_sees_the_order_of_frames(adapter: BTAdapter, position: Tensor) -> None:
    states = trunk(B, 4)
    forward, backward = adapter(states, position)[-1], adapter([x.flip(1) for x in states], position)[-1]
    assert (forward.cls - backward.cls).abs().max() > 1e-3


def test_spatial_layers_start_as_the_last_trunk_layers() -> None:
    tower, branch = tiny.tower(), fresh(1)
    for k in range(K):
        theirs = tower.layers[tiny.VISION.num_layers - K + k].state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in branch.spatial[k].state_dict().items())


def test_gates_are_the_trunks_share(adapter: BTAdapter) -> None:
    gates = adapter.output_gate, adapter.middle_gate
    torch.testing.assert_close(gates, (torch.sigmoid(adapter.balance1), torch.sigmoid(adapter.balance2)))


def test_without_scales_there_are_no_gates() -> None:
    branch = BTAdapter(tiny.VISION, SUM)
    assert branch.output_gate is None
    assert branch.middle_gate is None
    assert not [name for name in branch.state_dict() if "balance" in name]


def test_concurrent_calls_with_different_frame_counts_do_not_disturb_each_other(
    adapter: BTAdapter, position: Tensor
) -> None:
    jobs = [trunk(1, t, seed=t) for t in (2, 5, 8, 16)] * 6
    alone = [adapter(states, position)[-1].cls for states in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda states: adapter(states, position)[-1].cls, jobs))
    torch.testing.assert_close(together, alone)
