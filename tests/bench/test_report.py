import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from edgecar.bench.page import MARKER, NO_GPU, NOTHING_MEASURED, on_gpu, readme
from edgecar.bench.report import main, terminal_table
from edgecar.bench.results import write_results

ROOT = Path(__file__).parents[2]


def cells_of(text: str, start: str) -> list[str]:
    """Cells of the one table row that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.strip("|").split("|")]


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_a_page_of_nothing_measured() -> None:
    text = readme([])
    assert text.startswith(MARKER)
    assert NOTHING_MEASURED in section(text, "Speed")
    assert NO_GPU in text
    # The printed table is there, our columns empty.
    assert cells_of(text, "| dcsc |") == [
        *("dcsc", "32×32 luma", "–", "93,697", "–", "67.60", "–", "–", "–", "–")
    ]


def test_counted_figures_stand_beside_the_printed_ones(make_results, counted) -> None:
    row = counted(
        network="arcnn",
        channels=3,
        height=720,
        width=1280,
        params=117_734,
        published_memory_mb=1607.0897,
        published_tflops=3.255026688,
        gmacs=108.3949,
    )
    text = readme([("cost", make_results(row, counted()))])
    assert cells_of(text, "| arcnn | 1280×720 RGB |")[2:] == [
        *("117,734", "117,734", "1607.09", "1607.09", "3.25", "3.25", "108.395", "117.6")
    ]
    # 20.305 GMAC over 1920×1080
    assert cells_of(text, "| edgecar-s |")[2:] == [
        *("39,332", "–", "900.50", "–", "0.61", "–", "20.305", "9.8")
    ]
    assert NOTHING_MEASURED in text  # counting is not measuring


def test_small_networks_keep_their_digits(make_results, counted) -> None:
    text = readme([("cost", make_results(counted(published_tflops=0.00327)))])
    assert cells_of(text, "| edgecar-s |")[6] == "0.0033"


def test_speeds_have_their_provenance(make_results, timed, counted) -> None:
    text = readme([("laptop", make_results(timed(), counted(network="msfan")))])
    speed = section(text, "Speed")
    assert cells_of(speed, "| edgecar-s |") == [
        *("edgecar-s", "1920×1080 luma", "openvino", "CPU", "bf16"),
        *("56.04", "61.20", "17.8", "412", "900.50"),
    ]
    assert "msfan" not in speed  # it was only counted
    for fact in (
        *("Some CPU, 2 cores, 16 GiB (avx2, avx512_bf16)", "numpy 2.4.6", "opencv 5.0.0"),
        *("0123456789ab-dirty", "2026-01-31", "`edgecar bench --suite small`", "(laptop.png)"),
    ):
        assert fact in speed


@pytest.mark.parametrize(
    ("engine", "provider", "gpu"),
    [
        ("openvino", "OpenVINO 2026.4.1 CPU", False),
        ("onnxruntime", "ONNX Runtime 1.31.1 CPU", False),
        ("torch", "torch 2.13.0+cu130", False),
        ("onnxruntime:cuda", "ONNX Runtime 1.31.1 CUDA", True),
        ("onnxruntime:tensorrt", "ONNX Runtime 1.31.1 Tensorrt", True),
        ("openvino", "OpenVINO 2026.4.1 GPU", True),
        ("tensorrt", "TensorRT 10.9", True),
    ],
)
def test_gpu_results_end_the_excuse(engine, provider, gpu, make_results, timed) -> None:
    row = timed(engine=engine, provider=provider)
    assert on_gpu(row) == gpu
    # A GPU in the machine is not a measurement on it.
    text = readme([("box", make_results(row, gpus=["NVIDIA H200 (1 MiB, driver 2)"]))])
    assert (NO_GPU in text) == (not gpu)


def test_quality_stands_beside_the_printed_values(make_results, jpeg) -> None:
    rows = [jpeg(), jpeg(network="edgecar-m", psnr_out=29.5), jpeg(quality=20, psnr_out=31.5)]
    text = section(readme([("study", make_results(*rows, kind="jpeg"))]), "JPEG quality")
    assert cells_of(text, "| 10 | edgecar-s |")[2:] == [
        *("29.33", "+1.51", "0.805", "29.10", "measured, study")
    ]
    assert cells_of(text, "| 10 | msfan |")[2:6] == ["29.39", "+1.57", "0.811", "–"]
    # At quality 10 the coded picture stands once for the two networks, and once as printed.
    coded = [line for line in text.splitlines() if line.startswith("| 10 | jpeg |")]
    assert len(coded) == 2
    assert "| 30 |" not in text  # printed, but with nothing of ours to compare
    order = re.findall(r"^\| 10 \| (\S+) \|", text, flags=re.MULTILINE)
    assert order == ["jpeg", "jpeg", "arcnn", "dcsc", "edgecar-s", "msfan", "dncnn", "edgecar-m"]
    assert "`edgecar bench --suite small`" in text


def test_a_set_that_no_paper_prints_has_our_rows_only(make_results, jpeg) -> None:
    text = readme([("study", make_results(jpeg(set="Kodak"), kind="jpeg"))])
    assert "### Kodak" in text
    assert "msfan" not in section(text, "JPEG quality")


def test_video_gains_have_their_provenance(make_results, video) -> None:
    rows = [
        video(),
        video(quantiser=41, psnr_in=29.0, psnr_out=28.9),
        video(codec="hevc", quantiser=32, psnr_out=32.1),
    ]
    text = section(readme([("study", make_results(*rows, kind="video"))]), "Video quality")
    h264, hevc = text.split("### HEVC, study")
    assert "### H.264, study" in h264
    assert cells_of(h264, "| h264 |")[1:4] == ["32.00", "29.00", "30.50"]
    assert cells_of(h264, "| edgecar-s |")[1:] == [
        *("+0.50", "-0.10", "+0.20", "+0.0100", "-0.10", "street, CRF 41", "1 of 2 inputs")
    ]
    assert cells_of(hevc, "| edgecar-s |")[1] == "+0.10"
    for part in (h264, hevc):
        assert "`edgecar bench --suite small`" in part


def test_a_page_without_video_says_how() -> None:
    assert "`edgecar eval h264 --help`" in section(readme([]), "Video quality")


def test_page_is_written_and_checked(tmp_path, make_results, timed, jpeg, capsys) -> None:
    arguments = ["--folder", str(tmp_path)]
    write_results(tmp_path / "results" / "laptop.json", make_results(timed()))
    assert main([*arguments, "--check"]) == 3
    assert "README.md does not fit the result files; run: make tables" in capsys.readouterr().err
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("README.md", "laptop.png", "results")
    ]
    write_results(tmp_path / "results" / "study.json", make_results(jpeg(), kind="jpeg"))
    assert main([*arguments, "--check"]) == 3
    assert main(arguments) == 0
    (tmp_path / "laptop.png").unlink()
    assert main([*arguments, "--check"]) == 3
    assert "laptop.png does not fit" in capsys.readouterr().err


def test_an_unfit_result_file_is_named_and_the_page_kept(tmp_path, capsys) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "odd.json").write_text("{}")
    (tmp_path / "README.md").write_text("old")
    assert main(["--folder", str(tmp_path)]) == 1
    assert "odd.json: schema None, need 1" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "old"


@pytest.mark.slow  # three processes; `make check` runs one
def test_it_runs_as_a_module(tmp_path) -> None:
    (tmp_path / "results").mkdir()
    command = [sys.executable, "-m", "edgecar.bench.report", "--folder", str(tmp_path)]
    assert subprocess.run([*command, "--check"], cwd=ROOT, capture_output=True).returncode == 3
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    assert subprocess.run([*command, "--check"], cwd=ROOT, capture_output=True).returncode == 0


def test_terminal_table(timed, counted) -> None:
    console = Console(width=250)
    with console.capture() as captured:
        console.print(terminal_table([timed(), counted(network="msfan"), timed(params=None)]))
    lines = captured.get().splitlines()
    (ours, unknown) = [line for line in lines if "edgecar-s" in line]
    for figure in ("39,332", "900.50", "0.6117", "20.305", "56.04", "61.20", "17.8", "412"):
        assert figure in ours
    assert "39,332" not in unknown
    (theirs,) = [line for line in lines if "msfan" in line]
    assert theirs.count("–") == 6  # engine, precision, two times, speed, peak
