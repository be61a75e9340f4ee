"""Bars of a result file: one panel per level, time relative to nothing, lower is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(results: dict[str, Any], out: Path) -> None:
    """Writes engine.png, ray.png, npu.png and npu_ray.png into ``out``, for the levels that were measured."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    titles = {"engine": "READ between two processes", "ray": "Handoff from Ray actor to Ray actor"}
    fake = " over the FAKE CANN" if results.get("npu_extra", {}).get("fake") else ""
    titles["npu_ray"] = f"Handoff of npu tensors from Ray actor to Ray actor{fake}"
    titles["npu"] = f"Fetch of npu tensors between two processes{fake}"
    for level, title in titles.items():
        rows = results.get(level)
        if not rows:
            continue
        shapes = list(dict.fromkeys(row["shape"] for row in rows))
        contestants = list(dict.fromkeys(row["contestant"] for row in rows))
        medians = {(row["shape"], row["contestant"]): row["median_s"] * 1e3 for row in rows}
        figure, axes = plt.subplots(figsize=(1.6 * len(shapes) + 3, 5))
        width = 0.8 / len(contestants)
        for number, contestant in enumerate(contestants):
            drawn = [(index, medians[shape, contestant]) for index, shape in enumerate(shapes) if (shape, contestant) in medians]
            axes.bar([index + (number + 0.5) * width - 0.4 for index, _ in drawn], [ms for _, ms in drawn], width, label=contestant)
        axes.set_yscale("log")
        axes.set_xticks(range(len(shapes)), shapes, rotation=20, ha="right")
        axes.set_ylabel("median, ms (log scale; lower is better)")
        axes.set_title(f"{title}\n{results['machine']['cpu']}, {results['machine']['cores']} cores")
        axes.legend(fontsize="small", ncols=2)
        axes.grid(axis="y", alpha=0.3)
        figure.tight_layout()
        figure.savefig(out / f"{level}.png", dpi=120)
        plt.close(figure)
