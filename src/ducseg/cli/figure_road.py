"""`ducseg figure road`: the paper's Figure 6, frames with the road in red."""

from dataclasses import dataclass

from ducseg.cli.options import Examples

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Examples):
    """Draw frames with the road in red, with a white edge that the colour-blind see too: Figure 6."""

    count: int = 6
    """So many pictures, spread evenly."""


def run(options: Options) -> int:
    """Print where it is."""
    import numpy as np

    from ducseg.figures.label_maps import as_rgb
    from ducseg.figures.road_overlay import road_in_red
    from ducseg.figures.sheet import draw_sheet
    from ducseg.inference.road import road_class

    networks = options.networks()
    classes = next(iter(networks.values())).classes
    road = road_class(classes)
    rows = []
    for example in options.examples(networks):
        image = as_rgb(example.image)
        edge = max(1, image.shape[1] // 400)
        rows.append([road_in_red(image, labels == road, edge=edge) for labels in example.labels.values()])
    if len(networks) == 1:  # two in a row, as the paper has them
        frames = [row[0] for row in rows]
        frames += [np.full_like(frames[0], 255)] * (len(frames) % 2)
        rows = [frames[start : start + 2] for start in range(0, len(frames), 2)]
    titles = list(networks) if len(networks) > 1 else []
    draw_sheet(options.out, rows, classes, titles=titles, width=options.inches)
    print(f"figure: {options.out}")
    return 0
