"""What a measurement leaves behind: NAME.csv, NAME.json, NAME.png and NAME.svg, each whole or not at all."""

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from pyarrow.csv import WriteOptions, write_csv

from ep_hw.report.figures.lettering import literal, settled
from mapping.files import write_atomically

DPI = 200                 # of pictures, pixels an inch
MOST_PIXELS = 4_000_000   # of a picture, which is drawn in four bytes a pixel
_SVG_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def write_measurement(out: Path, name: str, settings: dict, rows: list[dict], figure: Figure) -> list[Path]:
    """Write a measurement; the same measurement gives the same bytes.

    Args:
        out: an existing folder.
        name: of the files.
        settings: what was asked, for the JSON file.
        rows: one dict a row, all with the same keys; the CSV file leaves out those that hold lists or dicts.
        figure: of the rows.

    Returns:
        The files written.

    Raises:
        Refusal: a file cannot be written.
    """
    return [*write_rows(out, name, settings, rows), *write_figure(out, name, figure)]


def write_rows(out: Path, name: str, settings: dict, rows: list[dict]) -> list[Path]:
    """Write NAME.csv and NAME.json; see `write_measurement`."""
    return _write(out, name, {"csv": csv_of(rows),
                              "json": json.dumps({**settings, "rows": rows}, indent=1).encode() + b"\n"})


def write_figure(out: Path, name: str, figure: Figure) -> list[Path]:
    """Write NAME.png, of at most `MOST_PIXELS`, and NAME.svg; the same figure gives the same bytes."""
    fitting = math.sqrt(MOST_PIXELS / math.prod(figure.get_size_inches()))
    return _write(out, name, {"png": _picture(figure, "png", dpi=min(DPI, fitting), metadata={"Software": None}),
                              "svg": _picture(figure, "svg", metadata=_SVG_METADATA)})


def _write(out: Path, name: str, blobs: dict[str, bytes]) -> list[Path]:
    paths = [Path(out) / f"{name}.{kind}" for kind in blobs]
    for path, blob in zip(paths, blobs.values()):
        write_atomically(path, blob)
    return paths


def csv_of(rows: list[dict]) -> bytes:
    """Rows as CSV, a column a key of the first; those that hold lists or dicts are left out."""
    columns = [key for key, value in rows[0].items() if not isinstance(value, (list, dict))]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _picture(figure: Figure, kind: str, **settings) -> bytes:
    blob = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "ep-hw"}):
        settled(literal(figure)).savefig(blob, format=kind, **settings)
    return blob.getvalue()


def devices_csv(devices: Mapping[tuple[str, str], np.ndarray]) -> bytes:
    """Devices by layer and array as CSV, a line a device; of chips with millions, which `csv_of` takes minutes for."""
    buffer = io.BytesIO()
    for n, ((layer, array), records) in enumerate(devices.items()):
        flat = records.ravel()
        columns = {"layer": pa.repeat(layer, len(flat)), "array": pa.repeat(array, len(flat)),
                   **{name: pa.array(flat[name]) for name in flat.dtype.names or ()}}
        write_csv(pa.table(columns), buffer, WriteOptions(include_header=n == 0))
    return buffer.getvalue()


def devices_npz(devices: Mapping[tuple[str, str], np.ndarray]) -> bytes:
    """The arrays LAYER.ARRAY of devices, records in the shape of its conductances."""
    buffer = io.BytesIO()
    np.savez(buffer, **{f"{layer}.{array}": records for (layer, array), records in devices.items()})  # type: ignore[arg-type]  # any name
    return buffer.getvalue()
