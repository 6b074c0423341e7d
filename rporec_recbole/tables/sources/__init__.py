SOURCES: dict = {}
