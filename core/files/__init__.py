"""Files of a run and of rows: written whole or not at all, checked, locked."""
