"""Bytes by formula, on an MLP and on ResNet-18; norms, dead channels and kept gradients on nets whose truth is known."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from steelyard.measure.learning import Net, Operators, Pace, Rectified, SavedTensors, held_bytes, norms, roles


def kept(net, inputs):
    with SavedTensors([*net.parameters(), *net.buffers()]) as saved:
        outputs = net(inputs)
    found = saved.kept_bytes
    outputs.sum().backward()  # the graph is alive until here
    return found


def test_an_mlp_keeps_its_inputs_and_what_its_rectifiers_gave():
    """A product keeps its input for its weight's gradient, ReLU its output: the same storage as the next product's input."""
    n, widths = 32, (20, 50, 30, 7)
    net = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 30), nn.ReLU(), nn.Linear(30, 7))
    assert kept(net, torch.randn(n, 20)) == 4 * n * sum(widths[:-1])


def test_tanh_and_dropout_keep_what_their_formulas_need():
    n = 16
    net = nn.Sequential(nn.Linear(8, 10), nn.Tanh(), nn.Dropout(0.5), nn.Linear(10, 4))
    inputs, tanh, mask, dropped = 4 * n * 8, 4 * n * 10, n * 10, 4 * n * 10
    found = kept(net, torch.randn(n, 8))
    assert found in (
        inputs + tanh + mask + dropped,
        inputs + tanh + 4 * mask + dropped,
    )  # the mask is of bytes, or of floats


def numbers_of(kind, module, out):
    """Bytes that a module of ResNet keeps beside what the module before it keeps anyway."""
    size = out.numel()
    return {
        nn.Conv2d: 4 * size,  # what the normalisation behind it takes
        nn.BatchNorm2d: 2 * 4 * getattr(module, "num_features", 0),  # mean and inverse deviation of the batch
        nn.ReLU: 4 * size,  # in place, on the storage that a normalisation or an addition gave
        nn.MaxPool2d: 4 * size + 8 * size,  # what the next convolution takes, and indices of 64 bits
    }[kind]


def test_resnet18_keeps_what_convolutions_normalisations_and_pooling_need():
    from torchvision.models import resnet18

    net, inputs = resnet18(num_classes=10), torch.randn(2, 3, 64, 64)
    sizes = []
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d)
    for module in net.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda m, _given, out: sizes.append(numbers_of(type(m), m, out)))
    found = kept(net, inputs)
    assert found == sum(sizes) + 4 * inputs.numel() + 4 * 2 * 512  # the first convolution's input, and the classifier's


def test_a_part_that_is_computed_again_keeps_its_input_alone():
    block = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8), nn.Tanh())

    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = block

        def forward(self, x):
            return checkpoint(self.block, x, use_reentrant=False) * 1.0

    n = 16
    inputs = torch.randn(n, 8, requires_grad=True)
    assert kept(Again(), inputs) <= 4 * n * 8
    assert kept(block, inputs) == 4 * n * (8 + 64 + 8)


def test_what_nobody_keeps_any_more_is_not_counted():
    with SavedTensors([]) as saved:
        (torch.randn(1000, requires_grad=True) ** 2).sum()  # its graph dies at once
    assert saved.kept_bytes == 0


def test_counting_changes_no_gradient():
    found = []
    for counting in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3)
        )
        inputs = torch.randn(5, 1, 8, 8)
        if counting:
            with SavedTensors(net.parameters()), Rectified(), Operators():
                outputs = net(inputs)
        else:
            outputs = net(inputs)
        F.cross_entropy(outputs, torch.tensor([0, 1, 2, 0, 1])).backward()
        found.append([p.grad for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_roles_of_weights_gradients_and_state_are_their_bytes():
    net = nn.Sequential(nn.Linear(10, 20), nn.BatchNorm1d(20), nn.Linear(20, 5))
    numbers = sum(p.numel() for p in net.parameters())
    buffers = 4 * 2 * 20 + 8
    for made, states in (
        (torch.optim.AdamW(net.parameters()), 2),
        (torch.optim.SGD(net.parameters(), 0.1, momentum=0.9), 1),
    ):
        net(torch.randn(4, 10)).sum().backward()
        made.step()
        found = roles(net, made)
        steps = 4 * len(list(net.parameters())) if states == 2 else 0  # Adam counts its steps in a tensor each
        assert found == {
            "weights": 4 * numbers + buffers, "gradients": 4 * numbers, "optimiser": 4 * numbers * states + steps,
        }  # fmt: skip


def test_storages_that_two_tensors_share_count_once():
    whole = torch.zeros(100)
    assert held_bytes([whole, whole[:10], whole.view(10, 10).t()]) == 400


def test_norms_are_those_of_numpy():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(3, 4)), rng.normal(size=7)]
    found = norms([torch.from_numpy(arrays[0]), None, torch.from_numpy(arrays[1])])
    assert found[[0, 2]] == pytest.approx([np.linalg.norm(a) for a in arrays])
    assert np.isnan(found[1])


def test_dead_channels_are_those_that_gave_nothing_in_any_batch():
    layer = nn.Linear(4, 5)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([1.0, -1.0, -1.0, 1.0, -1.0]))
        layer.weight[2, 0] = 10.0  # alive where the first input is large
    rectified = Rectified()
    for inputs in (torch.zeros(3, 4), torch.ones(3, 4)):
        with rectified:
            F.relu(layer(inputs))
    assert rectified.dead_shares().tolist() == [2 / 5]
    assert rectified.dead_shares().size == 0


def test_channels_are_the_second_axis_of_pictures_and_the_last_of_sequences():
    rectified = Rectified()
    pictures = -torch.ones(2, 4, 3, 3, requires_grad=True)
    words = torch.cat([torch.ones(2, 5, 6), -torch.ones(2, 5, 2)], dim=2).requires_grad_()
    with rectified:
        F.relu(pictures)
        torch.relu(words)
    assert rectified.dead_shares().tolist() == [1.0, 0.25]


def watched(steps, *, clear=True, every=1):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    seen = Net(net, sgd, Pace(lambda: 0.0, every=every))
    norm, change = [], []
    for _ in range(steps):
        looked = seen.look()
        loss = F.cross_entropy(net(torch.randn(10, 6)), torch.randint(3, (10,)))
        if looked:
            seen.leave()
        loss.backward()
        weights = [net[0].weight.detach().clone(), net[2].weight.detach().clone()]
        norm.append([float(net[0].weight.grad.norm()), float(net[2].weight.grad.norm())])
        sgd.step()
        change.append(
            [
                float((w.detach() - b).norm() / b.norm())
                for w, b in zip((net[0].weight, net[2].weight), weights, strict=True)
            ]
        )
        if clear:
            sgd.zero_grad()
    seen.epoch()
    seen.detach()
    return seen, np.array(norm), np.array(change)


def test_gradients_and_updates_are_read_at_the_steps_asked_for():
    seen, norm, change = watched(7, every=3)
    assert seen.steps == [0, 3, 6]
    assert seen.layers == ("0.weight", "2.weight")
    assert np.array(seen.gradient_norms) == pytest.approx(norm[::3], rel=1e-6)
    assert np.array(seen.updates) == pytest.approx(change[::3], rel=1e-5)
    assert seen.dead_table().shape == (1, 1)


def test_readings_hold_every_role_and_the_operators():
    seen, *_ = watched(4)
    found = {(r.quantity, r.conditions.get("role")): r for r in seen.readings()}
    assert found["training_memory_bytes", "activations"].value == 4 * 10 * (6 + 8) + 4 * 10 * 3 + 8 * 10 + 4
    assert found["forward_operators", None].value > 3
    assert found["evaluation_mode", None].value == 0


@pytest.mark.parametrize("clear", [True, False])
def test_gradients_that_are_never_cleared_are_found(clear):
    seen, *_ = watched(6, clear=clear)
    found = {r.quantity: r for r in seen.readings()}
    assert found["kept_gradients_share"].value == (0.0 if clear else 1.0)


def test_the_pace_keeps_to_its_share_of_the_time():
    now = [0.0]
    pace = Pace(lambda: now[0], share=0.01)

    def look():
        now[0] += 0.5

    looks = 0
    for step in range(2000):
        now[0] += 1.0
        if pace.due(step):
            pace.spend(look)
            looks += 1
    assert looks * 0.5 / now[0] == pytest.approx(0.01, rel=0.1)
