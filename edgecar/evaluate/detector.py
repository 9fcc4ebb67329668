"""Third-party object detectors as ONNX files: frames in, boxes out.

With supervision (``pip install supervision``), which draws:

    import cv2
    import supervision as sv
    from edgecar.evaluate.detector import Detector

    detect = Detector("yolox_nano.onnx")
    bgr = cv2.imread("frame.png")
    found = detect(bgr).at_least(0.25)
    objects = sv.Detections(found.boxes, None, found.scores, found.classes)
    shown = sv.BoxAnnotator().annotate(bgr.copy(), objects)
"""

import ast
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.engines.libraries import imported_onnxruntime
from edgecar.errors import EngineError, SettingsError
from edgecar.evaluate.detector_decoders import Detections, Outputs, head_of, without_overlaps
from edgecar.files import sha256_of
from edgecar.media.color import Bgr
from edgecar.spec import Size

DEFAULT_SIDE_PX = 640
ALIGN_PX = 32  # largest stride of the common grids
PAD_CODE = 114  # the grey beside letterboxed frames in YOLOX and Ultralytics
LOWEST_SCORE = 0.01
"""Detections below this score carry no information, and there are many."""
MOST_OBJECTS = 100
"""Most objects in a frame, by the convention of COCO."""
COCO_CLASSES = Path(__file__).with_name("coco.txt").read_text("utf-8").splitlines()
"""The 80 classes of COCO in the order of detectors trained on it (Lin et al., ECCV 2014)."""
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Detector:
    """A detector whose head is recognised by its outputs; runs in ONNX Runtime on the CPU.

    Args:
        path: ONNX file: an export of YOLOX, YOLOv5, YOLOv8, YOLO11 or FastestDet, or any graph with
            outputs named ``boxes`` (left, top, right, bottom in pixels), ``labels`` and ``scores``.
        size: ``(height, width)`` of the input where the graph leaves it open, multiples of 32; 640
            each way if not given. A graph with a size of its own keeps it.
        threads: CPU threads; 0: all.

    Raises:
        EngineError: ONNX Runtime is absent or refuses the file, or it is no detector whose head is
            understood.
        SettingsError: The size is no multiple of 32.
    """

    def __init__(self, path: str | Path, size: Size | None = None, threads: int = 0) -> None:
        path = Path(path)
        self._session = _session(path, threads)
        self._inputs = self._session.get_inputs()
        self.size: Size = _size_of(self._inputs[0].shape, size)
        self.sha256 = sha256_of(path)
        self.name = path.stem
        meta = self._session.get_modelmeta().custom_metadata_map
        task = meta.get("task", "detect")  # as Ultralytics writes it
        if task != "detect":
            raise EngineError(f"{path} is made to {task}; give a detector (task 'detect')")
        noise = np.random.default_rng(0).integers(0, 256, (*self.size, 3), np.uint8)
        try:
            self.head = head_of(self._run(noise.astype(np.float32)), self.size)
        except EngineError as error:
            raise EngineError(f"{path}: {error}") from error
        # Where neither outputs nor file tell the classes, they are most likely COCO's.
        coco = COCO_CLASSES if self.head.classes in (None, len(COCO_CLASSES)) else []
        self.class_names: dict[int, str] = dict(enumerate(coco))
        with suppress(ValueError, SyntaxError, TypeError):
            names = ast.literal_eval(meta.get("names", ""))  # as Ultralytics writes them
            self.class_names = {int(number): str(name) for number, name in dict(names).items()}

    def __call__(self, bgr: Bgr) -> Detections:
        """Detect at most 100 objects in a picture, ``(H, W, 3)`` uint8, best first.

        Boxes are in pixels of the picture, scores from 0.01.

        Raises:
            EngineError: The detector fails.
        """
        height, width = bgr.shape[:2]
        scale = min(self.size[0] / height, self.size[1] / width)
        inner = self.size  # of the frame inside the input
        if self.head.fit != "stretch":
            inner = round(height * scale), round(width * scale)
        top, left = 0, 0
        if self.head.fit == "centre":
            top, left = (self.size[0] - inner[0]) // 2, (self.size[1] - inner[1]) // 2
        placed = np.full((*self.size, 3), PAD_CODE, np.float32)
        resized = cv2.resize(bgr, inner[::-1], interpolation=cv2.INTER_LINEAR)
        placed[top : top + inner[0], left : left + inner[1]] = resized
        channels = placed if self.head.colours == "bgr" else placed[:, :, ::-1]
        outputs = self._run(channels * np.float32(self.head.full_scale / 255))
        found = self.head.decode(outputs, self.size).at_least(LOWEST_SCORE)
        if self.head.overlaps:
            found = without_overlaps(found)
        factors = width / inner[1], height / inner[0]
        return found.scaled(factors, (-left, -top)).clipped((height, width)).best(MOST_OBJECTS)

    def class_name(self, number: int) -> str:
        """Return the name of a class, or ``class 7`` if the detector has no names."""
        return self.class_names.get(number, f"class {number}")

    def _run(self, picture: NDArray[np.float32]) -> Outputs:
        """Return the outputs by name for a picture ``(H, W, 3)`` of the input's size."""
        first, *others = self._inputs
        planes = np.ascontiguousarray(picture.transpose(2, 0, 1)[None])
        fed: dict[str, NDArray[np.generic]] = {first.name: planes.astype(DTYPES[first.type])}
        for extra in others:  # sizes to scale boxes to: they stay those of the input
            fed[extra.name] = np.array([self.size[::-1]], np.int64)
        names = [output.name for output in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, fed), strict=True))
        except Exception as error:  # its classes are private and share no base
            reason = " ".join(str(error).split())[:200]
            raise EngineError(
                f"the detector fails on {self.size[1]}x{self.size[0]}: {reason}; give another size"
            ) from error


def _session(path: Path, threads: int) -> Any:
    try:
        onnxruntime = imported_onnxruntime()
    except ImportError as error:
        raise EngineError(
            "detectors run in ONNX Runtime, which is not installed; pip install 'edgecar[eval]'"
        ) from error
    if not path.is_file():
        raise EngineError(f"no detector {path}; give an ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its classes are private and share no base
        reason = " ".join(str(error).split())[:200]
        raise EngineError(f"ONNX Runtime refuses detector {path}: {reason}") from error
    first, *others = session.get_inputs()
    fits = len(first.shape) == 4 and first.shape[1] == 3 and first.type in DTYPES
    # `orig_target_sizes` of the DETR family
    sizes = [each for each in others if len(each.shape) == 2 and each.type == "tensor(int64)"]
    if not fits or sizes != others or len(others) > 1:
        listed = ", ".join(f"{i.name} {i.type} {i.shape}" for i in session.get_inputs())
        raise EngineError(
            f"{path} takes {listed}; need a detector of one picture, float N x 3 x H x W (and, "
            "at most, int64 sizes N x 2)"
        )
    return session


def _size_of(shape: list[Any], asked: Size | None) -> Size:
    """Return the size of the input: the graph's own, else the one asked for."""
    own = [side if isinstance(side, int) and side > 0 else None for side in shape[2:]]
    wanted = asked or (DEFAULT_SIDE_PX, DEFAULT_SIDE_PX)
    height, width = (side or want for side, want in zip(own, wanted, strict=True))
    if height % ALIGN_PX or width % ALIGN_PX:
        raise SettingsError(
            f"detector size {width}x{height} is not in steps of {ALIGN_PX}; try "
            f"{math.ceil(width / ALIGN_PX) * ALIGN_PX}x{math.ceil(height / ALIGN_PX) * ALIGN_PX}"
        )
    return height, width
