"""A checkpoint to a checked ONNX artifact."""
