"""The recommendation head, its losses, and the RecBole model that joins it with the backbone."""
