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
    facts = array.__cuda_array_interface__
    assert facts["typestr"] == "|u1"
    memory: Memory = array.owner
    start = facts["data"][0] - memory.address
    return np.lib.stride_tricks.as_strided(memory.host[start:], facts["shape"], facts["strides"])
