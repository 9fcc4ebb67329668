"""Studies behind `benchmarks/results`, one module each: ``python -m benchmarks.run.NAME``."""
