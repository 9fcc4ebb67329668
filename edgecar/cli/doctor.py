"""``edgecar doctor``: what this machine has and which engine would run."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import typer

from edgecar.cli.output import Json, next_step, print_json, status_line, stdout
from edgecar.errors import AnswerError
from edgecar.spec import WEIGHTS_FOR


def command(as_json: Json = False) -> None:
    """Describe the machine, its GPU, the installed libraries and the engines that can run here.

    Where there is a GPU, also what is missing for full speed on it. Every network that ships is run
    on its known answer; exit code 3 says that one came out wrong.

    Example: edgecar doctor
    """
    from edgecar.artifact import shipped_names
    from edgecar.bench.machine import COMMIT, machine_facts, machine_line, versions
    from edgecar.engines.accelerator import accelerator_facts
    from edgecar.engines.select import default_engine, usable_cores

    machine, default = machine_facts(), default_engine()
    accelerator = accelerator_facts()
    engines = {"openvino": bool(find_spec("openvino")), "torch": bool(find_spec("torch"))}
    engines |= dict.fromkeys(accelerator["providers"], True)
    with status_line("known answers") as report:
        answers = shipped_answers(report)
    if as_json:
        print_json(
            {
                "machine": machine,
                "accelerator": accelerator,
                "versions": versions(),
                "commit": COMMIT,
                "usable_cores": usable_cores(),
                "engines": engines,
                "default_engine": default,
                "known_answers": answers,
                "weights": {each: shipped_names(each) for each in WEIGHTS_FOR},
            }
        )
    else:
        usable = ", ".join(name for name, there in engines.items() if there)
        lines = [
            ("machine", machine_line(machine)),
            *(("", f"{name} {version}") for name, version in versions().items()),
            ("engines", f"{usable}; default: {default}, {usable_cores()} core(s)"),
            *_gpu_lines(accelerator),
            *(
                ("" if number else "weights", f"{each}: {', '.join(shipped_names(each)) or 'none'}")
                for number, each in enumerate(WEIGHTS_FOR)
            ),
            *_answer_lines(answers),
        ]
        for label, text in lines:
            stdout.print(f"{label:<10}{text}")
    if any(answer["passed"] is False for answer in answers):
        raise typer.Exit(AnswerError.exit_code)
    if not as_json:
        next_step("edgecar bench --res 1080p")


def shipped_answers(report: Callable[[str], None] = lambda _what: None) -> list[dict[str, Any]]:
    """Open every shipped network here and tell how its known answer came out."""
    from edgecar.artifact import find_artifact, read_artifact, shipped_names
    from edgecar.exporter.inspection import answer_here

    answers = []
    for each in WEIGHTS_FOR:
        for name in shipped_names(each):
            report(f"{name} for {each}")
            artifact = read_artifact(find_artifact(name, each))
            answers.append({"network": name, "for": each, **answer_here(artifact)})
    return answers


def _answer_lines(answers: list[dict[str, Any]]) -> list[tuple[str, str]]:
    passed = [answer for answer in answers if answer["passed"]]
    slowest = max((answer["milliseconds"] for answer in passed), default=0.0)
    summary = (
        f"{len(passed)} of {len(answers)} shipped networks compute what they promise here "
        f"(each checked when it is opened, in {slowest:.0f} ms at most)"
    )
    others = [each for each in answers if not each["passed"]]
    wrong = [("", f"{each['network']} for {each['for']}: {each['words']}") for each in others]
    return [("answers", summary), *wrong]


def _gpu_lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    gpu = found["gpu"]
    if gpu is None:
        return [("gpu", f"none: {found['absence']}")]
    board = f", {gpu['board']}" if gpu["board"] else ""
    target = found["target"] or "none of engines/targets; edgecar build reckons one"
    libraries = ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
    lines = [
        ("gpu", f"{gpu['name']} (compute capability {gpu['compute_capability']}, "
                f"{gpu['multiprocessors']} multiprocessors, {gpu['memory_mib']} MiB{board})"),
        ("", f"driver for CUDA {gpu['cuda']}; {libraries or 'no TensorRT'}; target: {target}"),
        ("", f"ONNX Runtime: {', '.join(found['providers']) or 'none'}; decoders: "
             f"{', '.join(found['decoders']) or 'none'}"),
    ]  # fmt: skip
    if found["power_mode"]:
        lines.append(("", f"power mode {found['power_mode']}"))
    labels = ["missing", *[""] * len(found["missing"])]
    return [*lines, *zip(labels, found["missing"], strict=False)]
