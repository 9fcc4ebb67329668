"""Generated pages: what stands in their tables, and that `--check` sees what is stale."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from benchmarks.run.batch import WAYS
from benchmarks.run.page_tables import beaten, tflops_as_printed
from benchmarks.run.pages import FOLDER, MARKER, all_pages, load_all, main, texts
from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH, write_results
from edgecar.evaluate.tables import published

PROPOSED = {
    "method": "proposed", "streams": "both", "multi_scale": True, "fully_connected": [64, 32],
    "optimiser": "adam", "epochs": 1.0, "steps": 516, "seconds": 300, "params": 468_017,
    "target": "proxy", "set": "kodak", "references": 24, "pictures": 240, "srcc": 0.9512,
    "plcc": 0.9634, "pairs": 72, "same_verdict": 0.9722,
}  # fmt: skip
PSNR = PROPOSED | dict.fromkeys(
    ("streams", "multi_scale", "fully_connected", "optimiser", "epochs", "steps", "seconds")
) | {"method": "psnr", "params": None, "srcc": 0.91}  # fmt: skip
CANDIDATE = {
    "candidate": "xs", "width": 16, "depth": 6, "scale": 2, "activation": "leaky", "skips": False,
    "dilation": 1, "branches": False, "optimiser": "muon", "teacher": "", "steps": 6000,
    "seconds": 321, "params": 10452, "kmacs_per_px": 2.592, "gain_q10": 1.0, "gain_q20": 0.9,
    "gain_q30": 0.8, "gain_q40": 0.7, "p50_ms": None,
}  # fmt: skip
REALTIME = dict.fromkeys(ROW_KEYS["realtime"], 1.0) | {
    "network": "edgecar-s", "engine": "openvino", "provider": "CPU", "precision": "bf16",
    "threads": 2, "height": 432, "width": 768, "frames": 120, "crf": 35, "b_frames": 3, "gop": 60,
    "rounds": 3, "max_difference": 0, "clip": "gate", "preset": "medium",
}  # fmt: skip
PRECISION = dict.fromkeys(ROW_KEYS["precision"]) | {
    "network": "edgecar-s", "weights": "jpeg", "precision": "fp32", "outcome": "passed", "why": "",
    "engine": "openvino", "provider": "Library 1", "computed": "fp32", "method": "", "height": 48,
    "width": 64, "classic5_db": 29.5, "live1_db": 29.0, "bytes": 80_000, "fps": 10.0,
    "to_fp32": 1.0, "rounds": 9,
}  # fmt: skip
SERVICE = dict.fromkeys(ROW_KEYS["service"], 1) | {
    "case": "load", "network": "xs.onnx", "policy": "shed", "engine": "openvino",
    "precision": "int8", "levels": {"xs.onnx": 0.75, "pass": 0.25}, "frames_given": None,
    "threads_left": None, "read_fps": 99.5, "restored_fps": 74.6, "cpu_share": 0.831,
    "age_p95_ms": 61.6, "memory_tenths_mib": [401.2, 398.7],
}  # fmt: skip
LIVE = dict.fromkeys(ROW_KEYS["live"], 0) | {
    "network": "edgecar-s", "height": 480, "width": 640, "source_fps": 25.0, "seconds": 1800,
    "frames_read": 45000, "frames_dropped": 12, "memory_growth_mib": 1.84, "age_p95_ms": 122.6,
}  # fmt: skip
GPU = dict.fromkeys(ROW_KEYS["gpu"], 1.0) | {
    "gpu": "NVIDIA H200", "network": "edgecar-s", "provider": "TensorRT 10.3", "precision": "fp16",
    "height": 1080, "width": 1920, "fps": 700.0, "overhead_share": 0.05, "floor_ms": None,
    "max_code_difference": 1,
}  # fmt: skip
BATCH = dict.fromkeys(ROW_KEYS["batch"], 2) | {
    "way": list(WAYS)[2], "network": "edgecar-s", "frames": 1000, "seconds": 50.0, "fps": 20.0,
    "same_bytes": True,
}  # fmt: skip
CHECKED = {"check": "fuzz", "tries": 5400, "failures": 0, "seconds": 81.4, "detail": {"200": 5400}}


def cells_of(text: str, start: str) -> list[str]:
    """Cells of the one table row that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.strip("|").split("|")]


def page(name: str, *results) -> str:
    return texts([(f"file{number}", result) for number, result in enumerate(results)])[
        f"pages/{name}.md"
    ]


def test_nothing_measured_says_how_on_every_page() -> None:
    found = texts([])
    assert found["README.md"].startswith(MARKER)
    assert found["README.md"].count("Not measured.") == 8
    for each in all_pages():
        text = found[f"pages/{each['name']}.md"]
        how = [section["how"] for section in each["section"] if "how" in section]
        assert all(f"Nothing measured yet: `{command}`." in text for command in how)
    # The printed table is there, our columns empty.
    assert cells_of(found["pages/complexity.md"], "| dcsc |") == [
        *("dcsc", "32×32 luma", "–", "93,697", "–", "67.60", "–", "–", "–", "–")
    ]


def test_the_summary_has_eight_figures_on_one_screen() -> None:
    text = texts(load_all(FOLDER / "results"))["README.md"]
    assert len(text.splitlines()) <= 45
    figures = re.findall(r"^\| \*\*\w+\*\* \| (.*) \| \[.*\]\((pages/\w+\.md)\) \|$", text, re.M)
    assert len(figures) == 8
    for words, link in figures:
        assert re.search(r"\*\*.*\d.*\*\*", words)
        assert (FOLDER / link).exists()


@pytest.mark.parametrize("path", sorted(texts(load_all(FOLDER / "results"))))
def test_headings_are_unique_and_origins_folded(path: str) -> None:
    text = texts(load_all(FOLDER / "results"))[path]
    headings = re.findall(r"^#+ .*$", text, re.M)
    assert len(headings) == len(set(headings))
    assert "Nothing measured yet" not in text
    outside = re.sub(r"<details>.*?</details>", "", text, flags=re.S)
    assert "; commit " not in outside


def test_counted_figures_stand_beside_the_printed_ones(make_results, counted) -> None:
    row = counted(
        network="arcnn", channels=3, height=720, width=1280, params=117_734,
        published_memory_mb=1607.0897, published_tflops=3.255026688, gmacs=108.3949,
    )  # fmt: skip
    text = page("complexity", make_results(row, counted()))
    assert cells_of(text, "| arcnn | 1280×720 RGB |")[2:] == [
        *("117,734", "117,734", "1607.09", "1607.09", "3.25", "3.25", "108.395", "117.6")
    ]
    # 20.305 GMAC over 1920×1080
    assert cells_of(text, "| edgecar-s |")[2:] == [
        *("39,332", "–", "900.50", "–", "0.61", "–", "20.305", "9.8")
    ]
    assert tflops_as_printed(0.00327) == "0.0033"  # small networks keep their digits


def test_speeds_have_their_provenance(make_results, timed, counted) -> None:
    text = page("speed", make_results(timed(), counted(network="msfan")))
    assert cells_of(text, "| edgecar-s |") == [
        *("edgecar-s", "1920×1080 luma", "openvino", "CPU", "bf16"),
        *("56.04", "61.20", "17.8", "412", "900.50"),
    ]
    assert "msfan" not in text  # it was only counted
    for fact in (
        *("Some CPU, 2 cores, 16 GiB (avx2, avx512_bf16)", "numpy 2.4.6", "opencv 5.0.0"),
        *("0123456789ab-dirty", "2026-01-31", "`edgecar bench --suite small`", "(file0.png)"),
    ):
        assert fact in text


def test_quality_stands_beside_the_printed_values(make_results, jpeg) -> None:
    rows = [jpeg(), jpeg(network="edgecar-m", psnr_out=29.5), jpeg(quality=20, psnr_out=31.5)]
    text = page("jpeg", make_results(*rows, jpeg(set="Kodak"), kind="jpeg"))
    text, kodak = text.split("## Kodak")
    assert cells_of(text, "| 10 | edgecar-s |")[2:] == [
        *("29.33", "+1.51", "+0.20", "0.805", "29.10", "measured, file0")
    ]
    assert cells_of(text, "| 10 | msfan |")[2:7] == ["29.39", "+1.57", "–", "0.811", "–"]
    # At quality 10 the coded picture stands once for the two networks, and once as printed.
    coded = [line for line in text.splitlines() if line.startswith("| 10 | jpeg |")]
    assert len(coded) == 2
    assert "| 30 |" not in text  # printed, but with nothing of ours to compare
    order = re.findall(r"^\| 10 \| (\S+) \|", text, flags=re.MULTILINE)
    assert order == ["jpeg", "jpeg", "arcnn", "dcsc", "edgecar-s", "msfan", "dncnn", "edgecar-m"]
    assert "msfan" not in kodak  # a set that no paper prints has our rows only


@pytest.mark.parametrize(
    ("name", "kind", "row", "line"),
    [
        ("gpu", "gpu", GPU, "| TensorRT 10.3 | fp16 | 1920×1080 | 1.00 | 1.00 | 700.0 | 1.000 |"),
        ("gpu", "gpu", GPU, "| 1.000 | 5.0% | – | 1 | 1 |"),
        ("live", "live", LIVE, "| edgecar-s | 640×480 at 25 frames/s | 30 | 0 | 45,000 | 0 | 12 |"),
        ("live", "live", LIVE, "| 0 | 0 | 123 | 0.0 | 1.8 | 0 |"),
        ("service", "service", SERVICE, "| load | xs.onnx | openvino, int8 | shed | 1 |"),
        ("service", "service", SERVICE, "| 99.5 | 74.6 | xs.onnx 75%, pass 25% |"),
        ("service", "service", SERVICE, "| 62 | 83% | 1 | 1 | 401 399 |"),
        ("service", "service-checks", CHECKED, "| fuzz | 5,400 | 0 | 81 | 200: 5,400 |"),
        (
            "archives",
            "batch",
            BATCH,
            "| two worker processes | 2 × 2 | edgecar-s | 2 | 1,000 | 50.0 | 2.0 |",
        ),
        ("archives", "batch", BATCH, "| 20.0 | 2.00 | 2 | the same bytes |"),
        ("realtime", "realtime", REALTIME, "## edgecar-s in bf16 on CPU, 2 threads, file0"),
        ("scores", "iqa", PSNR, "| psnr | – | – | – | – | – | – | – | kodak |"),
    ],
)
def test_a_row_fills_the_columns(name, kind, row, line, make_results) -> None:
    assert line in page(name, make_results(row, kind=kind))


def test_the_quietest_clip_is_first(make_results) -> None:
    rows = [
        REALTIME | {"clip": "busy", "changed_tiles_share": 0.9},
        REALTIME
        | {"gop": 250, "changed_tiles_share": 0.5, "fps_spp3": None, "reuse_to_spp3": None},
        REALTIME | {"changed_tiles_share": 0.1, "computed_share": 0.123, "fps_reuse": 76.54},
    ]
    text = page("realtime", make_results(*rows, kind="realtime"))
    lines = [line for line in text.splitlines() if line.startswith(("| gate", "| busy"))]
    assert [line[2:6] for line in lines] == ["gate", "gate", "busy"]
    assert "| 1.0 | – | 1.0 | 1.0 | 1.00 | 1.00 | – |" in lines[0]
    assert "| medium, CRF 35, B 3, GOP 60 | 10% | 12% | 76.5 | 1.0 |" in lines[1]


def test_precisions_have_losses_and_speeds(make_results) -> None:
    rows = [
        PRECISION,
        PRECISION | {
            "precision": "int8", "computed": "int8", "method": "entropy", "layers": 6, "kept": 3,
            "loss_db": 0.0312, "worst_db": 0.12, "classic5_db": 29.47, "live1_db": 29.01,
            "bytes": 40_000, "fps": 16.0, "to_fp32": 1.61,
        },
        PRECISION | {"precision": "fp16", "outcome": "not run", "why": "in bf16 here"},
    ]  # fmt: skip
    text = page("precision", make_results(*rows, kind="precision"))
    assert "## Weights for JPEG, 64×48, Library 1, file0" in text
    assert "Weights for H.264" not in text
    assert cells_of(text, "| edgecar-s | int8 |")[3:] == [
        *("29.47", "0.030", "29.01", "-0.010", "entropy", "3 of 6", "0.031", "0.120"),
        *("40", "16.00", "1.61", "passed"),
    ]
    assert cells_of(text, "| edgecar-s | fp16 |")[-1] == "not run: in bf16 here"


def test_scores_stand_beside_the_printed_rows(make_results) -> None:
    rows = [PSNR, PROPOSED, PROPOSED | {"set": "live1", "srcc": 0.94}]
    text = page("scores", make_results(*rows, PROPOSED | {"method": "ships"}, kind="iqa"))
    assert (
        "| proposed | 0.951 / 0.963 | 0.940 / 0.963 | 0.984 / 0.984 | 0.960 / 0.952 "
        "| 0.928 / 0.937 | 0.906 / 0.922 |"
    ) in text
    assert "| ships | 0.951 / 0.963 | – | – | – | – | – |" in text
    assert "direct concat |" not in text  # nothing of ours to compare
    assert (
        "| proposed | both | yes | 64, 32 | 468,017 | adam | 1 | 516 | kodak | 24 | 240 "
        "| 0.951 | 0.963 | 97.2 % |"
    ) in text
    printed = published()["iqa"]
    assert all(len(row) == len(printed["sets"]) for row in printed["rows"].values())


@pytest.mark.parametrize(
    ("cost", "gain", "expected"),
    [
        (4, 1.0, True),  # as good at less
        (5, 1.1, True),  # better at as much
        (4, 1.1, True),
        (5, 1.0, False),  # its equal: both stay
        (4, 0.9, False),
        (6, 1.1, False),
    ],
)
def test_the_front_of_shapes(cost, gain, expected) -> None:
    one, other = ({"kmacs_per_px": c, "mean": g} for c, g in ((5, 1.0), (cost, gain)))
    assert beaten(one, [one, other]) == expected


def test_candidates_of_several_files_share_a_table(make_results) -> None:
    worse = CANDIDATE | {"candidate": "worse", "kmacs_per_px": 9.0, "gain_q10": 0.1}
    files = [make_results(row, kind="design") for row in (worse, CANDIDATE)]
    text = page("shapes", *files)
    assert text.count("| Candidate |") == 1
    assert text.index("| **xs** | 16 | 6 |") < text.index("| worse |")
    assert cells_of(text, "| **xs** |")[5:] == [
        *("–", "1", "–", "muon", "–", "6,000", "10,452", "2.59"),
        *("+1.00", "+0.90", "+0.80", "+0.70", "+0.85", "–"),
    ]


def test_weights_are_those_of_the_manifest() -> None:
    text = page("weights")
    names = re.findall(r"^\| (edgecar-s|msfan) \|", text.split("## H.264")[0], re.M)
    assert names == ["edgecar-s", "msfan"]  # the cheapest first
    assert " min | " in text


@pytest.mark.parametrize(
    ("kind", "row", "changes"),
    [
        *(("iqa", PROPOSED, {key: value}) for key, value in (
            ("srcc", 1.1), ("streams", "none"), ("same_verdict", 97.0), ("pictures", 4))),
        *(("realtime", REALTIME, {key: value}) for key, value in (
            ("max_difference", 1), ("fps_reuse", None), ("changed_tiles_share", 1.1))),
        ("service-checks", CHECKED, {"tries": "many"}),
    ],
)  # fmt: skip
def test_the_schema_refuses(kind, row, changes, tmp_path: Path, make_results) -> None:
    schema, path = json.loads(SCHEMA_PATH.read_text()), tmp_path / "rows.json"
    write_results(path, make_results(row, kind=kind))
    jsonschema.validate(json.loads(path.read_text()), schema)
    write_results(path, make_results(row | changes, kind=kind))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(path.read_text()), schema)


def test_pages_are_written_and_checked(tmp_path, make_results, timed, jpeg, capsys) -> None:
    arguments = ["--folder", str(tmp_path)]
    write_results(tmp_path / "results" / "laptop.json", make_results(timed()))
    assert main([*arguments, "--check"]) == 3
    assert "README.md does not fit the result files" in capsys.readouterr().err
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    assert (tmp_path / "pages" / "laptop.png").exists()
    write_results(tmp_path / "results" / "study.json", make_results(jpeg(), kind="jpeg"))
    assert main([*arguments, "--check"]) == 3
    assert main(arguments) == 0
    for spoil, name in (
        (lambda path: path.unlink(), "laptop.png"),
        (lambda path: path.write_text("x"), "old.md"),  # a page of nothing
        (lambda path: path.write_text("x"), "jpeg.md"),
    ):
        spoil(tmp_path / "pages" / name)
        assert main([*arguments, "--check"]) == 3
        assert f"{name} does not fit" in capsys.readouterr().err
        (tmp_path / "pages" / "old.md").unlink(missing_ok=True)
        assert main(arguments) == 0


def test_an_unfit_result_file_is_named_and_the_page_kept(tmp_path, capsys) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "odd.json").write_text("{}")
    (tmp_path / "README.md").write_text("old")
    assert main(["--folder", str(tmp_path)]) == 1
    assert "odd.json: schema None, need 1" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "old"
