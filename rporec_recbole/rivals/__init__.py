"""Other people's models, from their papers, as RecBole models: what RPORec is measured against."""
