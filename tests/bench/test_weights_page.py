from edgecar.bench.weights_page import jpeg_weights_cells, video_weights_cells


def entry(network: str, codec: str, kmacs: float, **metadata: object) -> dict[str, object]:
    cost = {"params": 1234, "kmacs_per_px": kmacs, "halo_px": 12}
    training = {"steps": 5000, "seconds": 630}
    return {"network": network, "for": codec, "config": {}, "cost": cost} | {
        "training": training, "psnr": {}, "gain_db": {}, "measured": {"every": 5}, **metadata
    }  # fmt: skip


def test_networks_stand_side_by_side_and_gaps_are_shown() -> None:
    dear = entry("msfan", "jpeg", 754.8, psnr={"classic5 q10": 29.114, "live1 q10": 28.975})
    cheap = entry("edgecar-s", "jpeg", 9.8, psnr={"classic5 q10": 29.14})
    other = entry("edgecar-s", "h264", 9.8, gain_db={"crf 29": 0.24})
    header, rows = jpeg_weights_cells([dear, cheap, other])
    assert header[4:] == ("classic5 q10", "live1 q10")
    assert rows == [
        ["edgecar-s", "1,234", "9.8", "5,000 steps, 10 min", "29.14", "–"],
        ["msfan", "1,234", "754.8", "5,000 steps, 10 min", "29.11", "28.98"],
    ]


def test_video_weights_show_their_mean_and_their_worst_clip() -> None:
    gains = {"qp 22": -0.1, "qp 27": 0.3, "worst": -0.4}
    narrow = entry("glfusion", "hevc", 66.0, gain_db=gains, config={"width": 12, "reduction": 4})
    header, rows = video_weights_cells([narrow], "hevc")
    assert header[4:] == ("qp 22", "qp 27", "mean", "lowest", "frames")
    assert rows[0][0] == "glfusion (width 12, reduction 4)"
    assert rows[0][4:] == ["-0.10", "+0.30", "+0.10", "-0.40", "1 in 5"]
    assert video_weights_cells([narrow], "h264")[1] == []
