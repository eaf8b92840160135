"""`ducseg serve`: a network behind HTTP, with a page."""

from dataclasses import dataclass
from pathlib import Path

from ducseg.cli.options import RefinedNetwork
from ducseg.errors import package

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(RefinedNetwork):
    """Serve a trained network over HTTP: a page to use it in a browser, and POST /predict for programs.

    Only this machine reaches it unless --host says otherwise; it has no passwords. SIGTERM lets requests in hand end.
    """

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0: every one of this machine."""
    port: int = 8000
    """0: any free one."""
    queue: int = 32
    """Pictures in hand at once, arriving and waiting ones too; more are told to come back (503, Retry-After)."""
    batch_size: int = 4
    """Waiting pictures of one size go through the network together, up to so many."""
    max_bytes: int = 32_000_000
    """Of a picture's file."""
    max_pixels: int = 25_000_000
    """Of a picture, by its header."""
    tile: int | None = None
    """Label what is longer in windows of so many pixels (default: 1024 for what would not fit in memory)."""
    overlap: int | None = None
    """Of neighbouring windows, in pixels (default: a quarter of --tile)."""
    timeout: float = 60.0
    """Seconds for a picture to arrive, as many for its answer."""


def run(options: Options) -> int:
    """Print where it listens; returns after SIGTERM."""
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        package(module, what="ducseg serve", needed="a web server", install="'ducseg[serve]'")
    from ducseg.inference.tiles import Tiling
    from ducseg.serve.app import create_app
    from ducseg.serve.limits import Limits
    from ducseg.serve.running import bind, is_loopback, run_server

    limits = Limits(
        queue=options.queue,
        batch_size=options.batch_size,
        max_bytes=options.max_bytes,
        max_pixels=options.max_pixels,
        timeout=options.timeout,
    )
    tiling = Tiling.given(options.tile, options.overlap, dashes="--")
    name = " + ".join(_name(Path(one)) for one in options.checkpoints)
    with bind(options.host, options.port) as bound:  # a port in use is said before the network is read
        app = create_app(options.labeller(), name=name, limits=limits, tiling=tiling, about=_about(options))
        bound.listen()  # who comes while the server starts waits that long
        host, port = bound.getsockname()[:2]
        print(f"serving {name} at http://{f'[{host}]' if ':' in host else host}:{port}/ (Ctrl-C stops it)", flush=True)
        if not is_loopback(bound):
            print("whoever reaches this address can use it: there are no passwords", flush=True)
        run_server(app, bound, timeout=2 * limits.timeout)
    return 0


def _name(checkpoint: Path) -> str:
    """A run is known by its folder, whichever of its checkpoints is taken."""
    path = checkpoint.absolute()
    return path.parent.name if path.name in ("best", "last") else path.name


def _about(options: Options) -> dict[str, object]:
    return {
        "scales": list(options.scales),
        "flip": options.flip,
        "crf": options.crf is not None,
        "bf16": options.in_bf16(),
    }
