"""A study as one page: HTML with pictures, Markdown, or JSON."""
