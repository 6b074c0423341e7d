"""One's own tables, and the raw files of public data sets, as RecBole's atomic files."""
