"""Who is compared takes turns."""

from edgecar.runtime.tune import timed_rounds


def test_contenders_take_turns():
    calls: list[str] = []

    def called(name: str, fps: float):
        def run() -> float:
            calls.append(name)
            return fps

        return run

    rates = timed_rounds({"a": called("a", 1.0), "b": called("b", 2.0)}, seconds=0)
    assert calls == ["a", "b"] * 3
    assert rates == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_rounds_go_on_until_the_time_is_over(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("edgecar.runtime.tune.time.perf_counter", lambda: next(clock))
    # It is asked once to begin with, and once before each round after the least.
    assert len(timed_rounds({"a": lambda: 1.0}, seconds=5, least=1)["a"]) == 5
    assert len(timed_rounds({"a": lambda: 1.0}, seconds=5, least=9)["a"]) >= 9
