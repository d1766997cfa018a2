"""The semi-supervised study: results, figures and the report page."""
