"""Parts of the run report: reading the run folder, choosing what to show, and drawing each part of the page."""
