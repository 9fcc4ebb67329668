"""Backbones of detectors in torch against ONNX Runtime, and the loss that is made with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from edgecar.errors import SettingsError
from edgecar.train import loop
from edgecar.train.degrade import JpegPairs, JpegRange
from edgecar.train.features import Backbone, DetectionLoss, distance
from edgecar.train.fit import Progress, fit, new_run
from edgecar.train.loop import Run
from edgecar.train.recipe import TrainRecipe

CPU = torch.device("cpu")
SIDE = 64
OUTPUTS = ("boxes", "labels", "scores")
DETECTORS = Path(__file__).parents[3] / "shared" / "data" / "detectors"


class Graph:
    """A detector that is written down node by node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self.rng = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Add a node; returns the name of its first output, the others end in .1, .2 …"""
        name = f"{kind}{len(self.nodes)}"
        names = [name, *(f"{name}.{number}" for number in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return name

    def constant(self, values: object, kind: type = np.int64) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    def conv(self, maps: str, channels: int, width: int, kernel: int = 3, **changes: object) -> str:
        groups = int(changes.get("group", 1))  # type: ignore[call-overload]
        shape = (width, channels // groups, kernel, kernel)
        weights = self.rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        pads = [kernel // 2] * 4
        inputs = [self.constant(weights, np.float32), self.constant([0.1] * width, np.float32)]
        return self.add("Conv", maps, *inputs, **{"pads": pads, **changes})

    def shuffled(self, maps: str, channels: int, side: int) -> tuple[str, str]:
        """Even and odd channels, as exports of ShuffleNet write the split."""
        pairs = self.add("Reshape", maps, self.constant([channels // 2, 2, side * side]))
        turned = self.add("Transpose", pairs, perm=[1, 0, 2])
        shape = self.constant([2, -1, channels // 2, side, side])
        halves = self.add("Reshape", turned, shape)
        first, second = (self.add("Gather", halves, self.constant(n), axis=0) for n in (0, 1))
        return first, second

    def write(self, path: Path, end: str, side: int | str = SIDE) -> Path:
        """Finish with a neck and the outputs of a detector."""
        sizes = [self.constant([], np.float32), self.constant([1, 1, 2, 2], np.float32)]
        up = self.add("Resize", end, *sizes, mode="nearest")
        self.nodes += [helper.make_node("Identity", [up], [name]) for name in OUTPUTS]
        outputs = [onnx.ValueInfoProto(name=name) for name in OUTPUTS]
        shape = [1, 3, side, side]
        images = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "detector", [images], outputs, self.constants)
        opset = helper.make_opsetid("", 13)
        onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
        return path


def cut(graph: Graph, maps: str, start: int, axis: int) -> str:
    ranges = [graph.constant([n]) for n in (start, 2**62, axis, 2)]
    return graph.add("Slice", maps, *ranges)


@pytest.fixture
def detector(tmp_path) -> Path:
    """A detector with every operation that is known: two stages, then a neck."""
    graph = Graph()
    quarters = [cut(graph, cut(graph, "images", y, 2), x, 3) for x in (0, 1) for y in (0, 1)]
    maps = graph.conv(graph.add("Concat", *quarters, axis=1), 12, 16)
    maps = graph.add("Mul", maps, graph.add("Sigmoid", maps))
    maps = graph.add("Pad", maps, graph.constant([0, 0, 0, 1, 0, 0, 1, 0]))
    maps = graph.conv(graph.add("Relu", maps), 16, 16, group=16, strides=[2, 2], pads=[0, 0, 1, 1])
    maps = graph.add("MaxPool", maps, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    first, second = graph.shuffled(graph.add("LeakyRelu", maps, alpha=0.2), 16, SIDE // 4)
    maps = graph.add("Concat", first, graph.conv(second, 8, 8), axis=1)
    left = graph.add("Split", maps, graph.constant([4, 12]), outputs=2, axis=1)
    maps = graph.add("Concat", f"{left}.1", left, axis=1)
    maps = graph.add("Add", maps, graph.conv(maps, 16, 16, dilations=[2, 2], pads=[2, 2, 2, 2]))
    maps = graph.add("MaxPool", maps, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    maps = graph.conv(maps, 16, 16, strides=[2, 2])
    return graph.write(tmp_path / "detector.onnx", maps)


def by_onnxruntime(path: Path, names: list[str], picture: np.ndarray) -> list[np.ndarray]:
    model = onnx.load(path)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    fed = {session.get_inputs()[0].name: picture}
    fed |= {extra.name: np.array([[416, 416]]) for extra in session.get_inputs()[1:]}
    features: list[np.ndarray] = session.run(names, fed)
    return features


def pictures(count: int, side: int = SIDE, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def same_features(path: Path, rgb: Tensor, full_scale: float, *, bgr: bool) -> None:
    backbone = Backbone(path, CPU)
    assert len(backbone.features) >= 2
    fed = (rgb.flip(1) if bgr else rgb) * full_scale
    for mine, theirs in zip(
        backbone(rgb), by_onnxruntime(path, backbone.features, fed.numpy()), strict=True
    ):
        # Sums of some hundred products in float32, in another order.
        torch.testing.assert_close(
            mine, torch.from_numpy(theirs), rtol=1e-4, atol=1e-4 * float(np.abs(theirs).max())
        )


def test_features_are_those_of_the_graph(detector) -> None:
    same_features(detector, pictures(1), 1.0, bgr=False)


@pytest.mark.parametrize(
    ("name", "side", "full_scale", "bgr"),
    [
        ("yolox_nano_dyn", 96, 255.0, True),
        ("FastestDet", 352, 1.0, True),
        ("deimv2_femto", 416, 1.0, False),
    ],
)
@pytest.mark.slow
def test_features_of_real_detectors_are_those_of_their_graphs(name, side, full_scale, bgr) -> None:
    path = DETECTORS / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    same_features(path, pictures(1, side), full_scale, bgr=bgr)


def test_pictures_of_any_number_and_size_have_features_of_their_own(detector) -> None:
    backbone = Backbone(detector, CPU)
    rgb = pictures(3, 2 * SIDE)
    together = backbone(rgb)
    for each, alone in zip(together, backbone(rgb[1:2]), strict=True):
        torch.testing.assert_close(each[1:2], alone)
    assert [maps.shape[2] for maps in together] == sorted(
        (maps.shape[2] for maps in together), reverse=True
    )


def test_what_is_upsampled_is_left_out(detector) -> None:
    """What a neck makes of the maps, and halves again, has no part in the features."""
    model = onnx.load(detector)
    names = Backbone(detector, CPU).features
    neck = next(node for node in model.graph.node if node.op_type == "Resize")
    model.graph.node.append(
        helper.make_node("MaxPool", neck.output, ["again"], kernel_shape=[2, 2], strides=[2, 2])
    )
    onnx.save(model, detector)
    assert Backbone(detector, CPU).features == names


def test_gradient_flows_to_the_restored_picture_alone(detector) -> None:
    backbone = Backbone(detector, CPU)
    restored, clean, coded = (each.requires_grad_() for each in pictures(3, channels=1).split(1))
    DetectionLoss([backbone], 0.5)(restored, clean, coded, 0).sum().backward()
    assert (restored.grad != 0).float().mean() > 0.99
    assert clean.grad is not None  # as the goal of the pixels; features are constants
    with torch.no_grad():
        rest = restored.detach().clone().requires_grad_()
    goal = clean.detach().clone().requires_grad_()
    distance(backbone, rest.expand(-1, 3, -1, -1), goal.expand(-1, 3, -1, -1),
             coded.detach().expand(-1, 3, -1, -1)).sum().backward()  # fmt: skip
    assert goal.grad is None
    assert rest.grad is not None


@pytest.mark.parametrize("channels", [1, 3])
def test_loss_is_relative_to_the_coded_crop(detector, channels) -> None:
    loss = DetectionLoss([Backbone(detector, CPU)] * 2, share=0.5)
    clean = pictures(4, channels=channels)
    coded = (clean + 0.5 * (pictures(4, channels=channels).flip(0) - 0.5)).clamp(0, 1)
    unchanged = loss(coded, clean, coded, 3)
    assert (unchanged > 1.3).all()  # the floors take some of it
    assert (unchanged <= 1.5).all()
    torch.testing.assert_close(loss(clean, clean, coded, 3), torch.zeros(4))
    assert torch.equal(loss(clean, clean, clean, 3), torch.zeros(4))  # no error to divide by
    halfway = loss((clean + coded) / 2, clean, coded, 3)
    assert (halfway > 0.1).all()
    assert (halfway < 1).all()


def test_view_depends_on_the_seed_and_is_shared(detector) -> None:
    loss = DetectionLoss([Backbone(detector, CPU)], share=1.0)
    clean = pictures(2, channels=1)
    coded, restored = clean.flip(0), clean * 0.9
    losses = [loss(restored, clean, coded, seed) for seed in (0, 0, 1)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.allclose(losses[0], losses[2])
    # Another gain, scale and noise for one of the three would leave a distance.
    assert float(loss(clean, clean, coded, 7).max()) == 0


def test_training_minimises_it_and_goes_on_exactly(detector, photos, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "REPORT_SECONDS", -1.0)
    recipe = TrainRecipe(
        "edgecar-xs", steps=4, batch=2, patch_px=32, rate=1e-4, rest_rate=1e-4,
        detectors=(str(detector),), feature_share=0.5,
    )  # fmt: skip
    source = JpegPairs([photo[:64, :96] for photo in photos], JpegRange())
    told: list[Progress] = []

    def ran(name: str, steps: int, resume: str = "") -> Run:
        run = new_run(recipe, CPU)
        if resume:
            run.restore(tmp_path / resume)
        run.recipe = replace(recipe, steps=steps)
        fit(run, source, {}, tmp_path / name, told.append)
        run.recipe = recipe
        run.save(tmp_path / name)
        return run

    whole = ran("whole.pt", 4)
    # Fresh weights hardly change a picture: it is as far from the clean one as it was.
    assert told[-1].loss == pytest.approx(1.5, abs=0.5)
    ran("half.pt", 2)
    resumed = ran("rest.pt", 4, resume="half.pt")
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_detector_that_cannot_be_followed_is_refused(tmp_path) -> None:
    flat = Graph()
    path = flat.write(tmp_path / "flat.onnx", flat.conv("images", 3, 16))
    with pytest.raises(SettingsError, match="no maps that are halved before others are upsampled"):
        Backbone(path, CPU)
    odd = Graph()
    maps = odd.add("Erf", odd.conv("images", 3, 16))
    path = odd.write(tmp_path / "odd.onnx", odd.conv(maps, 16, 16, strides=[2, 2]))
    with pytest.raises(
        SettingsError, match=r"odd\.onnx has Erf in its backbone, and training follo"
    ):
        Backbone(path, CPU)
    padded = Graph()
    maps = padded.conv("images", 3, 16, pads=None, auto_pad="SAME_UPPER")
    path = padded.write(tmp_path / "padded.onnx", padded.conv(maps, 16, 16, strides=[2, 2]))
    with pytest.raises(SettingsError, match="with explicit padding"):
        Backbone(path, CPU)
