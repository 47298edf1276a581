"""The report: one offline HTML file that answers first and shows its evidence after, and the files that go with it.

    write_report(folder, RunRecord(...))
"""

from ep_hw.report.files import write_report
from ep_hw.report.record import Exhibit, GalleryItem, RunRecord

__all__ = ["Exhibit", "GalleryItem", "RunRecord", "write_report"]
