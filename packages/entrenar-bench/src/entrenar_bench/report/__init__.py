"""The report of a study: one document from its records, as HTML, Markdown or LaTeX."""
