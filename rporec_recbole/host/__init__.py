"""The border with RecBole: how it finds RPORec, what is repaired in it, how its data and models come in."""
