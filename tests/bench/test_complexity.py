import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.run.design_space import Candidate, Shape
from benchmarks.run.page_tables import tflops_as_printed
from edgecar.bench.complexity import complexity, complexity_row
from edgecar.bench.results import ROW_KEYS
from edgecar.errors import SettingsError
from edgecar.evaluate.tables import published
from edgecar.zoo.edgecar_net import EdgecarConfig, EdgecarNet
from edgecar.zoo.registry import CARDS, card_named

PRINTED = published()["complexity"]
BUILDABLE = [row for row in PRINTED if row["network"] != "dcsc"]


def row_id(row: dict) -> str:
    return f"{row['network']}-{row['channels']}-{row['size'][1]}"


def built(name: str, channels: int = 1) -> nn.Module:
    card = card_named(name)
    with torch.device("meta"):
        return card.build(card.config(channels))


@pytest.mark.parametrize("row", BUILDABLE, ids=row_id)
def test_printed_figures_come_out_to_the_last_digit(row: dict) -> None:
    cost = complexity(built(row["network"], row["channels"]), row["channels"], *row["size"])
    assert cost.params == row["params"]
    assert f"{cost.published_memory_mb:.2f}" == f"{row['memory_mb']:.2f}"
    if "tflops" in row:
        assert tflops_as_printed(cost.published_tflops) == f"{row['tflops']:.2f}"
        # The intermediate rounding may move the last digit, never more.
        assert abs(cost.published_tflops - row["tflops"]) < 0.01


@pytest.mark.parametrize(
    ("layer", "channels", "macs", "published_macs"),
    [
        # 10×20 outputs × 4 maps × (2 channels × 9 taps); the bias adds one per output
        (nn.Conv2d(2, 4, 3, padding=1), 2, 14_400, 14_400 + 800),
        (nn.Conv2d(2, 4, 3, padding=1, bias=False), 2, 14_400, 14_400),
        # 5×10 outputs × 4 × (2 × 36)
        (nn.Conv2d(2, 4, 6, stride=2, padding=2), 2, 14_400, 14_400 + 200),
        # two groups halve the channels seen
        (nn.Conv2d(2, 4, 3, padding=1, groups=2), 2, 7_200, 7_200 + 800),
        # 20×40 outputs × 3 × (2 × 81) printed; 10×20 inputs × 2 × (3 × 81) done: a quarter
        (
            nn.ConvTranspose2d(2, 3, 9, stride=2, padding=4, output_padding=1),
            2,
            97_200,
            388_800 + 2_400,
        ),
        # the same with two groups, each of one input and two outputs
        (
            nn.ConvTranspose2d(2, 4, 9, stride=2, padding=4, output_padding=1, groups=2),
            2,
            64_800,
            259_200 + 3_200,
        ),
        # at stride 1 a transposed convolution is a convolution
        (nn.ConvTranspose2d(2, 4, 3, padding=1, bias=False), 2, 14_400, 14_400),
        (nn.Linear(20, 7), 1, 10 * 7 * 20, 10 * 7 * 21),
        (nn.Sequential(nn.PReLU(), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1)), 2, 0, 0),
    ],
)
def test_layers_counted_by_hand(
    layer: nn.Module, channels: int, macs: int, published_macs: int
) -> None:
    cost = complexity(nn.Sequential(layer), channels, 10, 20)
    assert (cost.macs, cost.published_macs) == (macs, published_macs)


def test_memory_counted_by_hand() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(inplace=True))

        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return self.convs(picture)

    # Input 32, the outputs of convolution, ReLU and block 64 each, not of Sequential or root; 20
    # parameters.
    cost = complexity(nn.Sequential(Block()), 1, 4, 8)
    assert cost.published_memory_mb == (32 + 2 * 3 * 64 + 20) * 4 / 2**20


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
@pytest.mark.parametrize("channels", [1, 3])
def test_true_macs_are_those_of_torchs_own_counter(card, channels: int) -> None:
    network = built(card.name, channels)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        network.eval()(torch.empty(1, channels, 64, 96, device="meta"))
    cost = complexity(network, channels, 64, 96)
    assert cost.macs == counter.get_total_flops() / 2  # it counts a multiply and an add
    assert cost.macs > 0


@pytest.mark.parametrize(
    ("name", "most"), [("edgecar-xs", 3.0), ("edgecar-s", 10.0), ("edgecar-m", 60.0)]
)
def test_our_networks_stay_inside_their_budget(name: str, most: float) -> None:
    assert 0.5 * most < complexity(built(name), 1, 720, 1280).kmacs_per_px <= most


def test_units() -> None:
    cost = complexity(nn.Sequential(nn.Conv2d(1, 10, 1)), 1, 100, 1000)
    assert cost.gmacs == 1e-3
    assert cost.kmacs_per_px == 0.01
    assert cost.published_tflops == pytest.approx(2e6 * 30 / 1e12)  # floating-point product


def test_a_large_frame_costs_what_its_pixels_do() -> None:
    # 4K features of MSFAN would take 2 GB a layer, were they real.
    small, large = (complexity(built("fastarcnn"), 1, h, w) for h, w in ((216, 384), (2160, 3840)))
    assert large.macs == 100 * small.macs
    wide = complexity(built("msfan"), 1, 2160, 3840)
    assert wide.published_memory_mb > 100_000


def test_the_callers_network_is_left_alone() -> None:
    network = EdgecarNet(EdgecarConfig()).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    complexity(network, 1, 32, 32)
    assert network.training
    assert all(not module._forward_hooks for module in network.modules())
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_training_branches_are_refused_not_miscounted() -> None:
    network = Candidate(Shape(8, 3, branches=True))
    with pytest.raises(SettingsError, match=r"BranchedConv.*folded"):
        complexity(network, 1, 16, 16)
    assert complexity(network.folded(), 1, 16, 16).macs > 0


@pytest.mark.parametrize(("channels", "height"), [(3, 32), (1, 33)])
def test_a_shape_that_the_network_cannot_read_is_explained(channels: int, height: int) -> None:
    with pytest.raises(SettingsError, match=f"EdgecarNet cannot read {channels}×{height}×32"):
        complexity(built("edgecar-xs"), channels, height, 32)


def test_rows_have_the_keys_of_a_result_file() -> None:
    row = complexity_row("msfan", 1, (32, 32))
    assert set(row) == ROW_KEYS["bench"]
    assert (row["params"], row["fps"], row["engine"]) == (765_587, None, None)
