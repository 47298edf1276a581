"""The report: one offline HTML file that answers first and shows its evidence after.

    write_report(folder / "report.html", RunRecord(...))
"""

from ep_hw.report.page import write_report
from ep_hw.report.record import GalleryItem, RunRecord

__all__ = ["GalleryItem", "RunRecord", "write_report"]
