"""Parts of the run report: what is read, what is picked, and how each piece of the page is drawn."""
