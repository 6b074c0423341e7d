"""The page of the service: files that a browser loads, and the routes that hand them out."""
