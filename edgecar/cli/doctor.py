"""``edgecar doctor``: what this machine has and which engine would run."""

from importlib.util import find_spec

from edgecar.cli.output import Json, next_step, print_json, stdout
from edgecar.spec import CODERS


def command(as_json: Json = False) -> None:
    """Describe the machine, the installed libraries and the engines that can run here.

    Example: edgecar doctor
    """
    from edgecar.artifact import shipped_names
    from edgecar.bench.machine import COMMIT, machine_facts, machine_line, versions
    from edgecar.engines.select import default_engine, usable_cores

    machine = machine_facts()
    engines = {"openvino": bool(find_spec("openvino")), "torch": bool(find_spec("torch"))}
    if find_spec("onnxruntime"):
        import onnxruntime

        engines |= {
            p.removesuffix("ExecutionProvider"): True for p in onnxruntime.get_available_providers()
        }
    facts = {
        "machine": machine,
        "versions": versions(),
        "commit": COMMIT,
        "usable_cores": usable_cores(),
        "engines": engines,
        "default_engine": default_engine(),
        "weights": {coder: shipped_names(coder) for coder in CODERS},
    }
    if as_json:
        print_json(facts)
        return
    stdout.print(f"machine   {machine_line(machine)}")
    for name, version in versions().items():
        stdout.print(f"          {name} {version}")
    usable = ", ".join(name for name, there in engines.items() if there)
    stdout.print(f"engines   {usable}; default: {default_engine()}, {usable_cores()} core(s)")
    for label, coder in zip(("weights", "", ""), CODERS, strict=True):
        stdout.print(f"{label:<9} {coder}: {', '.join(shipped_names(coder)) or 'none'}")
    next_step("edgecar bench --res 1080p")
