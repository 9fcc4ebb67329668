"""Settings of an export: `export/recipes/<network>.toml` over `default.toml`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from edgecar.errors import SettingsError
from edgecar.files import shipped, table_from_toml

Lower = Literal["fp16", "int8"]
ForEngine = Literal["openvino", "tensorrt", "onnxruntime"]
"""Engines that INT8 is written down for."""


@dataclass(frozen=True)
class Recipe:
    """Settings of one export.

    Attributes:
        opset: ONNX operator set; 19 is the newest that TensorRT 10.3 reads with FP16 scales.
        ir_version: ONNX file version; 10 is the newest that TensorRT 10.3 reads.
        parity_max_error: Largest allowed difference to the torch network, of 1.0.
        loss_db: PSNR that a lower precision may lose against FP32 on average.
        worst_loss_db: PSNR that it may lose on any picture.
        int8_least_share: Least share of all multiply-accumulates that INT8 must do in eight bits,
            0 to 1; with less it is hardly faster than FP16.
        channel_outliers: Share of a channel's values, the largest, that do not count when INT8
            gives channels one range, 0 to 1.
    """

    opset: int
    ir_version: int
    parity_max_error: float
    loss_db: float
    worst_loss_db: float
    int8_least_share: float
    channel_outliers: float


def recipe_for(network: str, path: Path | None = None) -> Recipe:
    """Return the recipe of a network: the default, overlaid with its own file or ``path``.

    Raises:
        SettingsError: A file is not TOML, or has an unknown key or a value that is no number.
    """
    folder = shipped("export", "recipes")
    own = path or folder / f"{network}.toml"
    kinds = {field.name: field.type for field in fields(Recipe)}
    table: dict[str, Any] = {}
    for file in [folder / "default.toml", *([own] if path or own.exists() else [])]:
        try:
            given = table_from_toml(file)
        except (OSError, ValueError) as error:  # not TOML, or not even text
            raise SettingsError(f"cannot read recipe {file}: {error}") from error
        for key, value in given.items():
            if key not in kinds:
                raise SettingsError(f"{file}: unknown key {key!r}; known are {', '.join(kinds)}")
            if type(value) not in (int, kinds[key]):  # a whole number is also a float
                raise SettingsError(f"{file}: {key} is {value!r}, need a number")
        table |= given
    return Recipe(**table)
