"""The report: one page with graph, formulas, code, evidence and costs, each linked to the others."""

from symgrad.report.page import Page, is_own_page, report, write_html

__all__ = ["Page", "is_own_page", "report", "write_html"]
