"""Arrays in the memory of a GPU made of the CPU, as edgecar and other libraries have them."""

import numpy as np

from edgecar.runtime.cuda.arrays import DeviceArray
from edgecar.runtime.cuda.device import Memory
from tests.runtime.cuda.host_device import HostDevice


def on_device(device: HostDevice, frame, pitch: int) -> DeviceArray:
    channels, height, width = frame.shape
    memory = device.memory(channels * height * pitch)
    memory.host.reshape(channels, height, pitch)[:, :, :width] = frame
    return DeviceArray(memory.address, frame.shape, (height * pitch, pitch), memory)


def from_device(array: DeviceArray):
    """As another library would read it."""
    metadata = array.__cuda_array_interface__
    assert metadata["typestr"] == "|u1"
    memory: Memory = array.owner
    start = metadata["data"][0] - memory.address
    return np.lib.stride_tricks.as_strided(
        memory.host[start:], metadata["shape"], metadata["strides"]
    )
