"""Settings of an export: `export/recipes/<network>.toml` over `default.toml`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgecar.errors import SettingsError
from edgecar.files import shipped, table_from_toml


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
    """The recipe of a network: the default, overlaid with its own file or ``path``.

    Raises:
        SettingsError: A file is not TOML, or has an unknown key or a value that is no number.
    """
    folder = shipped("export", "recipes")
    table = _table(folder / "default.toml")
    own = path or folder / f"{network}.toml"
    if own.exists() or path is not None:
        table |= _table(own)
    return Recipe(**table)


def _table(path: Path) -> dict[str, Any]:
    try:
        table = table_from_toml(path)
    except (OSError, ValueError) as error:  # not TOML, or not even text
        raise SettingsError(f"cannot read recipe {path}: {error}") from error
    known = [field.name for field in fields(Recipe)]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise SettingsError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    for field in fields(Recipe):
        value = table.get(field.name, 0)
        if type(value) not in (int, field.type):  # a whole number is also a float
            raise SettingsError(f"{path}: {field.name} is {value!r}, need a number")
    return table
