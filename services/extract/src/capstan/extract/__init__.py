"""One file of any supported format to a title and sections of plain text."""
