"""The training protocol, and which parameters and statistics a stage changes."""

import pytest
import torch

from insightr_nb.model.network import INSightRNet
from insightr_nb.settings import RunSettings
from insightr_nb.training.stages import as_table, protocol, training_only


def described(**parameters):
    stages = protocol(RunSettings.from_parameters(**parameters))
    return [(s.name, s.cycle, s.epochs, s.projects, s.selectable) for s in stages]


def test_the_protocol_of_the_paper():
    assert described(preset="paper") == [
        ("warm-up", 1, 5, False, False),
        ("joint", 1, 15, False, False),
        ("last layer", 1, 10, True, True),
        ("joint", 2, 20, False, False),
        ("last layer", 2, 10, True, True),
    ]
    warm_up, joint, last, *_ = protocol(RunSettings.from_parameters(preset="paper"))
    assert warm_up.learning_rates == {"block": 1e-3, "prototype_layer": 1e-3}
    assert joint.learning_rates == {"backbone": 1e-5, "block": 1e-3, "prototype_layer": 1e-3}
    assert last.learning_rates == {"last_layer": 1e-3}


def test_the_released_code_has_one_joint_epoch_more_and_halves_the_rates():
    stages = protocol(RunSettings.from_parameters(preset="released"))
    assert [(s.name, s.epochs) for s in stages] == [
        ("warm-up", 5),
        ("joint", 16),
        ("last layer", 9),
        ("joint", 21),
        ("last layer", 9),
    ]
    assert stages[3].epochs_before == 16
    network = INSightRNet(RunSettings.from_parameters(preset="smoke").model)
    optimizer, schedule = stages[3].optimizer(network)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([1e-5 / 8, 1e-3 / 8, 1e-3 / 8])  # 16 // 5 = 3
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.0, 1e-3, 0.0]
    for _ in range(4):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-5 / 16)  # joint epoch 20


def test_the_baseline_is_one_plain_training():
    (stage,) = protocol(RunSettings.from_parameters(preset="paper", variant="baseline"))
    assert (stage.epochs, stage.learning_rates, stage.halve_every) == (30, {"backbone": 1e-4, "last_layer": 1e-4}, 5)


@pytest.mark.parametrize(
    "parts", [("last_layer",), ("block", "prototype_layer"), ("backbone", "block", "prototype_layer")]
)
def test_frozen_parts_keep_parameters_and_batchnorm_statistics(parts):
    torch.manual_seed(0)
    network = INSightRNet(RunSettings.from_parameters(preset="smoke").model)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with training_only(network, parts):
        network(torch.randn(4, 3, 64, 64)).prediction.sum().backward()
        optimizer.step()
    moved = {k.split(".")[0] for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == set(parts)
    buffers = [k for k in before if "running_" in k and not torch.equal(network.state_dict()[k], before[k])]
    assert bool(buffers) == ("backbone" in parts)


def test_frozen_batchnorm_keeps_its_statistics_while_the_backbone_trains():
    torch.manual_seed(0)
    network = INSightRNet(RunSettings.from_parameters(preset="smoke").model)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with training_only(network, ("backbone",), batchnorm_frozen=True):
        network(torch.randn(4, 3, 64, 64)).prediction.sum().backward()
        torch.optim.Adam(network.backbone.parameters(), 1e-2).step()
    moved = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert {"backbone.conv1.weight", "backbone.bn1.weight"} <= moved
    assert not any("running_" in k or "num_batches" in k for k in moved)


def test_only_the_joint_epochs_of_the_demo_freeze_batchnorm():
    def frozen(**parameters):
        return [
            s.batchnorm_frozen for s in protocol(RunSettings.from_parameters(**parameters)) if s.name != "last layer"
        ]

    assert frozen(preset="demo") == [False, True, True]  # warm-up: the backbone does not train at all
    assert frozen(preset="demo", variant="baseline") == [False]
    assert frozen(preset="demo", variant="backbone") == [False]
    assert frozen(preset="paper") == [False, False, False]


def test_stage_restores_everything_after_an_error():
    network = INSightRNet(RunSettings.from_parameters(preset="smoke").model)

    def fail():
        with training_only(network, ("last_layer",)):
            assert network.last_layer.training
            assert not network.backbone.training
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert not network.training
    assert all(p.requires_grad for p in network.parameters())


def test_the_protocol_as_a_table():
    steps = RunSettings.from_parameters(preset="smoke").steps()
    table = as_table(steps)
    assert len(table) == sum(len(protocol(step)) for step in steps)
    assert table.index[0] == ("backbone", 1, "regression")
    last = table.loc[("insightr", 1, "last layer")]
    assert (last["projection first"], last["selectable"], last["rate of backbone"]) == ("yes", "yes", "frozen")
    assert float(last["rate of last layer"]) == protocol(steps[-1])[-1].learning_rates["last_layer"]
