"""Report: tables, figures and a page, from a plan and its records."""
